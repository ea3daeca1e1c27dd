"""Search for calls in bounded steps: by text in their bytes, and by filters that no index answers alone. `conn` first.

`list_calls` reads until its page is full; for a filter that matches one call in a million that is the whole table. A
step here examines a bounded number of calls and returns how far it got; the next step continues from there.
"""

import json
import time
from collections.abc import Callable

import msgspec
import sqlalchemy as sa

from app.store.arrays import among
from app.store.review_sources import CallFilters, RowSource, call_sources, id_range, read_source
from app.store.schema import calls

MOST = 20_000
"""Calls that one step examines at most."""

SECONDS = 0.08
"""A step ends early after this time: rows that have not been read for long come from the disk one by one."""

HEAD_BYTES = 65_536
"""Only this much of each call is searched for the text; Segment's own calls have 32 KB at most."""

# Calls examined between two checks of the clock.
_WINDOW = 1000

# Calls whose bytes are in memory at a time: this many times HEAD_BYTES.
_TEXTS_AT_ONCE = 250


class SearchPage(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one step."""

    ids: list[int]
    """Newest first."""
    looked_at: int
    reached: int | None
    """All calls from this id on were examined: `before` of the next step. None: there are no more."""
    full: bool
    """It stopped at `limit`, and there are more matches."""


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
    until = time.monotonic() + SECONDS
    if not text:
        return _step(conn, sources, _Range(low, high, most, until), limit)
    matches = _matcher(text)
    ids: list[int] = []
    looked_at = 0
    while True:
        page = _step(conn, sources, _Range(low, high, most, until), _TEXTS_AT_ONCE)
        ids += _fitting(conn, page.ids, matches)
        looked_at += len(page.ids) if page.full else page.looked_at
        if len(ids) > limit:
            return SearchPage(ids=ids[:limit], looked_at=looked_at, reached=ids[limit - 1], full=True)
        if not page.full or page.reached is None or looked_at >= most or time.monotonic() > until:
            return SearchPage(ids=ids, looked_at=looked_at, reached=page.reached, full=False)
        high = page.reached


class _Range(msgspec.Struct, frozen=True):
    """The limits of one step."""

    low: int
    high: int
    most: int
    until: float
    """Of time.monotonic."""


def _step(conn: sa.Connection, sources: list[RowSource], within: _Range, limit: int) -> SearchPage:
    found_ids: set[int] = set()
    looked_at = 0
    horizon: int | None = None
    for source in sources:
        ids, looked, edge = _walk(conn, source, within, limit + 1)
        found_ids.update(ids)
        looked_at += looked
        if edge is not None:
            # Below it the result is incomplete: this source may have further calls there that it has not reached.
            horizon = edge if horizon is None else max(horizon, edge)
    newest = sorted((call_id for call_id in found_ids if horizon is None or call_id >= horizon), reverse=True)
    if len(newest) > limit:
        return SearchPage(ids=newest[:limit], looked_at=looked_at, reached=newest[limit - 1], full=True)
    return SearchPage(ids=newest, looked_at=looked_at, reached=horizon, full=False)


def _walk(conn: sa.Connection, source: RowSource, within: _Range, limit: int) -> tuple[list[int], int, int | None]:
    """Read one source; return the ids, how many calls were examined, and the id it stopped at (None: all read)."""
    low, high = within.low, within.high
    if not source.narrow:
        most = min(limit, within.most)
        ids = list(read_source(conn, source, low, high, most))
        return ids, len(ids), ids[-1] if len(ids) == most else None
    ids = []
    looked_at, window = 0, min(_WINDOW, within.most)
    while True:
        edge = _nth(conn, source, low, high, window)
        ids += read_source(conn, source, low if edge is None else edge - 1, high, limit - len(ids))
        looked_at += window
        if len(ids) == limit:
            return ids, looked_at, ids[-1]
        if edge is None or looked_at >= within.most or time.monotonic() > within.until:
            return ids, looked_at, edge
        high, window = edge, min(_WINDOW, within.most - looked_at)


def _nth(conn: sa.Connection, source: RowSource, low: int, high: int, number: int) -> int | None:
    """Return the `number`-th id of a source's index, counted from the newest; None if it has fewer."""
    query = source.select(source.key, low=low, high=high).offset(number - 1).limit(1)
    return conn.execute(query).scalar_one_or_none()


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
