"""Search for calls in bounded steps: by text in their bytes, and by filters that no index answers. `conn` first."""

import json
import time
from collections.abc import Callable

import sqlalchemy as sa

from app.store.arrays import among
from app.store.review_sources import CallFilters, call_sources, id_range
from app.store.schema import calls
from app.store.walk import MOST, SearchPage, WalkRange, deadline, take_step

HEAD_BYTES = 65_536
"""Only this much of each call is searched for the text; Segment's own calls have 32 KB at most."""

# Calls whose bytes are in memory at a time: this many times HEAD_BYTES.
_TEXTS_AT_ONCE = 250


def search_calls(
    conn: sa.Connection,
    filters: CallFilters,
    text: str | None = None,
    *,
    after: int | None = None,
    before: int | None = None,
    limit: int = 50,
    most: int = MOST,
) -> SearchPage:
    """Find the newest `limit` calls between `after` and `before` (both exclusive) among the first `most`.

    `text` is searched for in the bytes of the calls, plain and as JSON escapes it; ASCII letters match in either case.
    """
    low, high = id_range(filters, after, before)
    sources = call_sources(filters)
    until = deadline()
    if not text:
        return take_step(conn, sources, WalkRange(low, high, most, until), limit)
    matches = _matcher(text)
    ids: list[int] = []
    looked_at = 0
    while True:
        page = take_step(conn, sources, WalkRange(low, high, most, until), _TEXTS_AT_ONCE)
        ids += _fitting(conn, page.ids, matches)
        looked_at += len(page.ids) if page.full else page.looked_at
        if len(ids) > limit:
            return SearchPage(ids=ids[:limit], looked_at=looked_at, reached=ids[limit - 1], full=True)
        if not page.full or page.reached is None or looked_at >= most or time.monotonic() > until:
            return SearchPage(ids=ids, looked_at=looked_at, reached=page.reached, full=False)
        high = page.reached


def _fitting(conn: sa.Connection, ids: list[int], matches: Callable[[bytes], bool]) -> list[int]:
    if not ids:
        return []
    head = sa.func.substr(calls.c.raw, 1, HEAD_BYTES, type_=sa.LargeBinary)
    query = sa.select(calls.c.id, head).where(among(conn, calls.c.id, ids)).order_by(calls.c.id.desc())
    return [number for number, raw in conn.execute(query) if raw is not None and matches(raw)]


def _matcher(text: str) -> Callable[[bytes], bool]:
    plain = text.encode(errors="surrogatepass").lower()
    # As JSON writes it when a sender keeps to ASCII: e-acute is the six characters of its escape.
    escaped = _ascii_json(text).lower()
    if plain == escaped:
        return lambda raw: plain in raw.lower()
    return lambda raw: plain in (low := raw.lower()) or escaped in low


def _ascii_json(text: str) -> bytes:
    """Return a text as ASCII-only JSON writes it between the quotes."""
    return json.dumps(text)[1:-1].encode()
