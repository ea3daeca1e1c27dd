"""At every moment of a random life, what is answered is what the reference says of the events that are stored."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.json_text import decode
from app.core.lotus import make_event
from app.core.times import format_time
from app.metrics.answer import answer, answer_raw, verify
from app.metrics.answer_from_buckets import answer_from_buckets
from app.metrics.definition import Metric
from app.metrics.fold import BucketBuilder
from app.metrics.parts import is_addable
from app.metrics.progress import reset_buckets
from app.metrics.query import MetricEvent, Query
from app.metrics.windows import Unit
from app.service.build import event_hooks
from app.store.commit import Committer
from app.store.engine import Database
from app.store.ids import TAG_BITS, Ids
from app.store.schema import calls, events, usage_tail
from tests.builders import IDS, NOW, a_record, a_request, empty, know_no_version, rows_of, values_of
from tests.metrics.conftest import fold_all, keep_events, make_void, publish
from tests.metrics.metrics import LATER, a_metric
from tests.metrics.random_metrics import cases
from tests.metrics.recomputation import compute

TAGS = 1 << TAG_BITS
DAYS = (None, Unit.SECOND, Unit.MINUTE, Unit.HOUR, Unit.DAY)
ADDABLE = ("count", "sum", "average", "min", "max", "latest")


class Life:
    """Events that come, late ones, retries, void ones; folds, builds, changes of what is counted; in any order."""

    def __init__(
        self, database: Database, metric: Metric, told: list[MetricEvent], query: Query, now: int, chance: Random
    ) -> None:
        self.database = database
        self.query = query
        self.now = now
        self.metrics = [metric, changed(metric, chance)]
        self.published = 0
        self._chance = chance
        self._told = told
        # Some come twice: a retry, or a conflict.
        self._names = [f"e-{chance.randint(0, 2 * len(told))}" for _ in told]
        self._at = 0
        ids = Ids(lambda _: 3)
        self._slow = Committer(database, ids, know_no_version, event_hooks(ids, forwards=False))
        self._inside = False
        self._folders = [BucketBuilder(database, holder, lambda: NOW, self._breathe) for holder in (1, 2)]

    def run(self) -> None:
        while self._at < len(self._told) or self.published < len(self.metrics):
            self._chance.choice((self._keep, self._keep, self._fold, self._fold, self._fold, *self._rare))()
            self.check()

    @property
    def _rare(self) -> tuple[Callable[[], None], ...]:
        return (self._keep_late, self._publish, self._make_void, self._forget)

    def check(self) -> None:
        """Compare: the answer, raw events in the database, and the reference over a list."""
        with self.database.reading() as conn:
            names = ("idempotency_id", "event_name", "customer_id", "time_created", "properties")
            columns = [events.c[name] for name in names]
            stored = [
                MetricEvent(*row[:4], decode(row[4].encode()), row[5] is not None)
                for row in conn.execute(events.select().with_only_columns(*columns, events.c.voided_at))
            ]
            for metric in self.metrics:
                said = compute(metric, stored, self.query, self.now)
                assert answer_raw(conn, metric, self.query, self.now) == said
                assert answer(conn, metric, self.query, self.now) == said

    def _keep(self) -> None:
        until = min(self._at + self._chance.randint(1, 8), len(self._told))
        group = self._chance.randint(1, 5)
        keep_events(self.database, self._told[self._at : until], self._names[self._at : until], group)
        self._at = until

    def _keep_late(self) -> None:
        """Another process commits what it drew ids for long ago, of a call that lies between others."""
        if self._at < len(self._told):
            one, name = self._told[self._at], self._names[self._at]
            self._at += 1
            event = make_event(one.event_name, name, one.customer_id, format_time(one.time_created), one.properties)
            record = a_record(event, message_id=f"m-{one.base_id}")
            before = [one for one in values_of(rows_of(self.database, calls, calls.c.id)) if one % TAGS == IDS.tag]
            record.id = self._chance.choice(before or [record.id]) + self._at
            record.received_at = NOW - 1_000_000
            self._slow.commit(lambda: [a_request(record)])

    def _make_void(self) -> None:
        if self._at:
            make_void(self.database, [self._chance.choice(self._names[: self._at])])

    def _publish(self) -> None:
        if self.published < len(self.metrics):
            publish(self.database, self.metrics[self.published])
            self.published += 1

    def _forget(self) -> None:
        reset_buckets(self.database, self.metrics)

    def _fold(self) -> None:
        folder = self._chance.choice(self._folders)
        for _ in range(self._chance.randint(1, 6)):
            folder.step(self._chance.randint(1, 10), build_events=self._chance.randint(1, 10))

    def _breathe(self) -> None:
        """While a step is computed, something else happens; another step, too."""
        if not self._inside and self._chance.random() < 0.2:
            self._inside = True
            self._chance.choice((self._keep, self._fold, *self._rare))()
            self.check()
            self._inside = False


def changed(metric: Metric, chance: Random) -> Metric:
    """Return what the metric of this name says later."""
    if not is_addable(metric):
        return a_metric(usage_aggregation_type="latest")
    others = [one for one in ADDABLE if one != metric.aggregation]
    return a_metric(usage_aggregation_type=chance.choice(others), group_by=["kind"] * chance.randint(0, 1))


@settings(max_examples=2 * settings().max_examples, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases(), seed=st.integers(0, 2**32))
def test_whatever_happens_in_whatever_order_every_answer_is_what_the_reference_says(
    database: Database, case: tuple[Metric, list[MetricEvent], Query, int], seed: int
) -> None:
    metric, told, query, now = case
    chance = Random(seed)  # noqa: S311  nothing is secret here
    if seed % 4:
        # Most of them about what can be added up, and a period with many events in it.
        metric = a_metric(usage_aggregation_type=chance.choice(ADDABLE), group_by=["kind"] * (seed % 3 > 0))
        moments = [query.start, query.end, *(one.time_created for one in told)]
        query = replace(query, start=min(moments), end=max(moments) + 1, customer_id=None)
        now = LATER
    # Every moment is looked at, so there are no thousands of windows.
    query = replace(query, window=Unit.DAY if seed % 5 and metric.proration in DAYS else None)
    empty(database)
    life = Life(database, metric, told, query, now, chance)
    life.run()
    fold_all(database, chance.randint(1, 20))
    assert rows_of(database, usage_tail) == []
    live = life.metrics[1]
    with database.reading() as conn:
        added = answer_from_buckets(conn, live, query, now)
        assert verify(conn, live, query, now)[1]
    life.check()
    whole = query.window is None and set(query.groups(live)) <= set(live.group_by)
    assert added is not None or not whole
