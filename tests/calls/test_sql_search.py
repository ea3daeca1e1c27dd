"""Looking for calls in bounded steps finds what a look at all of them would, and says how far it came."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import sqlalchemy as sa

from app.calls import sql_search as search
from app.calls.sql_search import search_calls
from app.core.outcome import Outcome, Reason
from app.store.engine import Database
from app.store.ids import Ids
from app.store.review import CallFilters, list_call_ids
from app.store.schema import calls
from app.store.walk import SearchPage
from tests.builders import NOW, a_document, an_ingest, post, rows_of, some_transforms, to_raw

SECOND = 1_000_000

DOCUMENTS: list[object] = [
    a_document(messageId="m-1", userId="ann"),
    a_document(messageId="m-2", userId="ann", event="Seats"),
    a_document(messageId="m-1", userId="ann"),
    a_document(messageId="m-1", userId="ann", properties={"tokens": 11, "note": "Gr\u00fc\u00dfe"}),
    a_document(messageId="m-3", userId="bob"),
    a_document(messageId="m-4", userId="", properties={"note": "100 % \\ _"}),
    {"type": "identify", "messageId": "m-5", "userId": "ann"},
    {"type": "wave", "messageId": "m-6", "userId": "bob"},
    "no object",
    a_document(messageId="m-7", userId="bob", event=""),
    a_document(messageId="m-8", userId="bob", event="Seats"),
    a_document(messageId="m-8", userId="bob", event="Seats", properties={"note": "LOUD"}),
    # Bytes of a sender that writes UTF-8 and no escapes.
    a_document(messageId="m-9", userId="cara", properties={"note": "Stra\u00dfe"}),
]

FILTERS = {
    "none": CallFilters(),
    "transform": CallFilters(transform="seats"),
    "stored": CallFilters(outcomes=(Outcome.STORED,)),
    "stored event": CallFilters(outcomes=(Outcome.STORED,), event="Seats"),
    "event": CallFilters(event="API Call"),
    "event and transform": CallFilters(event="API Call", transform="_default"),
    "two outcomes": CallFilters(outcomes=(Outcome.REJECTED, Outcome.CONFLICT)),
    "three outcomes and event": CallFilters(
        outcomes=(Outcome.REJECTED, Outcome.STORED, Outcome.DUPLICATE), event="API Call"
    ),
    "reason": CallFilters(reason=Reason.EVENT_INVALID),
    "customer": CallFilters(customer="ann"),
    "customer and event": CallFilters(customer="ann", event="API Call"),
    "customer and outcome": CallFilters(customer="ann", outcomes=(Outcome.IGNORED,)),
    "id": CallFilters(id="m-1"),
    "id and outcome": CallFilters(id="m-1", outcomes=(Outcome.STORED, Outcome.CONFLICT)),
    "time": CallFilters(since=NOW + 2 * SECOND, until=NOW + 7 * SECOND),
    "nothing": CallFilters(event="no such event", outcomes=(Outcome.IGNORED,)),
}


def fill(database: Database) -> None:
    """Store calls of every outcome, a second apart."""
    clock = iter(range(NOW, NOW + 100 * SECOND, SECOND))
    transforms = some_transforms(seats="match:\n  event: Seats\n")
    ingest = an_ingest(database, transforms, Ids(lambda _below: 7), clock=lambda: next(clock))
    for document in DOCUMENTS[:-1]:
        post(ingest, to_raw(document))
    post(ingest, json.dumps(DOCUMENTS[-1], ensure_ascii=False).encode())


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def searched(
    request: pytest.FixtureRequest, make_database: Callable[[str], AbstractContextManager[Database]]
) -> Iterator[Database]:
    """A database with these calls, which tests share and only read."""
    with make_database(request.param) as database:
        fill(database)
        yield database


@pytest.fixture
def rewritten(database: Database) -> Database:
    """A database with these calls, which the test changes."""
    fill(database)
    return database


def walk(database: Database, filters: CallFilters, text: str | None = None, **bounds: Any) -> list[SearchPage]:
    """Go on step by step until there are no more calls."""
    steps: list[SearchPage] = []
    before: int | None = None
    while True:
        with database.reading() as conn:
            steps.append(search_calls(conn, filters, text, before=before, **bounds))
        assert len(steps) < 100
        if steps[-1].reached is None:
            return steps
        assert before is None or steps[-1].reached < before, "a step goes on"
        before = steps[-1].reached


@pytest.mark.parametrize("name", FILTERS)
def test_small_steps_find_what_one_walk_over_everything_finds(searched: Database, name: str) -> None:
    filters = FILTERS[name]
    with searched.reading() as conn:
        expected = list_call_ids(conn, filters, limit=100)
    for most in (1, 2, 3, 5, 1000):
        for limit in (1, 2, 50):
            steps = walk(searched, filters, limit=limit, most=most)
            assert [one for step in steps for one in step.ids] == expected, (most, limit)
            assert all(len(step.ids) <= limit for step in steps)


@pytest.mark.parametrize("name", FILTERS)
def test_a_text_is_looked_for_among_the_calls_that_fit_the_filters(searched: Database, name: str) -> None:
    filters = FILTERS[name]
    raws = dict(rows_of(searched, calls, calls.c.id, calls.c.raw))
    with searched.reading() as conn:
        expected = [one for one in list_call_ids(conn, filters, limit=100) if b'"bob"' in raws[one]]
    for most in (1, 3, 1000):
        steps = walk(searched, filters, '"BOB"', limit=2, most=most)
        assert [one for step in steps for one in step.ids] == expected, most


def found_notes(database: Database, text: str) -> int:
    return sum(len(step.ids) for step in walk(database, CallFilters(), text))


def test_ascii_letters_fit_in_either_case_and_escaped_text_is_found_like_plain(searched: Database) -> None:
    assert found_notes(searched, "loud") == found_notes(searched, "LOUD") == 1
    assert found_notes(searched, "Gr\u00fc\u00dfe") == 1, "sent as an escape"
    assert found_notes(searched, "stra\u00dfe") == 1, "sent as UTF-8"


def test_no_sign_of_the_text_has_a_meaning_of_its_own(searched: Database) -> None:
    assert found_notes(searched, "100 % \\ _") == 1
    for text in ("%", "_", "100 _", "l_ud", "l%d", "'; DROP TABLE calls; --", "\0", "\ud83d", "["):
        assert found_notes(searched, text) == sum(
            text in json.dumps(one) or json.dumps(text)[1:-1] in json.dumps(one) for one in DOCUMENTS
        ), text


def test_bytes_that_are_no_text_are_rewritten_and_bytes_that_are_gone_are_passed_over(rewritten: Database) -> None:
    [first, second, *_] = [row[0] for row in rows_of(rewritten, calls, calls.c.id)]
    with rewritten.writing() as conn:
        conn.execute(sa.update(calls).where(calls.c.id == first).values(raw=b"\xff\x00Needle\xfe"))
        conn.execute(sa.update(calls).where(calls.c.id == second).values(raw=None))
    [step] = walk(rewritten, CallFilters(), "needle")
    assert step.ids == [first]


def test_of_a_long_call_the_beginning_is_rewritten(rewritten: Database) -> None:
    [first, *_] = [row[0] for row in rows_of(rewritten, calls, calls.c.id)]
    with rewritten.writing() as conn:
        raw = b"early" + b"x" * search.HEAD_BYTES + b"late"
        conn.execute(sa.update(calls).where(calls.c.id == first).values(raw=raw))
    assert found_notes(rewritten, "early") == 1
    assert found_notes(rewritten, "late") == 0


def test_a_step_says_how_many_calls_it_looked_at_and_how_far_back_it_came(searched: Database) -> None:
    newest_first = [row[0] for row in rows_of(searched, calls, calls.c.id)][::-1]
    with searched.reading() as conn:
        by_text = search_calls(conn, CallFilters(), "not there", most=5)
        by_filter = search_calls(conn, CallFilters(transform="none of them"), most=5)
        rest = search_calls(conn, CallFilters(), "not there", before=by_text.reached)
    for step in (by_text, by_filter):
        assert (step.ids, step.looked_at, step.reached, step.full) == ([], 5, newest_first[4], False)
    assert (rest.looked_at, rest.reached) == (len(DOCUMENTS) - 5, None)


def test_a_full_page_says_that_there_is_more_and_an_exact_one_that_there_is_not(searched: Database) -> None:
    with searched.reading() as conn:
        assert search_calls(conn, CallFilters(), limit=len(DOCUMENTS) - 1).full
        whole = search_calls(conn, CallFilters(), limit=len(DOCUMENTS))
    assert (len(whole.ids), whole.full, whole.reached) == (len(DOCUMENTS), False, None)
