"""Stores what stands for amended events: new rows beside the old ones, under the next free revision of their id."""

from collections.abc import Sequence

from app.core.lotus import IDEMPOTENCY_ID_MAX
from app.core.pipeline import Lane
from app.corrections.changes import EventChange
from app.store.engine import Connection
from app.store.events import (
    NewEvent,
    RevisedFields,
    append_replacements,
    find_revisions,
    find_stored,
    to_revision_id,
)
from app.store.ids import Ids
from app.store.updates import Stale


def replace_events(conn: Connection, changes: Sequence[EventChange], ids: Ids, now: int) -> dict[int, NewEvent]:
    """Store the new event of each change, as of `now`; return them by the id of the old one.

    Each keeps call, lane, position and version of the old one: the call has made it all the same.

    Raises:
        Stale: an id is taken, and the next one is too long for Lotus.

    """
    amended = [(change.old, change.new) for change in changes if change.new is not None]
    last = find_revisions(conn, (old.base for old, _ in amended))
    revisions = {old.id: max(last.get(old.base, 1), old.revision or 1) + 1 for old, _ in amended}
    new_ids = {old.id: to_revision_id(old.base, revisions[old.id]) for old, _ in amended}
    taken = set(find_stored(conn, new_ids.values()))
    rows: list[RevisedFields] = []
    replacements: dict[int, NewEvent] = {}
    for old, new in amended:
        while new_ids[old.id] in taken:
            # A transform may make an id of this form by itself.
            revisions[old.id] += 1
            new_ids[old.id] = to_revision_id(old.base, revisions[old.id])
            taken |= set(find_stored(conn, [new_ids[old.id]]))
        if len(new_ids[old.id]) > IDEMPOTENCY_ID_MAX:
            raise Stale
        row = RevisedFields(
            id=ids.next(now),
            idempotency_id=new_ids[old.id],
            call_id=old.call_id,
            lane=old.lane,
            position=old.position,
            event_name=new.event_name,
            customer_id=new.customer_id,
            time_created=new.time_created,
            properties=new.properties,
            content=new.content,
            transform=old.transform,
            transform_digest=old.transform_digest,
            base_id=old.base,
            revision=revisions[old.id],
            stored_at=now,
        )
        rows.append(row)
        lane = Lane(old.lane, old.transform, old.transform_digest, (new,), new.content)
        replacements[old.id] = NewEvent(row.id, row.call_id, lane, 0)
    append_replacements(conn, rows)
    return replacements
