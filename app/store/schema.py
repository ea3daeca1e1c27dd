"""The tables. What each is for, and why each index is there; an index with no reader is paid for on every call.

Laid out to be spread over several PostgreSQL nodes one day: ids come from the application, each unique key holds the
column its table would be spread by, no foreign keys, no triggers. All times are integer microseconds since 1970.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

METADATA = MetaData()

# SQLite stores a row under its INTEGER PRIMARY KEY directly; any other spelling costs a second tree.
_Id = BigInteger().with_variant(Integer(), "sqlite")
_Digest = LargeBinary

requests = Table(
    "requests",
    METADATA,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("received_at", _Id, nullable=False),
    Column("auth", Text, nullable=False, comment="what vouched for it: signature, first_call, bearer or basic"),
    Column("shape", Text, nullable=False),
    Column("envelope", LargeBinary, comment="JSON of what a batch says outside its items, without the write key"),
    # Of the steps that all its calls take together; so a call of a batch pays for one time only, its own.
    Column("verified_after", _Id, comment="microseconds after received_at, as all that is called so"),
    Column("parsed_after", _Id),
    Column("stored_after", _Id, comment="when its rows were handed to the database; the commit follows"),
    comment="One row per request that was taken: what its calls share.",
)

calls = Table(
    "calls",
    METADATA,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("request_id", _Id, nullable=False),
    Column("position", Integer, nullable=False, comment="place in its request, from 0"),
    Column("received_at", _Id, nullable=False),
    Column("route", Text, nullable=False),
    Column("raw", LargeBinary, comment="the call's own bytes as they came; NULL after retention"),
    Column("type", Text),
    Column("message_id", Text, comment="as an indexable key, see app.store.keys"),
    Column("event", Text),
    Column("customer_id", Text, comment="of its event, else the call's userId"),
    Column("outcome", Text, nullable=False),
    Column("reason", Text),
    Column("detail", Text, comment="one sentence for people"),
    Column("transform", Text),
    Column("transform_digest", _Digest),
    Column("results", Text, comment="JSON list with the result of each event, where not all were simply stored"),
    Column("mapped_after", _Id, comment="when its transform was chosen, and its events were made and checked"),
    Column("came_unstored", SmallInteger, comment="1: it was not stored when it came; NULL: it was"),
    comment="One row per Segment call: its bytes and its one outcome.",
)
# Review by event name. Few names, ever growing ids: each name appends to its own page.
Index("calls_event", calls.c.event, calls.c.id)
# Calls that made an event are found by customer and by message through `events` and `claims`; the others are few, so
# their indexes are partial and cost nothing on the hot path.
_NOT_STORED = calls.c.outcome != "stored"
Index("calls_unstored_outcome", calls.c.outcome, calls.c.id, sqlite_where=_NOT_STORED, postgresql_where=_NOT_STORED)
# A replay that stores a million calls would take each of them out of this index, at a place of its own: on SQLite,
# which writes a page for each, a call stays in it. On PostgreSQL the vacuum does that, for a whole page at a time.
Index(
    "calls_unstored_message",
    calls.c.message_id,
    calls.c.id,
    sqlite_where=calls.c.came_unstored.is_not(None),
    postgresql_where=_NOT_STORED,
)
Index(
    "calls_unstored_customer",
    calls.c.customer_id,
    calls.c.id,
    sqlite_where=_NOT_STORED,
    postgresql_where=_NOT_STORED,
)

events = Table(
    "events",
    METADATA,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("idempotency_id", Text, nullable=False),
    Column("call_id", _Id, nullable=False),
    Column("lane", Text, nullable=False),
    Column("position", Integer, nullable=False, comment="place among the events of its call and lane, from 0"),
    Column("event_name", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("time_created", _Id, nullable=False),
    # Text and not jsonb: jsonb refuses lone surrogates and huge numbers, and no query reads inside.
    Column("properties", Text, nullable=False),
    Column("content", _Digest, nullable=False, comment="digest of event_name, customer_id, properties"),
    Column("transform", Text, nullable=False),
    Column("transform_digest", _Digest, nullable=False),
    Column("voided_at", _Id),
    Column("voided_by", _Digest, comment="digest of the transform version that made it void"),
    Column("void_reason", Text),
    # The first of the two keys that decide what is a duplicate, for ever.
    UniqueConstraint("idempotency_id", name="events_idempotency_id"),
    comment="One row per Lotus event.",
)
Index("events_call", events.c.call_id)
Index("events_customer", events.c.customer_id, events.c.call_id)

claims = Table(
    "claims",
    METADATA,
    # The second key: a call makes the events of a lane once, whatever the transforms say today.
    Column("message_id", Text, primary_key=True),
    Column("lane", Text, primary_key=True),
    Column("call_id", _Id, nullable=False),
    Column("content", _Digest, nullable=False, comment="digest over the contents of the lane's events"),
    Column("transform_digest", _Digest, nullable=False),
    comment="Which call made the events of a message in a lane.",
    sqlite_with_rowid=False,
)

ledger = Table(
    "ledger",
    METADATA,
    Column("minute", _Id, primary_key=True, autoincrement=False, comment="minutes since 1970"),
    Column("node", SmallInteger, primary_key=True, autoincrement=False, comment="id tag of the writing process"),
    Column("subject", Text, primary_key=True, comment="call or event"),
    Column("outcome", Text, primary_key=True),
    Column("reason", Text, primary_key=True, comment="'' where there is none"),
    Column("count", _Id, nullable=False),
    comment="Counts, written in the transaction of what they count. Each process adds to rows of its own.",
    sqlite_with_rowid=False,
)

versions = Table(
    "versions",
    METADATA,
    Column("digest", _Digest, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("inherits", _Digest),
    Column("seen_at", _Id, nullable=False),
    comment="Every document text that was ever active, by digest.",
)

publications = Table(
    "publications",
    METADATA,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("digest", _Digest, comment="the version that became live; NULL: taken out"),
    Column("origin", Text, nullable=False, comment="file or editor"),
    Column("published_at", _Id, nullable=False),
    comment="Which version of each document is live: the last row of its name. Rows are only ever added.",
)
Index("publications_kind_name", publications.c.kind, publications.c.name, publications.c.id)

drafts = Table(
    "drafts",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("text", Text, comment="NULL: it was published or discarded"),
    # A discarded draft keeps its row, so that no revision ever names two texts.
    Column("revision", _Id, nullable=False, comment="grows with every change, for ever"),
    Column("base", _Digest, comment="the live version that it was begun from"),
    Column("saved_at", _Id, nullable=False),
    comment="What people write in the editor and have not published; one draft for each transform.",
)

replays = Table(
    "replays",
    METADATA,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("what", Text, nullable=False, comment="JSON of what was asked for: the same words go on with it"),
    Column("transforms", _Digest, nullable=False, comment="digest of the set of versions it runs calls by"),
    Column("cursor", _Id, nullable=False, comment="id of the last call that is done"),
    Column("until_id", _Id, nullable=False, comment="id of the last call it is about"),
    Column("total", _Id, nullable=False, comment="calls it was about when it began"),
    Column("counts", Text, nullable=False, comment="JSON of what became of them so far"),
    Column("started_at", _Id, nullable=False),
    Column("finished_at", _Id),
    Column("progress_at", _Id, comment="when it last came on; NULL: nobody runs it"),
    Column("stop_asked_at", _Id, comment="when it was asked to end after its batch, to go on later"),
    comment="Each replay, and how far it came; written in the transaction of each of its batches.",
)

outcome_changes = Table(
    "outcome_changes",
    METADATA,
    Column("call_id", _Id, primary_key=True, autoincrement=False),
    Column("replay_id", _Id, primary_key=True, autoincrement=False),
    Column("changed_at", _Id, nullable=False),
    Column("from_outcome", Text, nullable=False),
    Column("from_reason", Text),
    Column("from_digest", _Digest, comment="the transform version that decided before"),
    Column("to_outcome", Text, nullable=False),
    Column("to_reason", Text),
    Column("to_digest", _Digest),
    comment="What a replay changed about a call. Rows are only ever added.",
    sqlite_with_rowid=False,
)

voids = Table(
    "voids",
    METADATA,
    Column("replay_id", _Id, primary_key=True, autoincrement=False),
    Column("event_id", _Id, primary_key=True, autoincrement=False),
    Column("idempotency_id", Text, nullable=False),
    Column("replaced_by", Text, nullable=False, comment="idempotency id of the event that stands for it now"),
    comment="Events that a replay made void, in its order: Lotus may have them already, and cannot void them.",
    sqlite_with_rowid=False,
)

refusals = Table(
    "refusals",
    METADATA,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("received_at", _Id, nullable=False),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("headers", Text, nullable=False, comment="JSON object, without credentials"),
    Column("body_start", LargeBinary, nullable=False, comment="first 2 kB"),
    comment="The last requests that were turned away as a whole.",
)

deliveries = Table(
    "deliveries",
    METADATA,
    # The event's own id: it grows, so a new row goes to the end of its tree, and it can be spread with its event.
    Column("event_id", _Id, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False, comment="waiting, delivered, failed, unforwardable or voided"),
    Column("due_at", _Id, nullable=False, comment="when to send it, while it waits"),
    Column("tries", Integer, nullable=False, comment="how often it was sent, and the trouble was its own"),
    Column("claim", _Id, comment="the worker that has it at hand"),
    Column("claimed_until", _Id, comment="from then on another worker may take it"),
    Column("attempt_id", _Id, comment="the last one"),
    Column("reason", Text, comment="why it was not delivered, as Lotus said it"),
    Column("settled_at", _Id),
    comment="The outbox: one row per event that is to reach Lotus, written in the transaction of the event.",
)
# What is to be sent next. A new row goes to its end, whatever waits; what was delivered is not in it.
_WAITING = deliveries.c.state == "waiting"
Index(
    "deliveries_waiting",
    deliveries.c.due_at,
    deliveries.c.event_id,
    sqlite_where=_WAITING,
    postgresql_where=_WAITING,
)
# What people look at: few rows, and nothing is paid for them when an event is stored.
_ENDED_BADLY = deliveries.c.state.in_(("failed", "unforwardable", "voided"))
Index(
    "deliveries_undelivered",
    deliveries.c.state,
    deliveries.c.event_id,
    sqlite_where=_ENDED_BADLY,
    postgresql_where=_ENDED_BADLY,
)

attempts = Table(
    "attempts",
    METADATA,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("started_at", _Id, nullable=False),
    Column("milliseconds", Integer, nullable=False),
    Column("events", Integer, nullable=False, comment="how many were in it"),
    Column("status", Integer, comment="NULL: there was no answer"),
    Column("answer", Text, nullable=False, comment="what was answered, or what went wrong; at most 20 kB"),
    comment="One row per request to Lotus.",
)

attempted = Table(
    "attempted",
    METADATA,
    Column("event_id", _Id, primary_key=True, autoincrement=False),
    Column("attempt_id", _Id, primary_key=True, autoincrement=False),
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
    Column("paused_at", _Id),
    Column("probe_at", _Id, nullable=False, comment="when one worker tries again, while it is paused"),
    comment="How it stands with what events are sent to.",
    sqlite_with_rowid=False,
)

usage_tail = Table(
    "usage_tail",
    METADATA,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("events", LargeBinary, nullable=False, comment="ids of the events that it stored, 8 bytes each"),
    Column("voids", LargeBinary, nullable=False, comment="ids of the events that it made void"),
    Column("first_call", _Id, nullable=False, comment="the smallest id of a call that made one of its events"),
    comment="What each commit did to events and no bucket knows yet. Written with it, deleted by a fold.",
)

usage_metrics = Table(
    "usage_metrics",
    METADATA,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("meaning", _Digest, nullable=False, comment="of its definition; a description is no part of it"),
    Column("event_name", Text, nullable=False),
    # What tells folds, the build and answers apart, see app.usage.folding.
    Column("cursor", _Id, nullable=False, comment="its buckets hold the folded events up to this id, and ..."),
    Column("until_id", _Id, nullable=False, comment="... above this one: the largest there was when it began"),
    Column("done", _Id, nullable=False, comment="events of history that were looked at"),
    Column("total", _Id, nullable=False, comment="events there were when it began"),
    UniqueConstraint("meaning", name="usage_metrics_meaning"),
    comment="The metrics that have buckets, and how far these came.",
)

usage_buckets = Table(
    "usage_buckets",
    METADATA,
    # Read by period, for one customer or for all, and written where time is now: so the bucket comes first.
    Column("metric", _Id, primary_key=True, autoincrement=False),
    Column("level", SmallInteger, primary_key=True, autoincrement=False, comment="0: quarter hours, 1: days, of UTC"),
    Column("bucket", _Id, primary_key=True, autoincrement=False, comment="its number since 1970"),
    Column("customer_id", Text, primary_key=True),
    Column("grp", Text, primary_key=True, comment="JSON list of the texts of the metric's group_by"),
    Column("count", _Id, nullable=False),
    Column("value", Text, comment="the sum, or the best value: an exact decimal"),
    Column("best_at", _Id, comment="time_created of the latest value"),
    Column("best_id", _Id),
    Column("skipped", Text, comment="JSON: how many, by reason"),
    Column("first_call", _Id, nullable=False, comment="ids between which the calls of its events lie"),
    Column("last_call", _Id, nullable=False),
    comment="What the events of a quarter hour or a day add to a metric. All of it can be made again from events.",
    sqlite_with_rowid=False,
)

usage_folds = Table(
    "usage_folds",
    METADATA,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("done", _Id, nullable=False, comment="grows with every step: who computed from an older state starts over"),
    Column("holder", _Id, nullable=False, comment="the process that folds"),
    Column("held_until", _Id, nullable=False),
    comment="One row: whose turn it is to add up.",
)
