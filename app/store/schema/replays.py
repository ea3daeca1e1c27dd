"""Replays and their changes."""

from sqlalchemy import Column, Table, Text

from app.store.schema.base import METADATA, Digest, Id

replays = Table(
    "replays",
    METADATA,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("what", Text, nullable=False, comment="JSON of what was asked for: the same words go on with it"),
    Column("transforms", Digest, nullable=False, comment="digest of the set of versions it runs calls by"),
    Column("cursor", Id, nullable=False, comment="id of the last call that is done"),
    Column("until_id", Id, nullable=False, comment="id of the last call it is about"),
    Column("total", Id, nullable=False, comment="calls it was about when it began"),
    Column("counts", Text, nullable=False, comment="JSON of what became of them so far"),
    Column("started_at", Id, nullable=False),
    Column("finished_at", Id),
    Column("progress_at", Id, comment="when it last came on; NULL: nobody runs it"),
    Column("stop_asked_at", Id, comment="when it was asked to end after its batch, to go on later"),
    comment="Each replay, and how far it came; written in the transaction of each of its batches.",
)

outcome_changes = Table(
    "outcome_changes",
    METADATA,
    Column("call_id", Id, primary_key=True, autoincrement=False),
    Column("replay_id", Id, primary_key=True, autoincrement=False),
    Column("changed_at", Id, nullable=False),
    Column("from_outcome", Text, nullable=False),
    Column("from_reason", Text),
    Column("from_digest", Digest, comment="the transform version that decided before"),
    Column("to_outcome", Text, nullable=False),
    Column("to_reason", Text),
    Column("to_digest", Digest),
    comment="What a replay changed about a call. Rows are only ever added.",
    sqlite_with_rowid=False,
)

fingerprints = Table(
    "fingerprints",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("fingerprint", Digest, nullable=False, comment="a slow digest: it tells one secret from another"),
    comment="Of secrets that stored rows depend on: with another one a correction would make all of them anew.",
    sqlite_with_rowid=False,
)

voids = Table(
    "voids",
    METADATA,
    Column("replay_id", Id, primary_key=True, autoincrement=False),
    Column("event_id", Id, primary_key=True, autoincrement=False),
    Column("idempotency_id", Text, nullable=False),
    Column("replaced_by", Text, nullable=False, comment="idempotency id of the event that stands for it now"),
    comment="Events that a replay made void, in its order: Lotus may have them already, and cannot void them.",
    sqlite_with_rowid=False,
)
