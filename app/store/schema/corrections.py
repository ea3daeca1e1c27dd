"""Corrections that people made: batches, and what became of each of their events."""

from sqlalchemy import Column, Index, Table, Text

from app.store.schema.base import METADATA, Id

corrections = Table(
    "corrections",
    METADATA,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False, comment="void"),
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
    comment="Each batch of corrections, and how far it came; written in the transaction of each of its steps.",
)

corrected_events = Table(
    "corrected_events",
    METADATA,
    Column("correction_id", Id, primary_key=True, autoincrement=False),
    Column("event_id", Id, primary_key=True, autoincrement=False),
    Column("voided_at", Id, nullable=False, comment="as in the event: another void of it has another time"),
    Column("state", Text, nullable=False, comment="voided; revived or left by an undo"),
    comment="The events of each batch.",
    sqlite_with_rowid=False,
)
# Who made an event void: asked for the events of a call or a list.
Index("corrected_events_event", corrected_events.c.event_id)
