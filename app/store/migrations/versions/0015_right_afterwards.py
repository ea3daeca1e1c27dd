"""When each event was stored, what replaced it, closed months, differences for Lotus, evidence."""

import sqlalchemy as sa
from alembic import op

from app.clock import clock

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply. No event is touched: those that are there have no `stored_at`."""
    comment = "by the clock that all writers share; NULL: before there was this column"
    op.add_column("events", sa.Column("stored_at", _ID, nullable=True, comment=comment))
    _index("events_voided", "events", "voided_at", "voided_at IS NOT NULL")
    _extend_corrections()
    _extend_deliveries()
    _create_months()
    _create_evidence()
    # Of answers as of a moment before this one it is said that they go by when calls arrived.
    op.execute(sa.text("INSERT INTO sightings (name, seen_at) VALUES ('stored_at', :now)").bindparams(now=clock()))


def _index(name: str, table: str, column: str, where: str) -> None:
    op.create_index(name, table, [column], sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def _extend_corrections() -> None:
    with op.batch_alter_table("corrections") as batch:
        batch.alter_column("kind", existing_type=sa.Text(), comment="void, amend, replay or backfill")
        batch.add_column(sa.Column("name", sa.Text(), nullable=True, comment="for people; NULL: it has none"))
        batch.add_column(
            sa.Column(
                "amendment", sa.Text(), nullable=True, comment="JSON of the values that it sets; NULL: it sets none"
            )
        )
        batch.add_column(
            sa.Column(
                "lotus",
                sa.Text(),
                nullable=True,
                comment="what is done where Lotus has an event: hold, send or difference; NULL: hold",
            )
        )
    with op.batch_alter_table("corrected_events", table_kwargs={"sqlite_with_rowid": False}) as batch:
        batch.alter_column(
            "voided_at",
            existing_type=_ID,
            nullable=True,
            comment="as in the event: another void of it has another time; NULL: it added the event",
        )
        batch.alter_column(
            "state", existing_type=sa.Text(), comment="voided or added; revived, removed or left by an undo"
        )
        batch.add_column(
            sa.Column("replacement_id", _ID, nullable=True, comment="the event that stands for it now; NULL: none does")
        )
        batch.add_column(
            sa.Column(
                "revived_at",
                _ID,
                nullable=True,
                comment="when an undo made it count again: from voided_at to then it was void",
            )
        )
    op.execute(
        "UPDATE corrected_events SET revived_at = (SELECT coalesce(undone_at, undo_started_at) FROM corrections "
        "WHERE corrections.id = correction_id) WHERE state = 'revived'"
    )
    _index("corrected_events_replacement", "corrected_events", "replacement_id", "replacement_id IS NOT NULL")
    _index("corrected_events_revived", "corrected_events", "revived_at", "revived_at IS NOT NULL")


def _extend_deliveries() -> None:
    op.add_column(
        "deliveries",
        sa.Column(
            "note", sa.Text(), nullable=True, comment="what a person did about a surplus in Lotus; NULL: nothing yet"
        ),
    )
    op.add_column("deliveries", sa.Column("note_author", sa.Text(), nullable=True, comment="who wrote it"))
    op.add_column("deliveries", sa.Column("noted_at", _ID, nullable=True))
    held_for = "id of the event that it replaces, and that Lotus has; NULL: it is not held back"
    op.add_column("deliveries", sa.Column("held_for", _ID, nullable=True, comment=held_for))
    if op.get_context().dialect.name == "postgresql":
        op.alter_column("deliveries", "state", existing_type=sa.Text(), comment="see docs/forward.md")
    op.drop_index("deliveries_undelivered", "deliveries")
    where = sa.text("state IN ('failed', 'unforwardable', 'voided', 'surplus', 'credited', 'held')")
    op.create_index(
        "deliveries_undelivered", "deliveries", ["state", "event_id"], sqlite_where=where, postgresql_where=where
    )
    op.create_table(
        "differences",
        sa.Column("event_id", _ID, autoincrement=False, nullable=False, comment="an id of its own, as in its delivery"),
        sa.Column("correction_id", _ID, nullable=False),
        sa.Column("corrected_id", _ID, nullable=False, comment="id of the event whose number it corrects"),
        sa.Column("idempotency_id", sa.Text(), nullable=False),
        sa.Column("event_name", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("time_created", _ID, nullable=False),
        sa.Column("properties", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
        sa.UniqueConstraint("idempotency_id", name="differences_idempotency_id"),
        comment="Corrections of sums that are sent to Lotus. They are no events: they live in the outbox only.",
    )
    op.create_index("differences_correction", "differences", ["correction_id"])
    op.create_index("differences_customer", "differences", ["customer_id", "event_id"])
    op.create_index("differences_corrected", "differences", ["corrected_id"])
    _find_surplus()


def _find_surplus() -> None:
    """Mark what Lotus has and is void. Only void events are read, by their index."""
    conn = op.get_bind()
    step = sa.text(
        "SELECT voided_at, id FROM events "
        "WHERE voided_at IS NOT NULL AND (voided_at > :at OR voided_at = :at AND id > :id) "
        "ORDER BY voided_at, id LIMIT 1000"
    )
    mark = sa.text("UPDATE deliveries SET state = 'surplus' WHERE event_id IN :ids AND state = 'delivered'").bindparams(
        sa.bindparam("ids", expanding=True)
    )
    at, last, count = -1, -1, 0
    while rows := conn.execute(step, {"at": at, "id": last}).all():
        at, last = rows[-1]
        count += conn.execute(mark, {"ids": [row.id for row in rows]}).rowcount
    # Tags of processes are not negative: this row is nobody else's.
    enter = sa.text(
        "INSERT INTO ledger (minute, node, subject, outcome, reason, count) "
        "VALUES (:minute, -1, 'delivery', :state, '', :count)"
    )
    for state, change in (("delivered", -count), ("surplus", count)) if count else ():
        conn.execute(enter, {"minute": clock() // 60_000_000, "state": state, "count": change})


def _create_months() -> None:
    op.create_table(
        "closed_months",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("month", sa.Text(), nullable=False, comment="2026-10"),
        sa.Column("tz", sa.Text(), nullable=False, comment="IANA name of the zone whose month it is"),
        sa.Column("as_of", _ID, nullable=False, comment="the moment whose numbers it holds"),
        sa.Column("metric_digest", sa.LargeBinary(), nullable=False, comment="version of the definition"),
        sa.Column("numbers_digest", sa.LargeBinary(), nullable=False, comment="over all its numbers"),
        sa.Column("closed_at", _ID, nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reopened_at", _ID, nullable=True, comment="NULL: it is closed"),
        sa.Column("reopen_author", sa.Text(), nullable=True),
        sa.Column("reopen_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        comment="Each time that a month of a metric was closed.",
    )
    where = sa.text("reopened_at IS NULL")
    op.create_index(
        "closed_months_once",
        "closed_months",
        ["metric", "month", "tz"],
        unique=True,
        sqlite_where=where,
        postgresql_where=where,
    )
    op.create_table(
        "closed_numbers",
        sa.Column("closed_id", _ID, autoincrement=False, nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("grp", sa.Text(), nullable=False, comment="JSON list of the texts of the metric's group_by"),
        sa.Column("value", sa.Text(), nullable=True, comment="an exact decimal; NULL: there was no number"),
        sa.Column("events_count", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.Text(), nullable=True, comment="JSON: how many, by reason"),
        sa.PrimaryKeyConstraint("closed_id", "customer_id", "grp"),
        comment="The numbers of closed months. Never changed.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "carried_adjustments",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("closed_id", _ID, nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("grp", sa.Text(), nullable=False),
        sa.Column("amount", sa.Text(), nullable=False, comment="an exact decimal"),
        sa.Column("month", sa.Text(), nullable=False, comment="the month into which it was taken"),
        sa.Column("as_of", _ID, nullable=False, comment="the moment whose difference it is"),
        sa.Column("carried_at", _ID, nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("closed_id", "customer_id", "grp", "as_of", name="carried_adjustments_once"),
        comment="Adjustments of closed months that were taken into another month, as lines of their own.",
    )


def _create_evidence() -> None:
    op.create_table(
        "signing_keys",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("private_key", sa.LargeBinary(), nullable=False, comment="Ed25519, 32 bytes"),
        sa.Column("public_key", sa.LargeBinary(), nullable=False, comment="32 bytes"),
        sa.Column("made_at", _ID, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        comment="Keys that sign evidence: the last one signs, all of them verify.",
    )
    op.create_table(
        "evidence",
        sa.Column("id", _ID, autoincrement=False, nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("month", sa.Text(), nullable=False),
        sa.Column("tz", sa.Text(), nullable=False),
        sa.Column("manifest_digest", sa.LargeBinary(), nullable=False, comment="SHA-256"),
        sa.Column("key_id", _ID, nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("made_at", _ID, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        comment="Each evidence file that was made.",
    )
