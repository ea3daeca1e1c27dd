"""Retention: the bytes of old calls go, everything else stays."""

import msgspec
import pytest
import sqlalchemy as sa

from app.calls.sql_retention import (
    BATCH,
    ENVELOPE,
    RAW,
    RetentionTarget,
    blank,
    count_filled,
    find_filled,
    first_envelope,
)
from app.store.engine import Database
from app.store.schema import METADATA, calls, requests
from tests.builders import a_record, a_request, a_writer, an_event, rows_of, store, values_of


def forget(database: Database, target: RetentionTarget, below: int) -> list[int]:
    """Blank everything below an id; return the sizes of the batches."""
    sizes: list[int] = []
    after = -1
    while True:
        with database.reading() as conn:
            ids = find_filled(conn, target, after, below)
        if not ids:
            return sizes
        with database.writing() as conn:
            blank(conn, target, ids)
        sizes.append(len(ids))
        after = ids[-1]


def test_only_the_bytes_of_older_calls_are_forgotten(database: Database) -> None:
    records = [a_record(an_event(idempotency_id=f"{at}"), raw=b"bytes") for at in range(5)]
    store(database, *records)
    before = {table.name: rows_of(database, table) for table in METADATA.sorted_tables}
    assert forget(database, RAW, records[3].id) == [3]
    assert values_of(rows_of(database, calls, calls.c.raw)) == [None, None, None, b"bytes", b"bytes"]
    rest = [column for column in calls.c if column is not calls.c.raw]
    with_raw = list(calls.c).index(calls.c.raw)
    assert rows_of(database, calls, *rest) == [row[:with_raw] + row[with_raw + 1 :] for row in before.pop("calls")]
    assert {name: rows_of(database, METADATA.tables[name]) for name in before} == before


def test_what_was_a_duplicate_stays_one(database: Database) -> None:
    first = a_record(an_event())
    store(database, first)
    forget(database, RAW, first.id + 1)
    assert store(database, a_record(an_event())) == ["duplicate"]


def test_envelopes_are_forgotten_too(database: Database) -> None:
    with database.writing() as conn:
        for at in (1, 2, 3):
            row = {"id": at, "received_at": 0, "auth": "signature", "shape": "batch", "envelope": b"{}"}
            conn.execute(sa.insert(requests).values(row))
    assert forget(database, ENVELOPE, 3) == [2]
    assert values_of(rows_of(database, requests, requests.c.envelope)) == [None, None, b"{}"]


def test_a_batch_that_lies_across_the_edge_keeps_its_envelope(database: Database) -> None:
    """Its later calls keep their bytes; without what stood beside them a correction would bill another customer."""
    batches = []
    for batch in range(3):
        records = [a_record(an_event(idempotency_id=f"{batch}-{at}"), raw=b"bytes") for at in range(3)]
        request = msgspec.structs.replace(a_request(*records), id=records[0].id - 1, envelope=b"{}")
        for record in records:
            record.request_id = request.id
        a_writer(database).append(request)
        batches.append(records)
    below = batches[1][1].id
    with database.reading() as conn:
        edge = first_envelope(conn, below)
    forget(database, RAW, below)
    forget(database, ENVELOPE, edge)
    assert values_of(rows_of(database, requests, requests.c.envelope)) == [None, b"{}", b"{}"]
    assert values_of(rows_of(database, calls, calls.c.raw)) == [None] * 4 + [b"bytes"] * 5


@pytest.mark.parametrize("more", [0, 1])
def test_no_transaction_writes_more_than_a_batch(database: Database, more: int) -> None:
    records = [a_record(an_event(idempotency_id=f"{at}")) for at in range(BATCH + more)]
    a_writer(database).append(a_request(*records))
    below = records[-1].id + 1
    with database.reading() as conn:
        assert count_filled(conn, RAW, below) == BATCH + more
    assert forget(database, RAW, below) == [BATCH, more][: 1 + more]
    with database.reading() as conn:
        assert count_filled(conn, RAW, below) == 0
