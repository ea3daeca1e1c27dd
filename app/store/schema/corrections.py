"""Corrections that people made: batches, and what became of each of their events."""

from sqlalchemy import Column, Index, Table, Text

from app.store.schema.base import METADATA, Id

corrections = Table(
    "corrections",
    METADATA,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False, comment="void, amend, replay or backfill"),
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("selection", Text, nullable=False, comment="JSON of the events that it is about"),
    Column("state", Text, nullable=False, comment="running, finished, undoing or undone"),
    Column("until_call", Id, nullable=False, comment="id of the last call whose events it is about"),
    Column("cursor_call", Id, nullable=False, comment="how far it came: id of the call of the last event"),
    Column("cursor_event", Id, nullable=False, comment="id of the last event"),
    Column("counts", Text, nullable=False, comment="JSON of what it did so far"),
    Column("started_at", Id, nullable=False),
    Column("finished_at", Id),
    Column("undo_author", Text),
    Column("undo_reason", Text),
    Column("undo_started_at", Id),
    Column("undone_at", Id),
    Column("name", Text, comment="for people; NULL: it has none"),
    Column("amendment", Text, comment="JSON of the values that it sets; NULL: it sets none"),
    Column("lotus", Text, comment="what is done where Lotus has an event: hold, send or difference; NULL: hold"),
    comment="Each batch of corrections, and how far it came; written in the transaction of each of its steps.",
)

corrected_events = Table(
    "corrected_events",
    METADATA,
    Column("correction_id", Id, primary_key=True, autoincrement=False),
    Column("event_id", Id, primary_key=True, autoincrement=False),
    Column("voided_at", Id, comment="as in the event: another void of it has another time; NULL: it added the event"),
    Column("state", Text, nullable=False, comment="voided or added; revived, removed or left by an undo"),
    Column("replacement_id", Id, comment="the event that stands for it now; NULL: none does"),
    Column("revived_at", Id, comment="when an undo made it count again: from voided_at to then it was void"),
    comment="The events of each batch.",
    sqlite_with_rowid=False,
)
# Who made an event void: asked for the events of a call or a list.
Index("corrected_events_event", corrected_events.c.event_id)
_REPLACED = corrected_events.c.replacement_id.is_not(None)
Index(
    "corrected_events_replacement",
    corrected_events.c.replacement_id,
    sqlite_where=_REPLACED,
    postgresql_where=_REPLACED,
)
# What an answer as of a moment leaves out: the events that were void then, and count again.
_REVIVED = corrected_events.c.revived_at.is_not(None)
Index("corrected_events_revived", corrected_events.c.revived_at, sqlite_where=_REVIVED, postgresql_where=_REVIVED)
