"""What people and processes do with one database, and a log of the test's own: what counted at which moment.

The log is made of what is stored and not void when it is written, and never of the times at which that happened; so it
judges answers as of those moments.
"""

from random import Random
from typing import Any, NamedTuple

from app.clock import clock
from app.core.json_text import decode
from app.core.outcome import Outcome
from app.core.times import format_time
from app.corrections.corrector import Corrector
from app.corrections.selection import Selection
from app.errors import NotFound
from app.metrics.definition import Metric
from app.metrics.fold import BucketBuilder
from app.metrics.query import MetricEvent
from app.service.build import correction_hooks
from app.store.clock import read_clock
from app.store.corrections import Attribution, CorrectionState
from app.store.engine import Database
from app.store.schema import corrections, events
from tests.builders import an_event, rows_of, some_ids, some_transforms
from tests.forward.forwarding import store
from tests.metrics.conftest import publish
from tests.metrics.metrics import a_metric
from tests.replay.replaying import an_order, replay, take

CUSTOMERS = ("customer-0", "customer-1", "customer-2")
DAY = 86_400_000_000
PRICED = 'match: {event: Order}\nevent: {properties: "{total: add(properties.total, `%d`), kind: properties.kind}"}\n'

KINDS: dict[str, dict[str, Any]] = {
    "sum": {},
    "count": {"property_name": None},
    "average": {},
    "max": {},
    "min": {},
    "latest": {},
    "unique": {},
    "percentile": {"percentile": 90},
    "rate": {"metric_type": "rate", "usage_aggregation_type": "sum", "granularity": "hours"},
    "level": {"metric_type": "gauge", "event_type": "total", "granularity": "months", "proration": "days"},
    "change": {"metric_type": "gauge", "event_type": "delta"},
}


def a_version(name: str, **keys: Any) -> Metric:
    """Return a metric of orders, of the kind of this name; `keys` make it another version."""
    said = {"event_name": "Order", "property_name": "total", **KINDS[name], **keys}
    return a_metric(name, **{"usage_aggregation_type": name if "metric_type" not in said else None, **said})


class LogEntry(NamedTuple):
    """What counted at a moment, by which definitions."""

    moment: int
    counted: list[MetricEvent]
    live: dict[str, Metric]


class History:
    """Calls, late events, voids, undos, corrections by replays, folds and new definitions, in any order."""

    def __init__(self, database: Database, chance: Random, begins: int, ends: int) -> None:
        """The events are of [begins, ends)."""
        self.database = database
        self.chance = chance
        self.log: list[LogEntry] = []
        self.live = {name: a_version(name) for name in KINDS}
        self._period = begins, ends
        self._price = self._stored = 0
        ids = [some_ids(tag) for tag in (41, 42)]
        self._correctors = [Corrector(database, each, clock, correction_hooks(each)) for each in ids]
        self._folders = [BucketBuilder(database, holder, clock) for holder in (1, 2)]
        publish(database, *self.live.values())

    def act(self) -> None:
        """Do anything."""
        actions = (self.take, self.keep, self.keep, self._void, self._void, self._undo, self._undo, self._fold)
        self.chance.choice((*actions, self._fold, self._replay, self._publish))()

    def note(self) -> LogEntry:
        """Write down what counts now."""
        names = ("idempotency_id", "base_id", "event_name", "customer_id", "time_created", "properties", "voided_at")
        rows = rows_of(self.database, events, *(events.c[name] for name in names))
        counted = [
            MetricEvent(base or id_, name, customer, time, decode(properties.encode()))
            for id_, base, name, customer, time, properties, voided_at in rows
            if voided_at is None
        ]
        with self.database.reading() as conn:
            self.log.append(LogEntry(read_clock(conn), counted, dict(self.live)))
        return self.log[-1]

    def take(self) -> None:
        """Take calls, some of them for a second time."""
        numbers = [self.chance.randint(0, self._stored + 3) for _ in range(self.chance.randint(1, 4))]
        orders = []
        for number in numbers:
            # The same call again is the same event.
            chance = Random(number)  # noqa: S311  nothing is secret here
            when, kind = format_time(chance.randrange(*self._period)), chance.choice("ab")
            properties = {"total": number, "kind": kind}
            orders.append(an_order(number, userId=CUSTOMERS[number % 3], timestamp=when, properties=properties))
        take(self.database, some_transforms(order=PRICED % self._price), *orders)
        self._stored = max(self._stored, *numbers)

    def keep(self) -> None:
        """Store events as they are."""
        before = len(rows_of(self.database, events, events.c.id))
        made = [
            an_event(
                event_name="Order",
                idempotency_id=f"kept-{number}",
                customer_id=self.chance.choice(CUSTOMERS),
                time_created=format_time(self.chance.randrange(*self._period)),
                properties={
                    "total": self.chance.choice((1, 2, 2.5, -1, "0.1", None)),
                    "kind": self.chance.choice("ab"),
                },
            )
            for number in range(before, before + self.chance.randint(1, 4))
        ]
        store(self.database, made)

    def _void(self) -> None:
        ids = rows_of(self.database, events, events.c.idempotency_id)
        by_customer = Selection(customer=self.chance.choice(CUSTOMERS))
        corrector = self.chance.choice(self._correctors)
        try:
            by_id = Selection(ids=(self.chance.choice(ids)[0],)) if ids else by_customer
            preview = corrector.preview(self.chance.choice((by_customer, by_id, by_id)))
        except NotFound:
            return
        corrector.run(corrector.begin(preview, Attribution(author="ann", reason="no reason")))

    def _undo(self) -> None:
        states = dict(rows_of(self.database, corrections, corrections.c.id, corrections.c.state))
        undoable = [id_ for id_, state in states.items() if state != CorrectionState.UNDONE]
        if undoable:
            corrector = self.chance.choice(self._correctors)
            corrector.run(corrector.begin_undo(self.chance.choice(undoable), "bob", "no reason"))

    def _replay(self) -> None:
        self._price += self.chance.randint(0, 1)
        transforms = some_transforms(order=PRICED % self._price)
        replay(self.database, transforms, outcomes=tuple(Outcome), correct=True)

    def _fold(self) -> None:
        folder = self.chance.choice(self._folders)
        for _ in range(self.chance.randint(1, 30)):
            folder.step(self.chance.randint(1, 10), build_events=self.chance.randint(1, 10))

    def _publish(self) -> None:
        name = self.chance.choice(list(KINDS))
        wanted: Any = self.chance.choice(
            (
                {},
                {"group_by": ["kind"]},
                {"categorical_filters": [{"property_name": "kind", "operator": "isin", "comparison_value": ["a"]}]},
            )
        )
        self.live[name] = a_version(name, **wanted, description=f"version {self.chance.random()}")
        publish(self.database, *self.live.values())
