"""What the tests of backfills share: calls and events as files, and the command as it is typed."""

import contextlib
import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from click.testing import Result

from app.backfill.batch import FileSelection
from app.backfill.formats import Content, Format
from app.backfill.loader import Loader
from app.backfill.mapper import Mapper
from app.backfill.source import open_source
from app.backfill.survey import check_source
from app.catalog.live import build_catalog
from app.clock import clock
from app.service.build import backfill_hooks
from app.store.engine import Database
from app.store.schema import calls, corrected_events, corrections, events
from tests.builders import a_document, published, rows_of, some_ids, some_transforms, to_raw
from tests.corrections.correcting import METRICS, check
from tests.metrics.conftest import publish

Type = Callable[..., Result]

REASON = ("--reason", "the day of the outage", "--author", "ann")


def a_time(number: int) -> str:
    """Return a time of the first days of November, another for each number."""
    return f"2026-11-{1 + number % 3:02}T{number % 24:02}:00:00Z"


def some_calls(numbers: Iterable[int], **members: Any) -> list[dict[str, Any]]:
    """Return calls `m-<number>` with so many tokens."""
    return [
        a_document(
            messageId=f"m-{number}",
            event="api_call",
            userId=f"customer-{number % 3}",
            timestamp=a_time(number),
            # An SDK whose clock is an hour ahead: nothing of it is corrected.
            sentAt="2026-11-05T11:00:00Z",
            originalTimestamp="2026-11-05T11:00:00Z",
            properties={"tokens": number},
            **members,
        )
        for number in numbers
    ]


def some_events(numbers: Iterable[int], **members: Any) -> list[dict[str, Any]]:
    """Return the events that the default transform makes of `some_calls`."""
    return [
        {
            "event_name": "api_call",
            "idempotency_id": f"m-{number}",
            "customer_id": f"customer-{number % 3}",
            "time_created": a_time(number),
            "properties": {"tokens": number},
            **members,
        }
        for number in numbers
    ]


def ndjson(documents: Iterable[object]) -> bytes:
    """Return JSON values as lines."""
    return b"".join(to_raw(document) + b"\n" for document in documents)


def table(columns: Sequence[str], documents: Iterable[dict[str, Any]]) -> bytes:
    """Return documents as CSV with these paths as columns."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for document in documents:
        row = []
        for column in columns:
            value: Any = document
            for name in column.split("."):
                value = value[name]
            row.append(value if isinstance(value, str) else json.dumps(value))
        writer.writerow(row)
    return text.getvalue().encode()


CALL_COLUMNS = ("messageId", "type", "event", "userId", "timestamp", "sentAt", "originalTimestamp", "properties.tokens")
EVENT_COLUMNS = ("event_name", "idempotency_id", "customer_id", "time_created", "properties.tokens")


def prepare(database: Database) -> None:
    """Make the default transform and the metrics live."""
    published(database, some_transforms())
    publish(database, *METRICS)


def expected_events(numbers: Iterable[int]) -> list[tuple[str, str, str, str]]:
    """Return what `stored_events` returns once the calls or events of these numbers are there."""
    return sorted(
        (f"m-{number}", f"customer-{number % 3}", a_time(number), f'{{"tokens":{number}}}') for number in numbers
    )


def stored_events(database: Database) -> list[tuple[str, str, str, str]]:
    """Return id, customer, time and properties of the events that count."""
    columns = ("idempotency_id", "customer_id", "time_created", "properties", "voided_at")
    rows = rows_of(database, events, *(events.c[name] for name in columns))
    return sorted((row[0], row[1], _to_time(row[2]), row[3]) for row in rows if row[4] is None)


def _to_time(micros: int) -> str:
    seconds = micros // 1_000_000 - 1_793_491_200  # 2026-11-01T00:00:00Z
    day, rest = divmod(seconds, 86_400)
    assert rest % 3600 == 0
    return f"2026-11-{1 + day:02}T{rest // 3600:02}:00:00Z"


def judge(database: Database) -> None:
    """Judge by rows alone: the ledger, the metrics, and that each added event is of a call of the batch."""
    check(database)
    added = {row[1] for row in rows_of(database, corrected_events) if row[3] == "added"}
    backfilled = {
        row[0] for row in rows_of(database, calls, calls.c.id, calls.c.route) if row[1].startswith("backfill")
    }
    of_calls = rows_of(database, events, events.c.id, events.c.call_id)
    assert added == {event for event, call in of_calls if call in backfilled}


def batches(database: Database) -> list[tuple[str, str]]:
    """Return kind and state of each batch."""
    return rows_of(database, corrections, corrections.c.kind, corrections.c.state)


@contextlib.contextmanager
def a_loader(database: Database, path: Path, tag: int = 41) -> Iterator[Loader]:
    """Yield the loader of a file of calls, as a process with this tag has it."""
    catalog, ids = build_catalog(""), some_ids(tag)
    catalog.refresh(database)
    with open_source(str(path), sys.stdin.buffer) as source:
        survey = check_source(
            source, Format.NDJSON, Content.CALLS, note_bad=lambda _bad: None, advance=lambda _bytes: None
        )
        mapper = Mapper(
            source=source,
            format=Format.NDJSON,
            content=Content.CALLS,
            survey=survey,
            transforms=catalog.active,
            pseudonym_key=None,
        )
        selection = FileSelection(
            file=source.name,
            sha256=source.digest(),
            format=Format.NDJSON,
            of=Content.CALLS,
            rows=survey.rows,
            bad=0,
        )
        yield Loader(
            database=database,
            catalog=catalog,
            ids=ids,
            clock=clock,
            hooks=backfill_hooks(ids, forwards=False),
            selection=selection,
            mapper=mapper,
        )
