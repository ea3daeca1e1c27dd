"""Bad files: the line, the field and why; nothing of them is loaded, and the good lines only if asked."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.backfill import repeats
from app.backfill.repeats import Repeats
from app.core.segment import MAX_CALL_BYTES
from app.store.engine import Database
from app.store.schema import calls, corrections
from tests.backfill.backfilling import (
    CALL_COLUMNS,
    EVENT_COLUMNS,
    REASON,
    Type,
    expected_events,
    judge,
    ndjson,
    some_calls,
    some_events,
    stored_events,
    table,
)
from tests.builders import MISSING, rows_of, to_raw


def call_with(**members: Any) -> bytes:
    """Return call 2, changed, as a line."""
    [document] = some_calls([2])
    return ndjson([{name: value for name, value in (document | members).items() if value is not MISSING}])


def event_with(**fields: Any) -> bytes:
    """Return event 2, changed, as a line."""
    [document] = some_events([2])
    return ndjson([{name: value for name, value in (document | fields).items() if value is not MISSING}])


def cells(*values: str) -> bytes:
    """Return cells as a line of CSV."""
    return ",".join(values).encode() + b"\n"


DEEP = b'{"a":' * 300 + b"1" + b"}" * 300
LONG = "x" * MAX_CALL_BYTES

BAD_CALLS: dict[str, tuple[bytes, str]] = {
    "a broken line": (call_with()[:-3] + b"\n", "line 2: The call is not JSON"),
    "no object": (b"[1]\n", "line 2: A call must be an object; this is an array."),
    "no message id": (call_with(messageId=MISSING), "line 2: messageId is missing"),
    "an empty message id": (call_with(messageId=""), "line 2: messageId is missing"),
    "no type": (call_with(type=MISSING), "line 2: `type` must be text, such as track; it is missing."),
    "no event": (call_with(event=MISSING), "line 2: `event` of a track call must be text; it is missing."),
    "no timestamp": (call_with(timestamp=MISSING), "line 2: timestamp is missing"),
    "no time": (call_with(timestamp="yesterday"), "line 2: timestamp: 'yesterday' is not a time"),
    "an id twice": (call_with(messageId="m-1"), "line 2: line 1 has the same messageId"),
    "an id twice, once as a number": (call_with(messageId=1.0) + call_with(messageId="1"), "line 3"),
    "Latin-1": (call_with(userId="caf!").replace(b"!", b"\xe9"), "byte e9 at column"),
    "NUL": (call_with(userId="!").replace(b"!", b"\0"), "line 2: `userId` holds the control character U+0000"),
    "too long": (call_with(userId=LONG), "line 2: it is longer than 1,048,576 bytes"),
    "too deep": (call_with(properties=0).replace(b":0,", b":" + DEEP + b","), "line 2: The call nests deeper than 200"),
    "NaN": (call_with(properties=0).replace(b":0,", b':{"a":NaN},'), "line 2: `properties.a` is NaN"),
}

BAD_EVENTS: dict[str, tuple[bytes, str]] = {
    "no id": (event_with(idempotency_id=MISSING), "line 2: No idempotency_id provided"),
    "no name": (event_with(event_name=""), "line 2: No event_name provided"),
    "no time": (event_with(time_created=MISSING), "line 2: time_created is null; it must be a time"),
    "a huge number": (event_with(properties=0).replace(b":0}", b':{"a":1e400}}'), "line 2: properties"),
    "NUL": (event_with(properties={"a": "\0"}), "line 2: properties.a holds a NUL character"),
    "half a surrogate pair": (event_with(customer_id="\ud83d"), "line 2: customer_id holds half of a surrogate pair"),
    "an id twice": (event_with(idempotency_id="m-1"), "line 2: line 1 has the same idempotency_id"),
    "properties that are a list": (event_with(properties=[1]), "line 2: properties is an array; it must be an object"),
    "an id that is too long": (event_with(idempotency_id="x" * 256), "line 2: idempotency_id has 256 characters"),
}

FULL = cells("m-2", "track", "api_call", "customer-2", "2026-11-03T02:00:00Z", "", "", "2")

BAD_TABLES: dict[str, tuple[bytes, str]] = {
    "a cell more": (FULL[:-1] + b",3\n", "line 2: it has 9 cells, and the header 8"),
    "a cell less": (FULL[:-3] + b"\n", "line 2: it has 7 cells, and the header 8"),
    "a quote that never ends": (b'"m-2' + FULL[3:], "line 2: it is no CSV: unexpected end of data"),
    "text behind a quote": (b'"m-2"x' + FULL[3:], "line 2: it is no CSV: ',' expected after '\"'"),
    "no id": (FULL.replace(b"m-2", b""), "line 2: messageId is missing"),
    "a huge number": (FULL[:-2] + b"1e400\n", "line 2, properties.tokens: the number is too large"),
    "Latin-1": (FULL.replace(b"customer-2", b"caf\xe9"), "line 2: byte e9 at column"),
}


def refused(type_: Type, database: Database, name: str, content: bytes, sentence: str, *words: str) -> str:
    """Type the command; its refusal says the sentence and leaves nothing. Return the text of the error."""
    Path(name).write_bytes(content)
    answer = type_("backfill", name, *words, *REASON, "--yes")
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert sentence in answer.stderr
    assert rows_of(database, calls) == rows_of(database, corrections) == []
    return answer.stderr


def bad_file(kind: str, bad: bytes) -> tuple[str, bytes, list[str]]:
    """Return name, content and options of a file whose first row is good, and then comes what is bad."""
    if kind == "calls":
        return "bad.ndjson", ndjson(some_calls([1])) + bad, []
    if kind == "events":
        return "bad.ndjson", ndjson(some_events([1])) + bad, ["--of", "events"]
    # The header is line 1 of a table.
    return "bad.csv", table(CALL_COLUMNS, []) + bad, []


@pytest.mark.parametrize(
    ("kind", "case"),
    [
        *(("calls", case) for case in BAD_CALLS),
        *(("events", case) for case in BAD_EVENTS),
        *(("table", case) for case in BAD_TABLES),
    ],
)
def test_one_bad_line_keeps_all_of_the_file_out_and_is_named(
    file_database: Database, type_file: Type, kind: str, case: str
) -> None:
    bad, sentence = {"calls": BAD_CALLS, "events": BAD_EVENTS, "table": BAD_TABLES}[kind][case]
    name, content, words = bad_file(kind, bad)
    text = refused(type_file, file_database, name, content, sentence, *words)
    assert "1 line of" in text
    assert "nothing was loaded; --skip-bad loads the good lines" in text


BAD_WHOLE: dict[str, tuple[str, bytes, str]] = {
    "a gzip that ends in the middle": (
        "a.gz",
        gzip.compress(ndjson(some_calls(range(200))))[:-40],
        "its gzip data is broken after line",
    ),
    "a gzip with a wrong byte": (
        "a.gz",
        gzip.compress(ndjson(some_calls(range(200))))[:-8] + bytes(8),
        "its gzip data is broken after line 0: CRC check failed",
    ),
    "UTF-16": ("a.ndjson", ndjson(some_calls([1])).decode().encode("utf-16"), "line 1 begins with the bytes ff fe"),
    "a header with a column twice": (
        "a.csv",
        table([*CALL_COLUMNS, "userId"], some_calls([1])),
        "the header, line 1: the column 'userId' is there twice",
    ),
    "a header without an id": ("a.csv", table(CALL_COLUMNS[1:], some_calls([1])), "there is no column messageId"),
    "semicolons": ("a.csv", b"messageId;type;timestamp\nm-1;track;2026\n", "cells are separated by commas"),
    "a column in another": (
        "a.csv",
        table([*CALL_COLUMNS, "properties"], some_calls([1])),
        "holds 'properties.tokens'",
    ),
    "a column without a name": ("a.csv", b"messageId,type,timestamp,\n", "column 4, '', is no path"),
    "a header in Latin-1": ("a.csv", b"messageId,type,timestamp,caf\xe9\n", "the header, line 1: byte e9 at column 29"),
}


@pytest.mark.parametrize("case", BAD_WHOLE)
def test_a_file_that_is_bad_as_a_whole_is_refused_whatever_is_asked(
    file_database: Database, type_file: Type, case: str
) -> None:
    refused(type_file, file_database, *BAD_WHOLE[case], "--skip-bad")


def test_a_column_that_no_event_has_is_refused(file_database: Database, type_file: Type) -> None:
    content = table([*EVENT_COLUMNS, "tokens"], some_events([1], tokens=1))
    refused(type_file, file_database, "a.csv", content, "write properties.tokens", "--of", "events", "--skip-bad")


def test_the_first_bad_lines_are_shown_all_are_written_and_the_good_ones_loaded_if_asked(
    file_database: Database, type_file: Type
) -> None:
    documents = some_calls(range(1, 41))
    for number in range(2, 32):
        documents[number]["timestamp"] = "never"
    documents[35] = documents[0]
    Path("day.ndjson").write_bytes(ndjson(documents))
    words = ("backfill", "day.ndjson", *REASON, "--yes", "--bad", "bad.ndjson")
    answer = type_file(*words)
    assert "31 lines of 40 cannot be loaded" in answer.stderr
    assert answer.stderr.count("  line ") == 20
    assert "and 11 more: --bad FILE writes all of them" in answer.stderr
    written = [json.loads(line) for line in Path("bad.ndjson").read_bytes().splitlines()]
    assert [line["line"] for line in written] == [*range(3, 33), 36]
    assert written[-1] == {"line": 36, "why": "line 1 has the same messageId", "path": "messageId"}
    answer = type_file(*words, "--skip-bad", "--json")
    assert (answer.exit_code, json.loads(answer.stdout)["calls"]) == (0, {"stored": 9})
    assert stored_events(file_database) == expected_events([1, 2, 33, 34, 35, 37, 38, 39, 40])
    judge(file_database)


def test_cells_are_text_where_ids_and_times_stand_and_json_elsewhere_if_they_can_be_read_as_that(
    file_database: Database, type_file: Type
) -> None:
    row = {
        "event_name": "api_call",
        "idempotency_id": "1e5",
        "customer_id": "007",
        "time_created": "2026-11-01",
        "properties": {
            "tokens": 1.5,
            "zip": "00123",
            "note": 'a "quoted"\nline',
            "tags": [1, "a"],
            "deep": {"is": True},
        },
    }
    columns = (*EVENT_COLUMNS, "properties.zip", "properties.note", "properties.tags", "properties.deep.is")
    Path("a.csv").write_bytes(table(columns, [row]))
    assert type_file("backfill", "a.csv", "--of", "events", *REASON, "--yes").exit_code == 0
    [(id_, customer, _, properties)] = stored_events(file_database)
    assert (id_, customer, json.loads(properties)) == ("1e5", "007", row["properties"])


@pytest.mark.parametrize("large", [1, 5000])
def test_half_a_surrogate_pair_ends_as_it_does_live(
    file_database: Database, type_file: Type, monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr("app.backfill.mapper._LARGE", large)
    Path("a.ndjson").write_bytes(call_with(messageId="\ud83d", properties={"tokens": "\ud83d"}))
    answer = type_file("backfill", "a.ndjson", *REASON, "--yes", "--json")
    # The same call, sent to the webhook, is rejected for the same reason.
    assert json.loads(answer.stdout)["calls"] == {"rejected": 1}


def test_ids_that_repeat_are_found_in_files_larger_than_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "_IN_MEMORY_BYTES", 100)
    with Repeats() as ids:
        for line in range(1, 3001):
            ids.add(f"id-{line % 2990}", line)
        assert sorted(ids.find()) == [(2990 + number, number) for number in range(1, 11)]


@pytest.mark.parametrize("large", [1, 5000])
def test_a_file_that_changes_while_it_is_read_is_refused(
    file_database: Database,
    type_file: Type,
    monkeypatch: pytest.MonkeyPatch,
    make_change: Callable[[], None],
    large: int,
) -> None:
    monkeypatch.setattr("app.backfill.mapper._LARGE", large)
    Path("day.ndjson").write_bytes(ndjson(some_calls([1])))
    monkeypatch.setattr("click.confirm", lambda *_words, **_more: make_change())
    answer = type_file("backfill", "day.ndjson", *REASON)
    assert "day.ndjson was changed while it was read" in answer.stderr
    assert stored_events(file_database) == []


@pytest.fixture
def make_change() -> Callable[[], None]:
    """Append to the file."""

    def append() -> None:
        with Path("day.ndjson").open("ab") as file:
            file.write(to_raw(some_calls([2])[0]) + b"\n")

    return append
