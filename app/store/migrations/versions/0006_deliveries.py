"""The outbox to Lotus: deliveries, attempts, and how it stands with Lotus."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_WAITING = sa.text("state = 'waiting'")
_ENDED_BADLY = sa.text("state IN ('failed', 'unforwardable', 'voided')")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "deliveries",
        sa.Column("event_id", _ID, autoincrement=False, nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="waiting, delivered, failed, unforwardable or voided"),
        sa.Column("due_at", _ID, nullable=False, comment="when to send it, while it waits"),
        sa.Column("tries", sa.Integer(), nullable=False, comment="how often it was sent, and the trouble was its own"),
        sa.Column("claim", _ID, nullable=True, comment="the worker that has it at hand"),
        sa.Column("claimed_until", _ID, nullable=True, comment="from then on another worker may take it"),
        sa.Column("attempt_id", _ID, nullable=True, comment="the last one"),
        sa.Column("reason", sa.Text(), nullable=True, comment="why it was not delivered, as Lotus said it"),
        sa.Column("settled_at", _ID, nullable=True),
        sa.PrimaryKeyConstraint("event_id"),
        comment="The outbox: one row per event that is to reach Lotus, written in the transaction of the event.",
    )
    op.create_index(
        "deliveries_waiting", "deliveries", ["due_at", "event_id"], sqlite_where=_WAITING, postgresql_where=_WAITING
    )
    op.create_index(
        "deliveries_undelivered",
        "deliveries",
        ["state", "event_id"],
        sqlite_where=_ENDED_BADLY,
        postgresql_where=_ENDED_BADLY,
    )
    op.create_table(
        "attempts",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("started_at", _ID, nullable=False),
        sa.Column("milliseconds", sa.Integer(), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False, comment="how many were in it"),
        sa.Column("status", sa.Integer(), nullable=True, comment="NULL: there was no answer"),
        sa.Column("answer", sa.Text(), nullable=False, comment="what was answered, or what went wrong; at most 20 kB"),
        sa.PrimaryKeyConstraint("id"),
        comment="One row per request to Lotus.",
    )
    op.create_table(
        "attempted",
        sa.Column("event_id", _ID, autoincrement=False, nullable=False),
        sa.Column("attempt_id", _ID, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("event_id", "attempt_id"),
        comment="Which attempts an event was in that did not deliver it. The last one stands in its delivery, too.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "destinations",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "trouble",
            sa.Text(),
            nullable=True,
            comment="NULL: it is well; else key, broker, server, busy, network or answer",
        ),
        sa.Column("sentence", sa.Text(), nullable=True, comment="what went wrong, for people"),
        sa.Column("failures", sa.Integer(), nullable=False, comment="in a row"),
        sa.Column("paused_at", _ID, nullable=True),
        sa.Column("probe_at", _ID, nullable=False, comment="when one worker tries again, while it is paused"),
        sa.PrimaryKeyConstraint("name"),
        comment="How it stands with what events are sent to.",
        sqlite_with_rowid=False,
    )
