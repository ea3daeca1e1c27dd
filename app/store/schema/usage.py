"""Pre-aggregated usage for metrics."""

from sqlalchemy import Column, LargeBinary, SmallInteger, Table, Text, UniqueConstraint

from app.store.schema.base import METADATA, Digest, Id

usage_tail = Table(
    "usage_tail",
    METADATA,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("events", LargeBinary, nullable=False, comment="ids of the events that it stored, 8 bytes each"),
    Column("voids", LargeBinary, nullable=False, comment="ids of the events that it made void, or made count again"),
    Column("first_call", Id, nullable=False, comment="the smallest id of a call that made one of its events"),
    comment="What each commit did to events and no bucket knows yet. Written with it, deleted by a fold.",
)

usage_metrics = Table(
    "usage_metrics",
    METADATA,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("meaning", Digest, nullable=False, comment="of its definition; a description is no part of it"),
    Column("event_name", Text, nullable=False),
    # Separates the work of folds, the build and answers, see app.metrics.fold.
    Column("cursor", Id, nullable=False, comment="its buckets hold the folded events up to this id, and ..."),
    Column("until_id", Id, nullable=False, comment="... above this one: the largest there was when it began"),
    Column("done", Id, nullable=False, comment="events of history that were looked at"),
    Column("total", Id, nullable=False, comment="events there were when it began"),
    UniqueConstraint("meaning", name="usage_metrics_meaning"),
    comment="The metrics that have buckets, and how far these came.",
)

usage_buckets = Table(
    "usage_buckets",
    METADATA,
    # Read by period, for one customer or all, and written at the current time: so the bucket comes first.
    Column("metric", Id, primary_key=True, autoincrement=False),
    Column("level", SmallInteger, primary_key=True, autoincrement=False, comment="0: quarter hours, 1: days, of UTC"),
    Column("bucket", Id, primary_key=True, autoincrement=False, comment="its number since 1970"),
    Column("customer_id", Text, primary_key=True),
    Column("grp", Text, primary_key=True, comment="JSON list of the texts of the metric's group_by"),
    Column("count", Id, nullable=False),
    Column("value", Text, comment="the sum, or the best value: an exact decimal"),
    Column("best_at", Id, comment="time_created of the latest value"),
    # Nodes older than revision 0012 may still be running, and write it.
    Column("best_id", Id, comment="not used any more"),
    Column("skipped", Text, comment="JSON: how many, by reason"),
    Column("first_call", Id, nullable=False, comment="ids between which the calls of its events lie"),
    Column("last_call", Id, nullable=False),
    Column("best_base_id", Text, comment="of the latest value: its idempotency id before any correction"),
    comment="What the events of a quarter hour or a day add to a metric. All of it can be made again from events.",
    sqlite_with_rowid=False,
)

usage_folds = Table(
    "usage_folds",
    METADATA,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("done", Id, nullable=False, comment="grows with every step: who computed from an older state starts over"),
    Column("holder", Id, nullable=False, comment="the process that folds"),
    Column("held_until", Id, nullable=False),
    comment="One row: whose turn it is to add up.",
)
