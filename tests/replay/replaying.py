"""What the tests of replay and preview share: ingest under one set of transforms, then run again under another."""

import itertools
import json
from typing import Any

from app.core.outcome import Outcome
from app.core.transform.transform import TransformSet
from app.replay.plan import Plan, ReplayRequest
from app.replay.replayer import Replayer
from app.service.build import replay_hooks
from app.store.engine import Database
from app.store.ids import Ids
from app.store.review import CallFilters, get_call, list_call_ids
from app.store.review_events import EventRow
from app.store.schema import calls, events
from tests.builders import NOW, a_document, an_ingest, post, published, rows_of, some_ids, to_raw

WRONG = "match: {event: Order}\nevent: {customer_id: properties.account}\n"
"""Rejects every order of which nobody knows the account."""

RIGHT = "match: {event: Order}\n"

UNMADE = (Outcome.IGNORED, Outcome.REJECTED)

_CLOCK = itertools.count(NOW + 3_600_000_000, 1_000_000)


def clock() -> int:
    """An hour later, and each time a second more."""
    return next(_CLOCK)


def an_order(number: int, **members: Any) -> dict[str, Any]:
    """Return a call of the event Order."""
    return a_document(**{"event": "Order", "messageId": f"order-{number}", "properties": {"total": number}, **members})


def take(database: Database, transforms: TransformSet, *documents: object) -> list[str | None]:
    """Ingest calls, one request each, by these transforms; return their outcomes."""
    ingest = an_ingest(database, transforms)
    return [record.outcome for document in documents for record in post(ingest, to_raw(document))]


def a_replayer(database: Database, tag: int = 11) -> Replayer:
    """Return what replays, as another process would."""
    from app.catalog.live import Catalog  # noqa: PLC0415

    ids = Ids(lambda _below: tag)
    return Replayer(database=database, catalog=Catalog(), ids=ids, clock=clock, hooks=replay_hooks(ids, forwards=False))


def replay(
    database: Database, transforms: TransformSet | None = None, *, again: bool = True, dry: bool = False, **asked: Any
) -> Plan:
    """Publish transforms, and replay."""
    if transforms is not None:
        published(database, transforms, some_ids(12))
    replayer = a_replayer(database)
    plan = replayer.plan(ReplayRequest(**{"outcomes": UNMADE, **asked}), (None, None), again=again)
    (replayer.dry_run if dry else replayer.run)(plan, lambda _count: None)
    return plan


def outcomes(database: Database) -> list[str]:
    """Return the outcome of each call, the oldest first."""
    return [row[0] for row in rows_of(database, calls, calls.c.outcome)]


def made(database: Database) -> list[tuple[str, str, Any]]:
    """Return the events that count: idempotency id, customer, properties; by idempotency id."""
    columns = (events.c.idempotency_id, events.c.customer_id, events.c.properties, events.c.voided_at)
    return sorted(
        (key, customer, json.loads(properties))
        for key, customer, properties, voided in rows_of(database, events, *columns)
        if voided is None
    )


def events_of(database: Database, id_: str) -> tuple[EventRow, ...]:
    """Return the events of a call by the id of its message, in their order; a void one before what replaced it."""
    with database.reading() as conn:
        [call_id] = list_call_ids(conn, CallFilters(id=id_), limit=10)
        return tuple(sorted(get_call(conn, call_id).events, key=lambda one: (one.position, one.voided_at is None)))
