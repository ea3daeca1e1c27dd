"""Closed months: numbers that never change, and what was taken of later changes into other months."""

from sqlalchemy import Column, Index, Integer, Table, Text, UniqueConstraint

from app.store.schema.base import METADATA, Digest, Id

closed_months = Table(
    "closed_months",
    METADATA,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("metric", Text, nullable=False),
    Column("month", Text, nullable=False, comment="2026-10"),
    Column("tz", Text, nullable=False, comment="IANA name of the zone whose month it is"),
    Column("as_of", Id, nullable=False, comment="the moment whose numbers it holds"),
    Column("metric_digest", Digest, nullable=False, comment="version of the definition"),
    Column("numbers_digest", Digest, nullable=False, comment="over all its numbers"),
    Column("closed_at", Id, nullable=False),
    Column("author", Text, nullable=False),
    Column("reopened_at", Id, comment="NULL: it is closed"),
    Column("reopen_author", Text),
    Column("reopen_reason", Text),
    comment="Each time that a month of a metric was closed.",
)
_CLOSED = closed_months.c.reopened_at.is_(None)
Index(
    "closed_months_once",
    closed_months.c.metric,
    closed_months.c.month,
    closed_months.c.tz,
    unique=True,
    sqlite_where=_CLOSED,
    postgresql_where=_CLOSED,
)

closed_numbers = Table(
    "closed_numbers",
    METADATA,
    Column("closed_id", Id, primary_key=True, autoincrement=False),
    Column("customer_id", Text, primary_key=True),
    Column("grp", Text, primary_key=True, comment="JSON list of the texts of the metric's group_by"),
    Column("value", Text, comment="an exact decimal; NULL: there was no number"),
    Column("events_count", Integer, nullable=False),
    Column("skipped", Text, comment="JSON: how many, by reason"),
    comment="The numbers of closed months. Never changed.",
    sqlite_with_rowid=False,
)

carried_adjustments = Table(
    "carried_adjustments",
    METADATA,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("closed_id", Id, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("grp", Text, nullable=False),
    Column("amount", Text, nullable=False, comment="an exact decimal"),
    Column("month", Text, nullable=False, comment="the month into which it was taken"),
    Column("as_of", Id, nullable=False, comment="the moment whose difference it is"),
    Column("carried_at", Id, nullable=False),
    Column("author", Text, nullable=False),
    UniqueConstraint("closed_id", "customer_id", "grp", "as_of", name="carried_adjustments_once"),
    comment="Adjustments of closed months that were taken into another month, as lines of their own.",
)
