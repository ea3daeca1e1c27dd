"""Ready-made calls, events, transforms, records and the parts that take them; a test says only what it is about.

Everything here is built from the project's own parts, so what a test hands in is what production would hand in.
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any

import sqlalchemy as sa

from app.catalog.live import Catalog
from app.catalog.publish import Publisher
from app.core.credentials import Credentials
from app.core.lotus import DIGEST_BYTES, LotusEvent, make_event
from app.core.outcome import Outcome, Reason
from app.core.pipeline import MAIN_LANE, Lane, Run, run
from app.core.segment import Call, parse_call, read, sketch
from app.core.signature import sign
from app.core.transform.transform import DEFAULT, Transform, TransformSet, parse_transform
from app.ingest.ingest import Ingest
from app.service.build import event_hooks
from app.store import ledger
from app.store.commit import Committer
from app.store.engine import Connection, Database
from app.store.ids import Ids
from app.store.publications import Origin
from app.store.record import Record, Request
from app.store.schema import METADATA, calls, events
from app.store.settle import MapAgain
from app.store.writer import Commit, Watch, Writer

NOW = 1_793_527_200_000_000
"""2026-11-01T10:00:00Z in microseconds."""

SECRET = "a shared secret"

MISSING: Any = object()
"""Given for a member of a call: leave it out."""

DEFAULT_TEXT = """\
match:
  type: track
event:
  event_name: event
  idempotency_id: messageId
  customer_id: userId
  time_created: timestamp
  properties: properties
"""

_TAGS = itertools.count(100)
IDS = Ids(lambda below: next(_TAGS) % below)
"""One process's ids for a whole test run, so that nothing two tests make has the same id."""


def some_ids(tag: int) -> Ids:
    """Return the ids of another process."""
    return Ids(lambda _below: tag)


def a_document(**members: Any) -> dict[str, Any]:
    """Return a track call as JSON values."""
    document = {
        "type": "track",
        "messageId": "message-1",
        "userId": "customer-1",
        "event": "API Call",
        "timestamp": "2026-11-01T10:00:00.123Z",
        "properties": {"tokens": 10},
        **members,
    }
    return {key: value for key, value in document.items() if value is not MISSING}


def to_raw(document: object) -> bytes:
    """Return JSON as `JSON.stringify` writes it, in ASCII."""
    return json.dumps(document, separators=(",", ":")).encode()


def a_call(**members: Any) -> Call:
    """Return a parsed track call."""
    document = a_document(**members)
    return parse_call(to_raw(document), document)


def a_default(text: str = DEFAULT_TEXT) -> Transform:
    """Return a `_default` transform."""
    return parse_transform(DEFAULT, text, None)


def a_transform(text: str, name: str = "a_transform", default: Transform | None = None) -> Transform:
    """Return a transform that inherits from `default` (or from `a_default()`)."""
    return parse_transform(name, text, default or a_default())


def some_transforms(default: str = DEFAULT_TEXT, **texts: str) -> TransformSet:
    """Return a `_default` and transforms by name."""
    inherited = a_default(default)
    return TransformSet([inherited, *(parse_transform(name, text, inherited) for name, text in texts.items())])


def a_digest(version: str = "1") -> bytes:
    """Return the digest of a transform version that exists by name only."""
    return blake2b(version.encode(), digest_size=DIGEST_BYTES).digest()


def an_event(**fields: Any) -> LotusEvent:
    """Return a checked Lotus event."""
    values = {
        "event_name": "api_call",
        "idempotency_id": "id-1",
        "customer_id": "customer-1",
        "time_created": "2026-11-01T10:00:00Z",
        "properties": {"tokens": 10},
        **fields,
    }
    return make_event(**values)


def a_lane(*events: LotusEvent, name: str = MAIN_LANE, transform: str = "a_transform", version: str = "1") -> Lane:
    """Return what a transform made of a call: `events`, or one event."""
    made = events or (an_event(),)
    content = blake2b(b"".join(event.content for event in made), digest_size=DIGEST_BYTES).digest()
    return Lane(name, transform, a_digest(version), made, made[0].content if len(made) == 1 else content)


def a_run(*lanes: Lane, call: Call | None = None) -> Run:
    """Return a run that mapped `call` into `lanes`, or into one lane of one event."""
    made = lanes or (a_lane(),)
    return Run(None, None, None, call or a_call(), made[0].transform, made[0].digest, made)


def a_rejected_run() -> Run:
    """Return a run whose call could not be read."""
    return Run.ended(Outcome.REJECTED, Reason.NOT_AN_OBJECT, "A call must be an object; this is null.")


def a_record(done: Run | Lane | LotusEvent | None = None, *, message_id: Any = MISSING, raw: bytes = b"{}") -> Record:
    """Return a call on its way into the database; `message_id` defaults to the id of its first event."""
    if isinstance(done, LotusEvent):
        done = a_lane(done)
    if isinstance(done, Lane):
        done = a_run(done)
    done = done or a_run()
    if message_id is MISSING:
        message_id = done.lanes[0].events[0].idempotency_id if done.lanes else "message-1"
    received = IDS.next(NOW)
    return Record(received, NOW, done, message_id, "user-1", 0, 0, "webhook", raw, "track", "API Call")


def a_record_of(document: object, transforms: TransformSet) -> Record:
    """Return what Ingest makes of one call."""
    raw = to_raw(document)
    seen = read(raw)
    done = run(raw, seen, transforms, NOW)
    known = done.call or sketch(seen)
    identifier = IDS.next(NOW)
    return Record(identifier, NOW, done, known.message_id, known.user_id, 0, 0, "webhook", raw, known.type, known.event)


def a_request(*records: Record) -> Request:
    """Return a request that holds `records`."""
    request = Request(IDS.next(NOW), NOW, "signature", "array", None, list(records))
    for position, record in enumerate(records):
        record.request_id, record.position = request.id, position
    return request


def know_no_version(_conn: Connection, _call: Call, _digest: bytes, _received_at: int) -> Lane | None:
    """Map nothing again: no other version is known."""
    return None


def watch_nothing(_commit: Commit) -> None:
    """Look away."""


def a_writer(
    database: Database,
    map_again: MapAgain = know_no_version,
    ids: Ids = IDS,
    watch: Watch = watch_nothing,
) -> Writer:
    """Return a writer."""
    return Writer(Committer(database, ids, map_again, event_hooks(ids, forwards=False)), watch)


def published(database: Database, transforms: TransformSet, ids: Ids = IDS, origin: Origin = Origin.FILE) -> Catalog:
    """Make transforms live, and return the catalog of a process that maps by them."""
    catalog = Catalog()
    with database.writing() as conn:
        live = catalog.read_live(conn)
        Publisher(conn, catalog, ids.next, NOW).publish(live, [(one, origin) for one in transforms.transforms])
    catalog.refresh(database)
    return catalog


def an_ingest(database: Database, transforms: TransformSet | None = None, ids: Ids = IDS, **settings: Any) -> Ingest:
    """Return the real Ingest on `database`, with its transforms published; it takes what is signed with SECRET."""
    catalog = published(database, transforms or some_transforms(), ids)
    return Ingest(
        credentials=settings.get("credentials", Credentials(shared_secrets=(SECRET,))),
        require_full_auth=settings.get("require_full_auth", False),
        catalog=catalog,
        writer=a_writer(database, catalog.map_again, ids),
        ids=ids,
        clock=settings.get("clock", lambda: NOW),
    )


def post(ingest: Ingest, body: bytes, signed: bytes | None = None) -> list[Record]:
    """Send a body to the webhook, signed as a whole or over `signed`."""
    return ingest.take(ingest.from_webhook(sign(body if signed is None else signed, SECRET), None), body)


def store(database: Database, *records: Record, map_again: MapAgain = know_no_version) -> list[Outcome | None]:
    """Store records in one commit; return their outcomes."""
    a_writer(database, map_again).append(a_request(*records))
    return outcomes_of(records)


def outcomes_of(records: Iterable[Record]) -> list[Outcome | None]:
    """Return what became of records."""
    return [record.outcome for record in records]


def rows_of(database: Database, table: sa.Table, *columns: sa.Column[Any]) -> list[tuple[Any, ...]]:
    """Return the rows of a table in the order of its primary key."""
    query = sa.select(*(columns or table.columns)).order_by(*table.primary_key)
    with database.reading() as conn:
        return [tuple(row) for row in conn.execute(query)]


def balance(database: Database) -> Counter[tuple[str, str]]:
    """Return calls by outcome and reason, after checking that the ledger says the same as the tables."""
    rows = rows_of(database, calls, calls.c.outcome, calls.c.reason)
    counted = Counter((outcome, reason or "") for outcome, reason in rows)
    with database.reading() as conn:
        summed = ledger.sum_counts(conn)
    assert {entry[1:]: total for entry, total in summed.items() if total and entry[0] == ledger.CALL} == counted
    assert summed[ledger.EVENT, Outcome.STORED, ""] == len(rows_of(database, events, events.c.id))
    return counted


def empty(database: Database) -> None:
    """Forget all rows but Alembic's own."""
    with database.writing() as conn:
        for table in METADATA.sorted_tables:
            conn.execute(sa.delete(table))


def values_of(rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return the only column of rows."""
    return [value for (value,) in rows]
