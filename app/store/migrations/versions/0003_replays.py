"""Replays: how far each came, what it changed, what it made void."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "replays",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column(
            "what", sa.Text(), nullable=False, comment="JSON of what was asked for: the same words go on with it"
        ),
        sa.Column(
            "transforms", sa.LargeBinary(), nullable=False, comment="digest of the set of versions it runs calls by"
        ),
        sa.Column("cursor", _ID, nullable=False, comment="id of the last call that is done"),
        sa.Column("until_id", _ID, nullable=False, comment="id of the last call it is about"),
        sa.Column("total", _ID, nullable=False, comment="calls it was about when it began"),
        sa.Column("counts", sa.Text(), nullable=False, comment="JSON of what became of them so far"),
        sa.Column("started_at", _ID, nullable=False),
        sa.Column("finished_at", _ID, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        comment="Each replay, and how far it came; written in the transaction of each of its batches.",
    )
    op.create_table(
        "outcome_changes",
        sa.Column("call_id", _ID, autoincrement=False, nullable=False),
        sa.Column("replay_id", _ID, autoincrement=False, nullable=False),
        sa.Column("changed_at", _ID, nullable=False),
        sa.Column("from_outcome", sa.Text(), nullable=False),
        sa.Column("from_reason", sa.Text(), nullable=True),
        sa.Column("from_digest", sa.LargeBinary(), nullable=True, comment="the transform version that decided before"),
        sa.Column("to_outcome", sa.Text(), nullable=False),
        sa.Column("to_reason", sa.Text(), nullable=True),
        sa.Column("to_digest", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("call_id", "replay_id"),
        comment="What a replay changed about a call. Rows are only ever added.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "voids",
        sa.Column("replay_id", _ID, autoincrement=False, nullable=False),
        sa.Column("event_id", _ID, autoincrement=False, nullable=False),
        sa.Column("idempotency_id", sa.Text(), nullable=False),
        sa.Column(
            "replaced_by",
            sa.Text(),
            nullable=False,
            comment="idempotency id of the event that stands for it now",
        ),
        sa.PrimaryKeyConstraint("replay_id", "event_id"),
        comment="Events that a replay made void, in its order: Lotus may have them already, and cannot void them.",
        sqlite_with_rowid=False,
    )
