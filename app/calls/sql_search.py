"""Looking for calls in bounded steps: by text in their bytes, and by filters that no index answers alone. `conn` first.

`list_calls` walks until its page is full, and for a filter that fits one call of a million that is the whole table. A
step here looks at so many calls and no more, and says how far it came; the next one goes on from there.
"""

import json
import time
from collections.abc import Callable

import msgspec
import sqlalchemy as sa

from app.store.lookup import among
from app.store.review_sources import CallFilters, RowSource, call_sources, id_range, read_source
from app.store.schema import calls

MOST = 20_000
"""Calls that one step looks at."""

SECONDS = 0.08
"""After so long a step ends early: rows that nobody has looked at for long are read from the disk one by one."""

HEAD_BYTES = 65_536
"""Of each call the text is looked for in its first bytes; Segment's own calls have 32 KB at most."""

# Calls that are looked at between two looks at the clock.
_WINDOW = 1000

# Bytes of calls in memory at a time: times HEAD_BYTES.
_TEXTS_AT_ONCE = 250


class SearchPage(msgspec.Struct, frozen=True, kw_only=True):
    """What one step found."""

    ids: list[int]
    """Newest first."""
    looked_at: int
    reached: int | None
    """Every call from this id on was looked at: `before` of the next step. None: there are no more."""
    full: bool
    """It ended because it found as many as were wanted, and there are more."""


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
    """Find the newest `limit` calls between `after` and `before` (both excluded) among the first `most`.

    `text` is looked for in the bytes of the calls, as it is and as JSON would escape it; ASCII letters in either case.
    """
    low, high = id_range(filters, after, before)
    sources = call_sources(filters)
    until = time.monotonic() + SECONDS
    if not text:
        return _step(conn, sources, _Range(low, high, most, until), limit)
    matches = _matcher(text)
    found: list[int] = []
    looked_at = 0
    while True:
        some = _step(conn, sources, _Range(low, high, most, until), _TEXTS_AT_ONCE)
        found += _fitting(conn, some.ids, matches)
        looked_at += len(some.ids) if some.full else some.looked_at
        if len(found) > limit:
            return SearchPage(ids=found[:limit], looked_at=looked_at, reached=found[limit - 1], full=True)
        if not some.full or some.reached is None or looked_at >= most or time.monotonic() > until:
            return SearchPage(ids=found, looked_at=looked_at, reached=some.reached, full=False)
        high = some.reached


class _Range(msgspec.Struct, frozen=True):
    """What a step may look at."""

    low: int
    high: int
    most: int
    until: float
    """Of time.monotonic."""


def _step(conn: sa.Connection, sources: list[RowSource], within: _Range, limit: int) -> SearchPage:
    found: set[int] = set()
    looked_at = 0
    horizon: int | None = None
    for source in sources:
        ids, looked, edge = _walk(conn, source, within, limit + 1)
        found.update(ids)
        looked_at += looked
        if edge is not None:
            # Below it, another source may have found calls that this one has not come to.
            horizon = edge if horizon is None else max(horizon, edge)
    newest = sorted((one for one in found if horizon is None or one >= horizon), reverse=True)
    if len(newest) > limit:
        return SearchPage(ids=newest[:limit], looked_at=looked_at, reached=newest[limit - 1], full=True)
    return SearchPage(ids=newest, looked_at=looked_at, reached=horizon, full=False)


def _walk(conn: sa.Connection, source: RowSource, within: _Range, limit: int) -> tuple[list[int], int, int | None]:
    """Read one source; return the ids, how many calls were looked at, and the id it came to if it did not end."""
    low, high = within.low, within.high
    if not source.narrow:
        most = min(limit, within.most)
        found = list(read_source(conn, source, low, high, most))
        return found, len(found), found[-1] if len(found) == most else None
    found = []
    looked_at, window = 0, min(_WINDOW, within.most)
    while True:
        edge = _nth(conn, source, low, high, window)
        found += read_source(conn, source, low if edge is None else edge - 1, high, limit - len(found))
        looked_at += window
        if len(found) == limit:
            return found, looked_at, found[-1]
        if edge is None or looked_at >= within.most or time.monotonic() > within.until:
            return found, looked_at, edge
        high, window = edge, min(_WINDOW, within.most - looked_at)


def _nth(conn: sa.Connection, source: RowSource, low: int, high: int, number: int) -> int | None:
    """Return the id that is so many-th in a source's index; None where it ends before."""
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
    # As JSON writes it where a sender keeps to ASCII: e-acute is the six characters of its escape.
    escaped = _ascii_json(text).lower()
    if plain == escaped:
        return lambda raw: plain in raw.lower()
    return lambda raw: plain in (low := raw.lower()) or escaped in low


def _ascii_json(text: str) -> bytes:
    """Return what stands between the quotes where JSON in ASCII holds a text."""
    return json.dumps(text)[1:-1].encode()
