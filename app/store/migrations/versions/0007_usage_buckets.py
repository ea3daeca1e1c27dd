"""What events add to metrics, added up in buckets."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "usage_tail",
        sa.Column("id", _ID, primary_key=True, autoincrement=False),
        sa.Column("events", sa.LargeBinary(), nullable=False, comment="ids of the events that it stored, 8 bytes each"),
        sa.Column("voids", sa.LargeBinary(), nullable=False, comment="ids of the events that it made void"),
        sa.Column("first_call", _ID, nullable=False, comment="the smallest id of a call that made one of its events"),
        comment="What each commit did to events and no bucket knows yet. Written with it, deleted by a fold.",
    )
    op.create_table(
        "usage_metrics",
        sa.Column("id", _ID, primary_key=True, autoincrement=False),
        sa.Column(
            "meaning", sa.LargeBinary(), nullable=False, comment="of its definition; a description is no part of it"
        ),
        sa.Column("event_name", sa.Text(), nullable=False),
        sa.Column("cursor", _ID, nullable=False, comment="its buckets hold the folded events up to this id, and ..."),
        sa.Column("until_id", _ID, nullable=False, comment="... above this one: the largest there was when it began"),
        sa.Column("done", _ID, nullable=False, comment="events of history that were looked at"),
        sa.Column("total", _ID, nullable=False, comment="events there were when it began"),
        sa.UniqueConstraint("meaning", name="usage_metrics_meaning"),
        comment="The metrics that have buckets, and how far these came.",
    )
    op.create_table(
        "usage_buckets",
        sa.Column("metric", _ID, primary_key=True, autoincrement=False),
        sa.Column(
            "level",
            sa.SmallInteger(),
            primary_key=True,
            autoincrement=False,
            comment="0: quarter hours, 1: days, of UTC",
        ),
        sa.Column("bucket", _ID, primary_key=True, autoincrement=False, comment="its number since 1970"),
        sa.Column("customer_id", sa.Text(), primary_key=True),
        sa.Column("grp", sa.Text(), primary_key=True, comment="JSON list of the texts of the metric's group_by"),
        sa.Column("count", _ID, nullable=False),
        sa.Column("value", sa.Text(), comment="the sum, or the best value: an exact decimal"),
        sa.Column("best_at", _ID, comment="time_created of the latest value"),
        sa.Column("best_id", _ID),
        sa.Column("skipped", sa.Text(), comment="JSON: how many, by reason"),
        sa.Column("first_call", _ID, nullable=False, comment="ids between which the calls of its events lie"),
        sa.Column("last_call", _ID, nullable=False),
        comment="What the events of a quarter hour or a day add to a metric. All of it can be made again from events.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "usage_folds",
        sa.Column("id", _ID, primary_key=True, autoincrement=False),
        sa.Column(
            "done", _ID, nullable=False, comment="grows with every step: who computed from an older state starts over"
        ),
        sa.Column("holder", _ID, nullable=False, comment="the process that folds"),
        sa.Column("held_until", _ID, nullable=False),
        comment="One row: whose turn it is to add up.",
    )
