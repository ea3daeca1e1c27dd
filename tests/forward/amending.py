"""Corrections that replace events, made from the rows of the spine, as any corrector does; and what Lotus bills."""

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
import sqlalchemy as sa

from app.clock import clock
from app.core.json_text import decode
from app.core.lotus import make_event
from app.core.times import format_time
from app.forward.correction import OutboxFollower
from app.forward.fake_lotus.server import FakeLotus
from app.metrics.differences import find_differences
from app.store import ledger
from app.store.clock import read_clock
from app.store.corrections import (
    AMEND,
    CorrectedEvent,
    Correction,
    CorrectionState,
    CorrectionStep,
    append_corrected,
    append_correction,
    get_correction,
)
from app.store.engine import Database
from app.store.events import NewEvent, base_id_of, note_revisions, prepare_events, to_revision_id
from app.store.ids import Ids
from app.store.schema import corrected_events, corrections, deliveries, differences, events
from app.store.voids import lock_replays, revive, void_by_person
from tests.builders import IDS, a_lane, rows_of


def follower(ids: Ids = IDS) -> OutboxFollower:
    return OutboxFollower(ids.next, find_differences, forwards=True)


def begin(lotus: str, kind: str = AMEND) -> Correction:
    """Return a batch that is not stored yet."""
    now = clock()
    return Correction(
        id=IDS.next(now),
        kind=kind,
        author="ann",
        reason="r",
        selection="{}",
        state="running",
        started_at=now,
        lotus=lotus,
    )


def correct(database: Database, changes: Mapping[str, Mapping[str, Any] | None], lotus: str = "hold") -> Correction:
    """Replace events by idempotency id, with these values changed, or make them void (None); in one step."""
    correction = begin(lotus)
    with database.writing() as conn:
        lock_replays(conn)
        now = read_clock(conn)
        query = sa.select(events).where(events.c.idempotency_id.in_(list(changes)), events.c.voided_at.is_(None))
        old = {row.idempotency_id: row for row in conn.execute(query.order_by(events.c.id))}
        # What an undo removed keeps its id.
        revisions = Counter(conn.execute(sa.select(events.c.base_id).where(events.c.base_id.is_not(None))).scalars())
        added: list[NewEvent] = []
        replacements: dict[int, int] = {}
        revised = []
        for key, row in old.items():
            values = changes[key]
            if values is None:
                continue
            base = base_id_of(key, row.base_id)
            revision = revisions[base] + 2
            event = make_event(
                values.get("event_name", row.event_name),
                to_revision_id(base, revision),
                values.get("customer_id", row.customer_id),
                values.get("time_created", format_time(row.time_created)),
                values.get("properties", decode(row.properties.encode())),
            )
            new = NewEvent(IDS.next(now), row.call_id, a_lane(event), 0)
            added.append(new)
            replacements[row.id] = new.id
            revised.append((base, revision, new.id))
        assert void_by_person(conn, [row.id for row in old.values()], now, "r") == len(old)
        assert prepare_events(conn, added).send().rowcount == len(added)
        note_revisions(conn, revised)
        step = CorrectionStep(
            correction=correction,
            now=now,
            voided=[row.id for row in old.values()],
            added=added,
            replacements=replacements,
        )
        counts = Counter({(ledger.EVENT, "stored", ""): len(added), (ledger.EVENT, ledger.VOIDED, ""): len(old)})
        counts.update(follower().follow(conn, step))
        ledger.append(conn, IDS.tag, now, counts)
        append_correction(conn, msgspec.structs.replace(correction, state="finished"))
        append_corrected(
            conn, correction.id, [CorrectedEvent(id_, now, "voided", replacements.get(id_)) for id_ in step.voided]
        )
    return correction


def undo(database: Database, correction_id: int) -> None:
    """Undo such a batch in one step, as far as nothing else corrected its events since."""
    with database.writing() as conn:
        lock_replays(conn)
        now = read_clock(conn)
        correction = msgspec.structs.replace(get_correction(conn, correction_id), state=CorrectionState.UNDOING.value)
        query = sa.select(corrected_events).where(corrected_events.c.correction_id == correction_id)
        pairs = {row.event_id: (row.replacement_id, row.voided_at) for row in conn.execute(query)}
        live = set(conn.execute(sa.select(events.c.id).where(events.c.voided_at.is_(None))).scalars())
        undoable = {old: new for old, (new, _) in pairs.items() if new is None or new in live}
        undoable = {old: new for old, new in undoable.items() if old not in live}
        at = {row.id: row.voided_at for row in conn.execute(sa.select(events).where(events.c.id.in_(list(undoable))))}
        undoable = {old: new for old, new in undoable.items() if at[old] == pairs[old][1]}
        removed = [new for new in undoable.values() if new is not None]
        void_by_person(conn, removed, now, "undone")
        assert revive(conn, [(old, at[old]) for old in undoable]) == len(undoable)
        step = CorrectionStep(correction=correction, now=now, voided=removed, revived=list(undoable))
        counts = follower().follow(conn, step)
        counts[ledger.EVENT, ledger.VOIDED, ""] += len(removed) - len(undoable)
        ledger.append(conn, IDS.tag, now, counts)
        conn.execute(sa.update(corrections).where(corrections.c.id == correction_id).values(state="undone"))


def states(database: Database) -> dict[str, str]:
    """Return the state of each delivery by idempotency id, differences as `difference of <id>` or `undo of <id>`."""
    names = dict(rows_of(database, events, events.c.id, events.c.idempotency_id))
    for id_, corrected, key in rows_of(
        database, differences, differences.c.event_id, differences.c.corrected_id, differences.c.idempotency_id
    ):
        names[id_] = f"{'undo' if key.endswith('-undo') else 'difference'} of {names[corrected]}"
    return {
        names[id_]: state for id_, state in rows_of(database, deliveries, deliveries.c.event_id, deliveries.c.state)
    }


def billed(lotus: FakeLotus) -> dict[str, Decimal]:
    """Return the sum of `n` in Lotus, by customer, without zeros and what is free."""
    return _add_up((event["event_name"], event["customer_id"], event["properties"]) for event in lotus.events.values())


def owed(database: Database) -> dict[str, Decimal]:
    """Return the same sum here, from the events that count."""
    columns = (events.c.event_name, events.c.customer_id, events.c.properties, events.c.voided_at)
    rows = rows_of(database, events, *columns)
    return _add_up((name, customer, decode(text.encode())) for name, customer, text, void in rows if void is None)


def _add_up(rows: Iterable[tuple[str, str, dict[str, Any]]]) -> dict[str, Decimal]:
    totals: dict[str, Decimal] = {}
    for name, customer, properties in rows:
        if name != "use" or properties.get("plan") == "free":
            continue
        with contextlib.suppress(InvalidOperation):
            value = properties["n"]
            # A number of JSON is a double; a text has all its digits.
            number = Decimal(value if isinstance(value, str) else repr(float(value)))
            totals[customer] = totals.get(customer, Decimal(0)) + number
    return {customer: total for customer, total in totals.items() if total}


def ids_of(database: Database) -> dict[str, int]:
    """Return event ids by idempotency id."""
    return {key: id_ for id_, key in rows_of(database, events, events.c.id, events.c.idempotency_id)}
