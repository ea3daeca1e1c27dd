"""Aggregates events into buckets, in bounded steps, while the service continues to store.

Invariant after every step: **the buckets of a metric hold exactly the events that are not in the tail and whose ids
are not between its cursor and the largest id at the time its build began.** A fold takes rows out of the tail and adds
those of their events that are outside that range. A build advances the cursor and adds the events it passes that are
not in the tail; it ends, however many calls come in. So it does not matter in which order commits become visible, who
wrote them, or which metrics were defined when they were written.

A step computes from one snapshot and commits only if no other step was committed since, in one transaction: a process
that is killed in the middle has changed nothing.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from app.metrics.bucket_parts import find_group, to_event, to_keys, to_part, to_values
from app.metrics.catalog import read_live_metrics
from app.metrics.definition import Metric
from app.metrics.parts import Part, is_addable
from app.metrics.query import MetricEvent
from app.metrics.rebuild import BuiltMetric, list_unfolded, rebuild_parts
from app.metrics.sql_buckets import (
    BUILT,
    RETIRED,
    UNFIT,
    Folds,
    Key,
    Overtaken,
    UsageMetric,
    Values,
    advance_version,
    delete_some_buckets,
    get_buckets,
    get_folds,
    list_usage_metrics,
    put_buckets,
    put_usage_metrics,
)
from app.metrics.sql_tail import (
    FoldEvent,
    TailRow,
    count_events,
    delete_tail,
    list_events_after,
    list_named_events,
    list_tail,
)
from app.store.engine import Connection, Database, DuplicateKey
from app.store.ids import micros_of

EVENTS_PER_STEP = 20_000
"""Events of one fold. Large, so that many events of a customer become one update of a bucket."""

BUILD_EVENTS = 1000
"""Events of history in one step of a service: a build is not urgent."""

PATIENCE_MICROS = 3_000_000
"""How long a service lets commits gather, unless there are enough for a step."""

_TAIL_ROWS = 2000
_DELETED_PER_STEP = 1000
_EVENTS_PER_CHECKPOINT = 25
"""Events between two calls of `checkpoint`."""

_KEYS_AT_ONCE = 200

HELD_MICROS = 2_000_000
"""How long the process that took the last step prevents others from taking one."""


@dataclass(slots=True)
class _FoldStep:
    """What one step writes."""

    folds: Folds
    parts: dict[Key, Part] = field(default_factory=dict)
    metrics: dict[int, UsageMetric] = field(default_factory=dict)
    """Metrics whose row changes, by id."""
    folded: list[int] = field(default_factory=list)
    """Ids of the tail rows to delete."""
    cleared: int | None = None
    """Id of a metric that is not live any more: some of its buckets are deleted."""


class BucketBuilder:
    """Folds and builds the buckets of one database, step by step. Several processes may run one; they take turns."""

    def __init__(
        self, database: Database, holder: int, clock: Callable[[], int], checkpoint: Callable[[], None] = lambda: None
    ) -> None:
        """`holder` identifies this process. `checkpoint` is called often while a step is computed."""
        self._database = database
        self._holder = holder
        self._clock = clock
        self._checkpoint = checkpoint
        self._folds: Folds | None = None
        """The last state that another process wrote; `_folds_since` is when it was first seen."""
        self._folds_since = 0.0

    def is_free(self) -> bool:
        """Tell whether this process may take steps, because no other one holds them. Raises Unavailable."""
        with self._database.reading() as conn:
            folds = get_folds(conn)
        if folds.holder == self._holder or folds.held_until < self._clock():
            return True
        # The holder's clock may be ahead of ours: after this long without a step its claim has expired in any case.
        now = time.monotonic()
        if folds != self._folds:
            self._folds, self._folds_since = folds, now
        return (now - self._folds_since) * 1_000_000 > HELD_MICROS

    def step(
        self, events: int = EVENTS_PER_STEP, *, build_events: int | None = None, patience: int | None = None
    ) -> bool:
        """Do one bounded piece of work; return whether there was any.

        It folds up to `events` events of the tail, or builds from up to `build_events` of history. `patience`: leave
        a tail that is small and younger than this, in microseconds, for a later step.

        Raises:
            Unavailable: the database cannot be reached; nothing was changed.

        """
        with self._database.reading() as conn:
            step = self._prepare(conn, events, build_events or events, patience)
        if step is None:
            return False
        try:
            # Not durable: what a power cut loses is folded again, since the rows of the tail come back with it.
            with self._database.writing(durable=False) as conn:
                advance_version(conn, step.folds, self._holder, self._clock() + HELD_MICROS)
                delete_tail(conn, step.folded)
                put_buckets(conn, ((key, to_values(part)) for key, part in step.parts.items()))
                put_usage_metrics(conn, list(step.metrics.values()))
                if step.cleared is not None:
                    delete_some_buckets(conn, step.cleared, _DELETED_PER_STEP)
        except (Overtaken, DuplicateKey):
            # Another process made progress instead.
            pass
        return True

    def _prepare(self, conn: Connection, events: int, build_events: int, patience: int | None) -> _FoldStep | None:
        step = _FoldStep(get_folds(conn))
        live = {metric.meaning: metric for metric in read_live_metrics(conn).values() if is_addable(metric)}
        rows = list_usage_metrics(conn)
        if self._register(conn, step, live, rows):
            return step
        retired = next((row for row in rows if row.cursor == RETIRED), None)
        if retired is not None:
            step.cleared = retired.id
            return step
        built = [BuiltMetric(row, live[row.meaning]) for row in rows if row.cursor != UNFIT]
        building = [entry for entry in built if entry.row.cursor != BUILT]
        tail = _first_rows(list_tail(conn, _TAIL_ROWS), events)
        if patience and tail and not self._is_due(tail, events, patience):
            tail = []
        if tail and (not building or step.folds.done % 2):
            self._fold(conn, step, built, tail)
            return step
        if building:
            self._build(conn, step, building, build_events)
            return step
        return None

    def _is_due(self, tail: list[TailRow], events: int, patience: int) -> bool:
        # While a bucket holds a voided event, answers are made of raw events.
        voided = any(row.voids for row in tail)
        enough = len(tail) == _TAIL_ROWS or sum(len(row.events) for row in tail) * 2 > events
        return voided or enough or micros_of(tail[0].id) < self._clock() - patience

    def _register(self, conn: Connection, step: _FoldStep, live: dict[bytes, Metric], rows: list[UsageMetric]) -> bool:
        """Add the metrics that are new and retire those that are not live any more; return whether there were any."""
        have = {row.meaning for row in rows}
        new = [metric for meaning, metric in live.items() if meaning not in have]
        gone = [row for row in rows if row.meaning not in live and row.cursor != RETIRED]
        if not (new or gone):
            return False
        total, until = count_events(conn) if new else (0, 0)
        first = max((row.id for row in rows), default=0) + 1
        for at, metric in enumerate(new, start=first):
            step.metrics[at] = UsageMetric(
                id=at,
                meaning=metric.meaning,
                event_name=metric.event_name,
                cursor=0,
                until_id=until,
                done=0,
                total=total,
            )
        for row in gone:
            step.metrics[row.id] = msgspec.structs.replace(row, cursor=RETIRED)
        return True

    def _fold(self, conn: Connection, step: _FoldStep, built: list[BuiltMetric], tail: list[TailRow]) -> None:
        step.folded = [row.id for row in tail]
        if any(row.voids for row in tail):
            voided = (event_id for row in tail for event_id in row.voids)
            step.parts = rebuild_parts(conn, built, voided, self._checkpoint)
        names = {entry.metric.event_name for entry in built}
        self._add(
            conn, step, built, list_named_events(conn, (event_id for row in tail for event_id in row.events), names)
        )

    def _build(self, conn: Connection, step: _FoldStep, building: list[BuiltMetric], events: int) -> None:
        """Advance the metrics with the lowest cursor; those at the same position advance together."""
        first = min(building, key=lambda entry: (entry.row.cursor, entry.row.until_id)).row
        cursor, until = first.cursor, first.until_id
        group = [entry for entry in building if (entry.row.cursor, entry.row.until_id) == (cursor, until)]
        names = {entry.metric.event_name for entry in group}
        fold_events, passed_count, last = list_events_after(conn, cursor, until, events, names)
        unfolded = list_unfolded(conn)
        new = [event for event in fold_events if event.id not in unfolded]
        step.metrics = {
            entry.row.id: msgspec.structs.replace(
                entry.row, cursor=BUILT if last is None else last, done=entry.row.done + passed_count
            )
            for entry in group
        }
        self._add(
            conn,
            step,
            [BuiltMetric(msgspec.structs.replace(entry.row, cursor=BUILT), entry.metric) for entry in group],
            new,
        )

    def _add(self, conn: Connection, step: _FoldStep, built: list[BuiltMetric], new: Iterable[FoldEvent]) -> None:
        """Add events to the buckets of all metrics that hold them."""
        by_name: dict[str, list[BuiltMetric]] = {}
        for entry in built:
            by_name.setdefault(entry.metric.event_name, []).append(entry)
        added: dict[Key, tuple[Metric, Part]] = {}
        for at, stored in enumerate(new):
            if at % _EVENTS_PER_CHECKPOINT == 0:
                self._checkpoint()
            holders = [entry for entry in by_name.get(stored.event_name, ()) if entry.row.holds(stored.id)]
            if holders:
                event = to_event(stored)
                for entry in holders:
                    self._take(step, entry, event, stored.call_id, added)
        self._merge(conn, step, added)

    def _take(
        self,
        step: _FoldStep,
        entry: BuiltMetric,
        event: MetricEvent,
        call_id: int,
        added: dict[Key, tuple[Metric, Part]],
    ) -> None:
        if not entry.metric.passes(event.properties):
            return
        group = find_group(entry.metric, event)
        if group is None:
            row = step.metrics.get(entry.row.id, entry.row)
            step.metrics[row.id] = msgspec.structs.replace(row, cursor=UNFIT)
            return
        for key in to_keys(entry.row.id, event, group):
            if key not in added:
                added[key] = entry.metric, Part()
            added[key][1].take(entry.metric, event, call_id)

    def _merge(self, conn: Connection, step: _FoldStep, added: dict[Key, tuple[Metric, Part]]) -> None:
        """Merge the added parts into the stored buckets."""
        stored: dict[Key, Values] = {}
        keys = sorted(key for key in added if key not in step.parts)
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            stored |= get_buckets(conn, keys[start : start + _KEYS_AT_ONCE])
            self._checkpoint()
        for key, (metric, part) in added.items():
            if key not in step.parts:
                step.parts[key] = to_part(stored[key]) if key in stored else Part()
            step.parts[key].merge(metric, part)


def _first_rows(tail: list[TailRow], events: int) -> list[TailRow]:
    """Return the first rows with at most `events` events in total, but at least one row."""
    rows: list[TailRow] = []
    count = 0
    for row in tail:
        count += len(row.events) + len(row.voids)
        if rows and count > events:
            break
        rows.append(row)
    return rows
