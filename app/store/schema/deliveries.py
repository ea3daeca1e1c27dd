"""The outbox, and the state of the destination."""

from sqlalchemy import Column, Index, Integer, Table, Text, UniqueConstraint

from app.store.schema.base import METADATA, Id

deliveries = Table(
    "deliveries",
    METADATA,
    # The event's own id: ids ascend, so new rows are appended to the tree, and a row can be sharded with its event.
    Column("event_id", Id, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False, comment="see docs/forward.md"),
    Column("due_at", Id, nullable=False, comment="when to send it, while it waits"),
    Column("tries", Integer, nullable=False, comment="how often it was sent, and the trouble was its own"),
    Column("claim", Id, comment="the worker that has it at hand"),
    Column("claimed_until", Id, comment="from then on another worker may take it"),
    Column("attempt_id", Id, comment="the last one"),
    Column("reason", Text, comment="why it was not delivered, as Lotus said it"),
    Column("settled_at", Id),
    Column("note", Text, comment="what a person did about a surplus in Lotus; NULL: nothing yet"),
    Column("note_author", Text, comment="who wrote it"),
    Column("noted_at", Id),
    Column("held_for", Id, comment="id of the event that it replaces, and that Lotus has; NULL: it is not held back"),
    comment="The outbox: one row per event that is to reach Lotus, written in the transaction of the event.",
)
# Deliveries to send next. New rows are appended to its end; delivered ones are not in it.
_WAITING = deliveries.c.state == "waiting"
Index(
    "deliveries_waiting",
    deliveries.c.due_at,
    deliveries.c.event_id,
    sqlite_where=_WAITING,
    postgresql_where=_WAITING,
)
# For lists: few rows, and no cost when an event is stored.
_ENDED_BADLY = deliveries.c.state.in_(("failed", "unforwardable", "voided", "surplus", "credited", "held"))
Index(
    "deliveries_undelivered",
    deliveries.c.state,
    deliveries.c.event_id,
    sqlite_where=_ENDED_BADLY,
    postgresql_where=_ENDED_BADLY,
)

differences = Table(
    "differences",
    METADATA,
    Column("event_id", Id, primary_key=True, autoincrement=False, comment="an id of its own, as in its delivery"),
    Column("correction_id", Id, nullable=False),
    Column("corrected_id", Id, nullable=False, comment="id of the event whose number it corrects"),
    Column("idempotency_id", Text, nullable=False),
    Column("event_name", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("time_created", Id, nullable=False),
    Column("properties", Text, nullable=False),
    UniqueConstraint("idempotency_id", name="differences_idempotency_id"),
    comment="Corrections of sums that are sent to Lotus. They are no events: they live in the outbox only.",
)
Index("differences_correction", differences.c.correction_id)
Index("differences_customer", differences.c.customer_id, differences.c.event_id)
# What Lotus has of an event besides itself: asked for each event of a correction.
Index("differences_corrected", differences.c.corrected_id)

attempts = Table(
    "attempts",
    METADATA,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("started_at", Id, nullable=False),
    Column("milliseconds", Integer, nullable=False),
    Column("events", Integer, nullable=False, comment="how many were in it"),
    Column("status", Integer, comment="NULL: there was no answer"),
    Column("answer", Text, nullable=False, comment="what was answered, or what went wrong; at most 20 kB"),
    comment="One row per request to Lotus.",
)

attempted = Table(
    "attempted",
    METADATA,
    Column("event_id", Id, primary_key=True, autoincrement=False),
    Column("attempt_id", Id, primary_key=True, autoincrement=False),
    comment="Which attempts an event was in that did not deliver it. The last one stands in its delivery, too.",
    sqlite_with_rowid=False,
)

destinations = Table(
    "destinations",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("trouble", Text, comment="NULL: it is well; else key, broker, server, busy, network or answer"),
    Column("sentence", Text, comment="what went wrong, for people"),
    Column("failures", Integer, nullable=False, comment="in a row"),
    Column("paused_at", Id),
    Column("probe_at", Id, nullable=False, comment="when one worker tries again, while it is paused"),
    comment="How it stands with what events are sent to.",
    sqlite_with_rowid=False,
)
