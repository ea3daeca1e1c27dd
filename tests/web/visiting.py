"""Somebody who is signed in, and what they look at, with Flask's own client."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import html5lib
import sqlalchemy as sa

from app.store.review import CallFilters, list_call_ids
from tests.builders import a_document, to_raw
from tests.sites import Site


def page(site: Site, address: str, status: int = 200) -> str:
    """Return a page, after a look whether it is valid HTML."""
    answer = site.client.get(address)
    assert answer.status_code == status, answer.get_data(as_text=True)[:2000]
    text = answer.get_data(as_text=True)
    html5lib.HTMLParser(strict=True).parse(text)
    return text


def listed(text: str) -> list[int]:
    """Return the ids of the calls that a page lists."""
    return [int(one) for one in re.findall(r'data-id="(\d+)"', text)]


def send(site: Site, count: int = 1, first: int = 0, **members: Any) -> list[int]:
    """Send calls; return their ids, the oldest first."""
    before = set(ids(site))
    for number in range(first, first + count):
        site.send(to_raw(a_document(**{"messageId": f"m-{number}", **members})))
    return [one for one in sorted(ids(site)) if one not in before]


def ids(site: Site, **filters: Any) -> list[int]:
    with site.service.database.reading() as conn:
        return list_call_ids(conn, CallFilters(**filters), limit=1000)


@contextmanager
def counted(site: Site) -> Iterator[list[str]]:
    """Note the statements that the database is sent."""
    statements: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        # Which sessions have ended is asked once a second, whatever page comes.
        if not statement.startswith(("BEGIN", "COMMIT", "ROLLBACK")) and "ended_sessions" not in statement:
            statements.append(statement)

    engine = site.service.database.engine
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
