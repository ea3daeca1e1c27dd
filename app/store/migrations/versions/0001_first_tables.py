"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    _create_calls()
    _create_claims()
    _create_events()
    _create_ledger()
    _create_requests()
    _create_versions()


def _create_calls() -> None:
    op.create_table(
        "calls",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("request_id", _ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False, comment="place in its request, from 0"),
        sa.Column("received_at", _ID, nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column(
            "raw", sa.LargeBinary(), nullable=True, comment="the call's own bytes as they came; NULL after retention"
        ),
        sa.Column("type", sa.Text(), nullable=True),
        sa.Column(
            "message_id", sa.Text(), nullable=True, comment="as an indexable key: cleaned, and shortened if too long"
        ),
        sa.Column("event", sa.Text(), nullable=True),
        sa.Column("customer_id", sa.Text(), nullable=True, comment="of its event, else the call's userId"),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True, comment="one sentence for people"),
        sa.Column("transform", sa.Text(), nullable=True),
        sa.Column("transform_digest", sa.LargeBinary(), nullable=True),
        sa.Column(
            "results",
            sa.Text(),
            nullable=True,
            comment="JSON list with the result of each event, where not all were simply stored",
        ),
        sa.PrimaryKeyConstraint("id"),
        comment="One row per Segment call: its bytes and its one outcome.",
    )
    op.create_index("calls_event", "calls", ["event", "id"])
    op.create_index(
        "calls_unstored_customer",
        "calls",
        ["customer_id", "id"],
        sqlite_where=sa.text("outcome != 'stored'"),
        postgresql_where=sa.text("outcome != 'stored'"),
    )
    op.create_index(
        "calls_unstored_message",
        "calls",
        ["message_id", "id"],
        sqlite_where=sa.text("outcome != 'stored'"),
        postgresql_where=sa.text("outcome != 'stored'"),
    )
    op.create_index(
        "calls_unstored_outcome",
        "calls",
        ["outcome", "id"],
        sqlite_where=sa.text("outcome != 'stored'"),
        postgresql_where=sa.text("outcome != 'stored'"),
    )


def _create_claims() -> None:
    op.create_table(
        "claims",
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("call_id", _ID, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False, comment="digest over the contents of the lane's events"),
        sa.Column("transform_digest", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("message_id", "lane"),
        comment="Which call made the events of a message in a lane.",
        sqlite_with_rowid=False,
    )


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("idempotency_id", sa.Text(), nullable=False),
        sa.Column("call_id", _ID, nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column(
            "position", sa.Integer(), nullable=False, comment="place among the events of its call and lane, from 0"
        ),
        sa.Column("event_name", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("time_created", _ID, nullable=False),
        sa.Column("properties", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False, comment="digest of event_name, customer_id, properties"),
        sa.Column("transform", sa.Text(), nullable=False),
        sa.Column("transform_digest", sa.LargeBinary(), nullable=False),
        sa.Column("voided_at", _ID, nullable=True),
        sa.Column(
            "voided_by", sa.LargeBinary(), nullable=True, comment="digest of the transform version that made it void"
        ),
        sa.Column("void_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("idempotency_id", name="events_idempotency_id"),
        comment="One row per Lotus event.",
    )
    op.create_index("events_call", "events", ["call_id"])
    op.create_index("events_customer", "events", ["customer_id", "call_id"])


def _create_ledger() -> None:
    op.create_table(
        "ledger",
        sa.Column("minute", _ID, autoincrement=False, nullable=False, comment="minutes since 1970"),
        sa.Column(
            "node", sa.SmallInteger(), autoincrement=False, nullable=False, comment="id tag of the writing process"
        ),
        sa.Column("subject", sa.Text(), nullable=False, comment="call or event"),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False, comment="'' where there is none"),
        sa.Column("count", _ID, nullable=False),
        sa.PrimaryKeyConstraint("minute", "node", "subject", "outcome", "reason"),
        comment="Counts, written in the transaction of what they count. Each process adds to rows of its own.",
        sqlite_with_rowid=False,
    )


def _create_requests() -> None:
    op.create_table(
        "refusals",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("received_at", _ID, nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("headers", sa.Text(), nullable=False, comment="JSON object, without credentials"),
        sa.Column("body_start", sa.LargeBinary(), nullable=False, comment="first 2 kB"),
        sa.PrimaryKeyConstraint("id"),
        comment="The last requests that were turned away as a whole.",
    )
    op.create_table(
        "requests",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("received_at", _ID, nullable=False),
        sa.Column(
            "auth", sa.Text(), nullable=False, comment="what vouched for it: signature, first_call, bearer or basic"
        ),
        sa.Column("shape", sa.Text(), nullable=False),
        sa.Column(
            "envelope",
            sa.LargeBinary(),
            nullable=True,
            comment="JSON of what a batch says outside its items, without the write key",
        ),
        sa.PrimaryKeyConstraint("id"),
        comment="One row per request that was taken: what its calls share.",
    )


def _create_versions() -> None:
    op.create_table(
        "versions",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("inherits", sa.LargeBinary(), nullable=True),
        sa.Column("seen_at", _ID, nullable=False),
        sa.PrimaryKeyConstraint("digest"),
        comment="Every document text that was ever active, by digest.",
    )
