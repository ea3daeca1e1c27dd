"""Compares what counts here with what Lotus has, by id, in both directions: its 201 only means queued.

Lotus answers about the events of the last 30 days. Of older ones it is assumed that it has what it accepted.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from app.errors import Unavailable
from app.forward.export import MeasuredSums, MeasureValues
from app.forward.lotus import Lotus
from app.forward.sql_deliveries import IN_LOTUS, DeliveryState
from app.forward.sql_lists import newest_event_id
from app.forward.sql_reconcile import StoredDelivery, list_differences_after, list_stored
from app.forward.timing import is_too_old
from app.store.engine import Connection, Database
from app.store.tally import exact_difference

MAX_DAYS = 30
NOT_REQUESTED = "not requested"
"""In place of the state of an event that has no delivery."""

_BATCH = 1000


class ReconcileRow(msgspec.Struct, kw_only=True):
    """One customer and metric, in one month (UTC)."""

    customer_id: str
    metric: str
    month: str
    events: int
    """How many count here."""
    events_in_lotus: int
    """How many Lotus counts, differences included."""
    here: str | None
    """The number here; None where it depends on other events."""
    in_lotus: str | None
    """The number of what Lotus has."""
    difference: str | None
    """By how much Lotus bills too much, or, below zero, too little."""


class UnequalEvent(msgspec.Struct, kw_only=True):
    """An event that Lotus lacks, or has without anybody knowing it."""

    event_id: int
    idempotency_id: str
    state: str


class ReconcileReport(msgspec.Struct, kw_only=True):
    """The result."""

    checked: int = 0
    """Events that were delivered or void, and of which Lotus said whether it has them."""
    missing: list[UnequalEvent] = []
    """Delivered, and Lotus does not have them."""
    unknown: list[UnequalEvent] = []
    """Void before they were sent, as far as was known, and Lotus has them."""
    surplus: int = 0
    """Void, and Lotus has them: known, not settled."""
    credited: int = 0
    """The same, settled."""
    not_confirmable: int = 0
    """Too old for Lotus to say."""
    not_there: dict[str, int] = {}
    """Events that count here, and Lotus does not have, by state."""
    rows: list[ReconcileRow] = []


class _Answer(msgspec.Struct):
    status: str
    ids_not_found: list[str]


class Reconciliation:
    """Compares one database with one Lotus."""

    def __init__(self, database: Database, lotus: Lotus, measure: MeasureValues, clock: Callable[[], int]) -> None:
        """`clock` gives microseconds since 1970."""
        self._database = database
        self._lotus = lotus
        self._clock = clock
        self._here, self._there = MeasuredSums(measure), MeasuredSums(measure)
        self._not_there: Counter[str] = Counter()
        self._report = ReconcileReport()

    def run(self, after: int, advance: Callable[[ReconcileReport], None] = lambda _report: None) -> ReconcileReport:
        """Compare all events with ids above `after`, and the differences. Raises Unavailable.

        `advance` is called with the report after each batch.
        """
        with self._database.reading() as conn:
            until = newest_event_id(conn)
        for list_batch in (list_stored, list_differences_after):
            last: int | None = after
            while last is not None:
                last = self._take(list_batch, last, until)
                advance(self._report)
        self._report.not_there = dict(sorted(self._not_there.items()))
        self._report.rows = self._compare()
        return self._report

    def _take(
        self, list_batch: Callable[[Connection, int, int, int], list[StoredDelivery]], after: int, until: int
    ) -> int | None:
        with self._database.reading() as conn:
            batch = list_batch(conn, after, until, _BATCH)
        if not batch:
            return None
        in_lotus = self._ask(batch)
        with self._database.reading() as conn:
            self._here.add(conn, (row.to_event() for row in batch if row.counts))
            self._there.add(conn, (row.to_event() for row in batch if row.event_id in in_lotus))
        return batch[-1].event_id

    def _ask(self, batch: Sequence[StoredDelivery]) -> set[int]:
        """Return which of these Lotus has, and note what is not as it should be."""
        now = self._clock()
        confirmable = [row for row in batch if not is_too_old(row.time_created, now)]
        lost = self._find_missing([row.idempotency_id for row in confirmable]) if confirmable else set()
        asked = {row.event_id for row in confirmable}
        in_lotus: set[int] = set()
        for row in batch:
            sure = row.event_id in asked
            has = row.idempotency_id not in lost if sure else row.state in IN_LOTUS
            if has:
                in_lotus.add(row.event_id)
            self._note(row, has=has, sure=sure)
        return in_lotus

    def _note(self, row: StoredDelivery, *, has: bool, sure: bool) -> None:
        report, unequal = self._report, None
        if row.state in IN_LOTUS or row.state == DeliveryState.VOIDED:
            report.checked += sure
            report.not_confirmable += not sure
        if row.state == DeliveryState.DELIVERED and not has:
            unequal = report.missing
        elif row.state == DeliveryState.VOIDED and has:
            unequal = report.unknown
        elif row.state == DeliveryState.SURPLUS:
            report.surplus += has
        elif row.state == DeliveryState.CREDITED:
            report.credited += has
        elif row.is_live and not has:
            self._not_there[row.state or NOT_REQUESTED] += 1
        if unequal is not None:
            unequal.append(
                UnequalEvent(event_id=row.event_id, idempotency_id=row.idempotency_id, state=row.state or "")
            )

    def _find_missing(self, ids: list[str]) -> set[str]:
        answer = self._lotus.find_missing(ids, MAX_DAYS)
        try:
            document = msgspec.json.decode(answer.body, type=_Answer) if answer.status == 200 else None  # noqa: PLR2004
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            document = None
        if document is None or document.status != "success":
            raise Unavailable(f"Lotus does not say which events it has: {answer.status or ''} {answer.text()[:200]}")
        return set(document.ids_not_found)

    def _compare(self) -> list[ReconcileRow]:
        here = {(row.customer_id, row.metric, row.month): row for row in self._here.list()}
        there = {(row.customer_id, row.metric, row.month): row for row in self._there.list()}
        rows = []
        for key in sorted(here.keys() | there.keys()):
            own, other = here.get(key), there.get(key)
            adds_up = (own is None or own.amount is not None) and (other is None or other.amount is not None)
            numbers = [(row.amount if row and row.amount else "0") if adds_up else None for row in (own, other)]
            rows.append(
                ReconcileRow(
                    customer_id=key[0],
                    metric=key[1],
                    month=key[2],
                    events=own.events if own else 0,
                    events_in_lotus=other.events if other else 0,
                    here=numbers[0],
                    in_lotus=numbers[1],
                    difference=exact_difference(numbers[1], numbers[0]),
                )
            )
        return rows
