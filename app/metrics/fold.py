"""Adds events up in buckets, in bounded steps, beside a service that goes on storing.

One rule holds after every step: **the buckets of a metric hold exactly the events that do not stand in the tail and
whose ids do not lie between its cursor and the largest id there was when it began.** A fold takes rows out of the tail,
and adds those of their events that do not lie between. A build moves the cursor on, and adds the events it passes that
do not stand in the tail; however many calls come in, it ends. So it does not matter in which order commits become
visible, who wrote them, or what was defined when they were written.

A step computes from one snapshot, and writes only if no other step was written since. What it replaces is whole
either way, so whoever is killed in the middle has done nothing.
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
from app.metrics.rebuild import BuiltMetric, list_unfolded, renew
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
    list_after,
    list_named,
    list_tail,
)
from app.store.engine import Connection, Database, DuplicateKey
from app.store.ids import micros_of

EVENTS_PER_STEP = 20_000
"""Events of one fold. Many together, since a customer's are then one change of a bucket."""

BUILD_EVENTS = 1000
"""Events of history in one step: a build is in no hurry."""

PATIENCE_MICROS = 3_000_000
"""So long a service lets commits gather, unless there are enough for a step."""

_TAIL_ROWS = 2000
_DELETED_PER_STEP = 1000
_BREATH = 25
"""Events between two looks at what else there is to do."""

_KEYS_AT_ONCE = 200

HELD_MICROS = 2_000_000
"""So long others leave the steps to whoever took the last one."""


@dataclass(slots=True)
class _Step:
    """What one step writes."""

    seen: Folds
    parts: dict[Key, Part] = field(default_factory=dict)
    metrics: dict[int, UsageMetric] = field(default_factory=dict)
    """Those that came on."""
    folded: list[int] = field(default_factory=list)
    """Rows of the tail."""
    cleared: int | None = None
    """A metric that is not live any more."""


class BucketBuilder:
    """Takes steps on one database. More than one may; they take turns."""

    def __init__(
        self, database: Database, holder: int, clock: Callable[[], int], breathe: Callable[[], None] = lambda: None
    ) -> None:
        """`holder` tells this process from others. `breathe` is called often while a step is computed."""
        self._database = database
        self._holder = holder
        self._clock = clock
        self._breathe = breathe
        self._folds: Folds | None = None
        """As another process left them, and since when they are so."""
        self._folds_since = 0.0

    def is_free(self) -> bool:
        """Tell whether no other process takes the steps. Raises Unavailable."""
        with self._database.reading() as conn:
            folds = get_folds(conn)
        if folds.holder == self._holder or folds.held_until < self._clock():
            return True
        # The holder's clock may be ahead of ours: whoever takes no step for so long holds nothing, whatever it wrote.
        now = time.monotonic()
        if folds != self._folds:
            self._folds, self._folds_since = folds, now
        return (now - self._folds_since) * 1_000_000 > HELD_MICROS

    def step(
        self, events: int = EVENTS_PER_STEP, *, build_events: int | None = None, patience: int | None = None
    ) -> bool:
        """Do a bounded part of what there is to do; return whether there was something.

        `events` of the tail, or `build_events` of history. `patience`: leave fewer events, and younger than so many
        microseconds, for a later step.

        Raises:
            Unavailable: the database cannot be reached; nothing was done.

        """
        with self._database.reading() as conn:
            step = self._prepare(conn, events, build_events or events, patience)
        if step is None:
            return False
        try:
            # Not durable: what a power cut takes away is added up again from the tail, which comes back with it.
            with self._database.writing(durable=False) as conn:
                advance_version(conn, step.seen, self._holder, self._clock() + HELD_MICROS)
                delete_tail(conn, step.folded)
                put_buckets(conn, ((key, to_values(part)) for key, part in step.parts.items()))
                put_usage_metrics(conn, list(step.metrics.values()))
                if step.cleared is not None:
                    delete_some_buckets(conn, step.cleared, _DELETED_PER_STEP)
        except (Overtaken, DuplicateKey):
            # The other one came on.
            pass
        return True

    def _prepare(self, conn: Connection, events: int, build_events: int, patience: int | None) -> _Step | None:
        step = _Step(get_folds(conn))
        live = {one.meaning: one for one in read_live_metrics(conn).values() if is_addable(one)}
        rows = list_usage_metrics(conn)
        if self._register(conn, step, live, rows):
            return step
        retired = next((row for row in rows if row.cursor == RETIRED), None)
        if retired is not None:
            step.cleared = retired.id
            return step
        known = [BuiltMetric(row, live[row.meaning]) for row in rows if row.cursor != UNFIT]
        building = [one for one in known if one.row.cursor != BUILT]
        some = _some(list_tail(conn, _TAIL_ROWS), events)
        if patience and some and not self._is_due(some, events, patience):
            some = []
        if some and (not building or step.seen.done % 2):
            self._fold(conn, step, known, some)
            return step
        if building:
            self._build(conn, step, building, build_events)
            return step
        return None

    def _is_due(self, some: list[TailRow], events: int, patience: int) -> bool:
        # While an event that is void now stands in a bucket, answers are made of raw events.
        voided = any(row.voids for row in some)
        enough = len(some) == _TAIL_ROWS or sum(len(row.events) for row in some) * 2 > events
        return voided or enough or micros_of(some[0].id) < self._clock() - patience

    def _register(self, conn: Connection, step: _Step, live: dict[bytes, Metric], rows: list[UsageMetric]) -> bool:
        """Take up what is new, and let go what is not live any more."""
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

    def _fold(self, conn: Connection, step: _Step, known: list[BuiltMetric], some: list[TailRow]) -> None:
        step.folded = [row.id for row in some]
        if any(row.voids for row in some):
            voided = (one for row in some for one in row.voids)
            step.parts = renew(conn, known, voided, self._breathe)
        names = {one.metric.event_name for one in known}
        self._add(conn, step, known, list_named(conn, (one for row in some for one in row.events), names))

    def _build(self, conn: Connection, step: _Step, building: list[BuiltMetric], events: int) -> None:
        """Go on with the metrics that came the least far; those that stand at one place go together."""
        first = min(building, key=lambda one: (one.row.cursor, one.row.until_id)).row
        cursor, until = first.cursor, first.until_id
        together = [one for one in building if (one.row.cursor, one.row.until_id) == (cursor, until)]
        names = {one.metric.event_name for one in together}
        found, looked, last = list_after(conn, cursor, until, events, names)
        unfolded = list_unfolded(conn)
        new = [one for one in found if one.id not in unfolded]
        step.metrics = {
            one.row.id: msgspec.structs.replace(
                one.row, cursor=BUILT if last is None else last, done=one.row.done + looked
            )
            for one in together
        }
        self._add(
            conn,
            step,
            [BuiltMetric(msgspec.structs.replace(one.row, cursor=BUILT), one.metric) for one in together],
            new,
        )

    def _add(self, conn: Connection, step: _Step, known: list[BuiltMetric], new: Iterable[FoldEvent]) -> None:
        """Add events to the buckets of all metrics that hold them."""
        by_name: dict[str, list[BuiltMetric]] = {}
        for one in known:
            by_name.setdefault(one.metric.event_name, []).append(one)
        added: dict[Key, tuple[Metric, Part]] = {}
        for at, stored in enumerate(new):
            if at % _BREATH == 0:
                self._breathe()
            wanted = [one for one in by_name.get(stored.event_name, ()) if one.row.holds(stored.id)]
            if wanted:
                event = to_event(stored)
                for one in wanted:
                    self._take(step, one, event, stored.call_id, added)
        self._merge(conn, step, added)

    def _take(
        self, step: _Step, one: BuiltMetric, event: MetricEvent, call_id: int, added: dict[Key, tuple[Metric, Part]]
    ) -> None:
        if not one.metric.passes(event.properties):
            return
        group = find_group(one.metric, event)
        if group is None:
            row = step.metrics.get(one.row.id, one.row)
            step.metrics[row.id] = msgspec.structs.replace(row, cursor=UNFIT)
            return
        for key in to_keys(one.row.id, event, group):
            if key not in added:
                added[key] = one.metric, Part()
            added[key][1].take(one.metric, event, call_id)

    def _merge(self, conn: Connection, step: _Step, added: dict[Key, tuple[Metric, Part]]) -> None:
        """Add parts to what stands in their buckets."""
        there: dict[Key, Values] = {}
        wanted = sorted(key for key in added if key not in step.parts)
        for start in range(0, len(wanted), _KEYS_AT_ONCE):
            there |= get_buckets(conn, wanted[start : start + _KEYS_AT_ONCE])
            self._breathe()
        for key, (metric, part) in added.items():
            if key not in step.parts:
                step.parts[key] = to_part(there[key]) if key in there else Part()
            step.parts[key].merge(metric, part)


def _some(tail: list[TailRow], events: int) -> list[TailRow]:
    """Return the first rows, with as many events together as one step takes, and one row at least."""
    some: list[TailRow] = []
    count = 0
    for row in tail:
        count += len(row.events) + len(row.voids)
        if some and count > events:
            break
        some.append(row)
    return some
