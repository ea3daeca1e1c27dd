"""Calls, their requests, events, claims and refusals."""

from sqlalchemy import Column, Index, Integer, LargeBinary, SmallInteger, Table, Text, UniqueConstraint

from app.store.schema.base import METADATA, Digest, Id

requests = Table(
    "requests",
    METADATA,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("received_at", Id, nullable=False),
    Column("auth", Text, nullable=False, comment="what vouched for it: signature, first_call, bearer or basic"),
    Column("shape", Text, nullable=False),
    Column("envelope", LargeBinary, comment="JSON of what a batch says outside its items, without the write key"),
    # Steps that all calls of a request share, so that a call of a batch stores only one time of its own.
    Column("verified_after", Id, comment="microseconds after received_at, as all that is called so"),
    Column("parsed_after", Id),
    Column("stored_after", Id, comment="when its rows were handed to the database; the commit follows"),
    comment="One row per request that was taken: what its calls share.",
)

calls = Table(
    "calls",
    METADATA,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("request_id", Id, nullable=False),
    Column("position", Integer, nullable=False, comment="place in its request, from 0"),
    Column("received_at", Id, nullable=False),
    Column("route", Text, nullable=False),
    Column("raw", LargeBinary, comment="the call's own bytes as they came; NULL after retention"),
    Column("type", Text),
    Column("message_id", Text, comment="as an indexable key: cleaned, and shortened if too long"),
    Column("event", Text),
    Column("customer_id", Text, comment="of its event, else the call's userId"),
    Column("outcome", Text, nullable=False),
    Column("reason", Text),
    Column("detail", Text, comment="one sentence for people"),
    Column("transform", Text),
    Column("transform_digest", Digest),
    Column("results", Text, comment="JSON list with the result of each event, where not all were simply stored"),
    Column("mapped_after", Id, comment="when its transform was chosen, and its events were made and checked"),
    Column("came_unstored", SmallInteger, comment="1: it was not stored when it came; NULL: it was"),
    Column("fault", Digest, comment="key of `faults`; NULL: it made its events, or another call did"),
    comment="One row per Segment call: its bytes and its one outcome.",
)
# Review by event name. Few names and ascending ids: each name appends to its own page.
Index("calls_event", calls.c.event, calls.c.id)
# Calls that made an event are found by customer and by message through `events` and `claims`. The others are few, so
# their indexes are partial and cost nothing on the hot path.
_NOT_STORED = calls.c.outcome != "stored"
Index("calls_unstored_outcome", calls.c.outcome, calls.c.id, sqlite_where=_NOT_STORED, postgresql_where=_NOT_STORED)
# A replay that stores a million calls would remove each of them from this index, at a random place. SQLite would write
# a page for each, so there a call stays in the index. PostgreSQL's vacuum removes them a whole page at a time.
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

# Each fault appends to its own pages. Counting a fault reads nothing else.
_HAS_FAULT = calls.c.fault.is_not(None)
Index("calls_fault", calls.c.fault, calls.c.id, sqlite_where=_HAS_FAULT, postgresql_where=_HAS_FAULT)

faults = Table(
    "faults",
    METADATA,
    Column("key", Digest, primary_key=True, comment="digest of the other columns"),
    Column("outcome", Text, nullable=False),
    Column("reason", Text),
    Column("transform", Text),
    Column("transform_digest", Digest),
    Column("path", Text, nullable=False, comment="in the call, the event or the transform; '' where there is none"),
    Column("sentence", Text, nullable=False, comment="without what differs from call to call"),
    comment="One row per way in which calls fail, written with the first of them.",
    sqlite_with_rowid=False,
)

events = Table(
    "events",
    METADATA,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("idempotency_id", Text, nullable=False),
    Column("call_id", Id, nullable=False),
    Column("lane", Text, nullable=False),
    Column("position", Integer, nullable=False, comment="place among the events of its call and lane, from 0"),
    Column("event_name", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("time_created", Id, nullable=False),
    # Not jsonb, which refuses lone surrogates and huge numbers; no query reads inside.
    Column("properties", Text, nullable=False),
    Column("content", Digest, nullable=False, comment="digest of event_name, customer_id, properties"),
    Column("transform", Text, nullable=False),
    Column("transform_digest", Digest, nullable=False),
    Column("voided_at", Id),
    Column("voided_by", Digest, comment="digest of the version that made it void; NULL: a person did"),
    Column("void_reason", Text),
    # Not parsed from the id: an id that a transform makes may itself end in `~2`.
    Column("base_id", Text, comment="its idempotency id before any correction; NULL: the same"),
    Column("revision", SmallInteger, comment="2 and more: it was made by a correction; NULL: 1"),
    Column("stored_at", Id, comment="by the clock that all writers share; NULL: before there was this column"),
    # The first of the two keys that decide, permanently, what is a duplicate.
    UniqueConstraint("idempotency_id", name="events_idempotency_id"),
    comment="One row per Lotus event.",
)
Index("events_call", events.c.call_id)
Index("events_customer", events.c.customer_id, events.c.call_id)
_CORRECTED = events.c.base_id.is_not(None)
Index("events_base", events.c.base_id, sqlite_where=_CORRECTED, postgresql_where=_CORRECTED)
# What an answer as of a moment puts back: the events that became void since.
_VOID = events.c.voided_at.is_not(None)
Index("events_voided", events.c.voided_at, sqlite_where=_VOID, postgresql_where=_VOID)

claims = Table(
    "claims",
    METADATA,
    # The second key: a message makes its events once, whatever the transforms and their lanes are today.
    Column("message_id", Text, primary_key=True),
    Column("lane", Text, primary_key=True, comment="main: who has the message; others: what was made there"),
    Column("call_id", Id, nullable=False),
    Column("content", Digest, nullable=False, comment="digest over the contents of the lane's events"),
    Column("transform_digest", Digest, nullable=False),
    comment="Which call made the events of a message.",
    sqlite_with_rowid=False,
)

ledger = Table(
    "ledger",
    METADATA,
    Column("minute", Id, primary_key=True, autoincrement=False, comment="minutes since 1970"),
    Column("node", SmallInteger, primary_key=True, autoincrement=False, comment="id tag of the writing process"),
    Column("subject", Text, primary_key=True, comment="call or event"),
    Column("outcome", Text, primary_key=True),
    Column("reason", Text, primary_key=True, comment="'' where there is none"),
    Column("count", Id, nullable=False),
    comment="Counts, written in the transaction of what they count. Each process adds to rows of its own.",
    sqlite_with_rowid=False,
)

refusals = Table(
    "refusals",
    METADATA,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("received_at", Id, nullable=False),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("headers", Text, nullable=False, comment="JSON object, without credentials"),
    Column("body_start", LargeBinary, nullable=False, comment="first 2 kB"),
    Column("client", Text, comment="its address, as far as TRUSTED_PROXIES tells; NULL: refused before this was kept"),
    Column("sender", Text, comment="segment, sdk, machine, authentic or stranger"),
    Column("diagnosis", Text, comment="why its signature does not match, for people; NULL: nobody knows"),
    comment="The last requests that were turned away as a whole.",
)
