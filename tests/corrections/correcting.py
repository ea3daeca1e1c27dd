"""What the tests of corrections share: events that came by calls, a corrector, and what counts afterwards."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from app.core.json_text import decode
from app.core.outcome import Outcome
from app.corrections.amendment import parse_amendment
from app.corrections.corrector import Corrector
from app.corrections.documents import to_tally
from app.corrections.selection import parse_selection
from app.forward.sql_claims import DeliveryResult, claim, record_results
from app.forward.sql_deliveries import DeliveryState
from app.metrics.answer import verify
from app.metrics.query import MetricEvent, Query
from app.service.build import correction_hooks
from app.service.ledger import read_ledger
from app.store import ledger
from app.store.corrections import Attribution, Correction
from app.store.engine import Database
from app.store.schema import calls, deliveries, events
from app.store.tally import CorrectionTally
from tests.builders import NOW, an_event, rows_of, some_ids
from tests.forward.forwarding import store
from tests.metrics.metrics import LATER, a_metric
from tests.metrics.recomputation import compute

METRICS = [
    a_metric("tokens", event_name="api_call", property_name="tokens"),
    a_metric("api_calls", event_name="api_call", usage_aggregation_type="count", property_name=None),
    a_metric("longest", event_name="api_call", usage_aggregation_type="max", property_name="tokens"),
]

_CLOCK = itertools.count(NOW + 7_200_000_000, 1_000_000)


def clock() -> int:
    """Two hours later, and each time a second more."""
    return next(_CLOCK)


def a_corrector(database: Database, tag: int = 31) -> Corrector:
    """Return a corrector, as another process would have it."""
    ids = some_ids(tag)
    return Corrector(database, ids, clock, correction_hooks(ids))


def keep(database: Database, numbers: Iterable[int], *, forwards: bool = False, **fields: Any) -> None:
    """Store events `e-<number>` with so many tokens, each of a call of its own."""
    store(
        database,
        [an_event(idempotency_id=f"e-{number}", properties={"tokens": number}, **fields) for number in numbers],
        forwards=forwards,
    )


def void(database: Database, *ids: str, corrector: Corrector | None = None, **members: Any) -> Correction:
    """Make events void, to the end."""
    corrector = corrector or a_corrector(database)
    preview = corrector.preview(parse_selection({**members, "ids": list(ids)}, clock()))
    return corrector.run(corrector.begin(preview, Attribution(author="ann", reason="internal traffic")))


def amend(
    database: Database, *ids: str, values: dict[str, Any], corrector: Corrector | None = None, **members: Any
) -> Correction:
    """Give events other values, to the end."""
    corrector = corrector or a_corrector(database)
    amendment = parse_amendment(values, members.pop("unset", ()))
    preview = corrector.preview(parse_selection({**members, "ids": list(ids)}, clock()), amendment)
    return corrector.run(corrector.begin(preview, Attribution(author="ann", reason="a mistake")))


def undo(database: Database, correction: Correction, corrector: Corrector | None = None) -> CorrectionTally:
    """Undo a batch, to the end; return its counts."""
    corrector = corrector or a_corrector(database)
    return to_tally(corrector.run(corrector.begin_undo(correction.id, "bob", "they were not")))


def counted(database: Database) -> list[str]:
    """Return the idempotency ids of the events that count."""
    rows = rows_of(database, events, events.c.idempotency_id, events.c.voided_at)
    return sorted(id_ for id_, voided_at in rows if voided_at is None)


def states(database: Database) -> dict[str, str]:
    """Return the state of each delivery, by idempotency id."""
    ids = dict(rows_of(database, events, events.c.id, events.c.idempotency_id))
    return {ids[id_]: state for id_, state in rows_of(database, deliveries, deliveries.c.event_id, deliveries.c.state)}


def deliver(database: Database, id_: str) -> None:
    """Let Lotus have an event that waits."""
    with database.writing() as conn:
        held = claim(conn, 1, NOW * 2, NOW * 3, 100)
        results = [
            DeliveryResult(due.event_id, DeliveryState.DELIVERED, NOW, 0) for due in held if due.idempotency_id == id_
        ]
        ledger.append(conn, 1, NOW, record_results(conn, 1, NOW, None, results))


def check(database: Database, metrics: Sequence[Any] = METRICS, tz: str = "UTC") -> None:
    """Judge by rows alone: the ledgers, and what each metric answers against an independent recomputation."""
    rows = rows_of(database, events)
    stored = to_metric_events(rows)
    with database.reading() as conn:
        summed = ledger.sum_counts(conn)
        for metric in metrics:
            query = Query(start=NOW - 40 * 86_400_000_000, end=NOW + 40 * 86_400_000_000, tz=tz)
            answer, same = verify(conn, metric, query, LATER)
            assert answer == compute(metric, stored, query, LATER)
            assert same
    assert summed[ledger.EVENT, Outcome.STORED, ""] == len(stored)
    assert summed[ledger.EVENT, ledger.VOIDED, ""] == sum(event.voided for event in stored)
    by_state = Counter(state for (state,) in rows_of(database, deliveries, deliveries.c.state))
    assert {entry[1]: count for entry, count in summed.items() if count and entry[0] == ledger.DELIVERY} == by_state
    outcomes = Counter(outcome for (outcome,) in rows_of(database, calls, calls.c.outcome))
    document = read_ledger(database)
    assert document.balances
    assert {name: document.calls[name] for name in outcomes} == outcomes
    void = {row[0] for row in rows_of(database, events, events.c.id, events.c.voided_at) if row[1] is not None}
    waiting = {
        id_
        for id_, state in rows_of(database, deliveries, deliveries.c.event_id, deliveries.c.state)
        if state == "waiting"
    }
    assert not void & waiting


def to_metric_events(rows: Iterable[Sequence[Any]]) -> list[MetricEvent]:
    """Return rows of `events` as metrics read them."""
    return [MetricEvent(*_fields(dict(zip(events.c.keys(), row, strict=True)))) for row in rows]


def _fields(row: dict[str, Any]) -> tuple[Any, ...]:
    base_id = row["base_id"] or row["idempotency_id"]
    properties = decode(row["properties"].encode())
    voided = row["voided_at"] is not None
    return base_id, row["event_name"], row["customer_id"], row["time_created"], properties, voided
