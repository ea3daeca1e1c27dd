"""Corrections by people: batches, and their events."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "corrections",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="void"),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("selection", sa.Text(), nullable=False, comment="JSON of the events that it is about"),
        sa.Column("state", sa.Text(), nullable=False, comment="running, finished, undoing or undone"),
        sa.Column("until_call", _ID, nullable=False, comment="id of the last call whose events it is about"),
        sa.Column("cursor_call", _ID, nullable=False, comment="how far it came: id of the call of the last event"),
        sa.Column("cursor_event", _ID, nullable=False, comment="id of the last event"),
        sa.Column("counts", sa.Text(), nullable=False, comment="JSON of what it did so far"),
        sa.Column("started_at", _ID, nullable=False),
        sa.Column("finished_at", _ID, nullable=True),
        sa.Column("undo_author", sa.Text(), nullable=True),
        sa.Column("undo_reason", sa.Text(), nullable=True),
        sa.Column("undo_started_at", _ID, nullable=True),
        sa.Column("undone_at", _ID, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        comment="Each batch of corrections, and how far it came; written in the transaction of each of its steps.",
    )
    op.create_table(
        "corrected_events",
        sa.Column("correction_id", _ID, autoincrement=False, nullable=False),
        sa.Column("event_id", _ID, autoincrement=False, nullable=False),
        sa.Column("voided_at", _ID, nullable=False, comment="as in the event: another void of it has another time"),
        sa.Column("state", sa.Text(), nullable=False, comment="voided; revived or left by an undo"),
        sa.PrimaryKeyConstraint("correction_id", "event_id"),
        comment="The events of each batch.",
        sqlite_with_rowid=False,
    )
    op.create_index("corrected_events_event", "corrected_events", ["event_id"])
    if op.get_context().dialect.name == "postgresql":
        for table, column, kind, comment in (
            ("events", "voided_by", sa.LargeBinary(), "digest of the version that made it void; NULL: a person did"),
            ("usage_tail", "voids", sa.LargeBinary(), "ids of the events that it made void, or made count again"),
        ):
            op.alter_column(table, column, existing_type=kind, comment=comment)
