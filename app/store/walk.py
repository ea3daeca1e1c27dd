"""Searches rows in bounded steps, where no index alone answers the filters. `conn` first.

A query that reads until its page is full reads the whole table where one row in a million matches. A step here examines
a bounded number of rows and returns how far it got; the next step continues from there.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from app.store.schema import calls

MOST = 20_000
"""Rows that one step examines at most."""

SECONDS = 0.08
"""A step ends early after this time: rows that have not been read for long come from the disk one by one."""

# Rows examined between two checks of the clock.
_WINDOW = 1000


@dataclass(frozen=True, slots=True)
class RowSource:
    """One index that selects rows."""

    key: sa.ColumnElement[int]
    """The column with the row's id, by which the index is ordered."""
    leading: tuple[sa.ColumnElement[bool], ...] = ()
    """The conditions that the index answers."""
    narrow: tuple[sa.ColumnElement[bool], ...] = ()
    """The conditions that are checked on each row the index selects: the fewer match, the longer the scan."""
    joined: bool = False
    """Whether the rows are calls and the index is of another table, in which a call may occur more than once."""

    def select(self, *columns: sa.ColumnElement[Any], low: int, high: int) -> sa.Select[Any]:
        """Return the query that reads the index between two ids (both excluded), newest first."""
        query = sa.select(*columns).where(self.key > low, self.key < high, *self.leading)
        if self.joined:
            query = query.join(calls, calls.c.id == self.key).distinct()
        return query.order_by(self.key.desc())


def deadline() -> float:
    """Return when a step that begins now has to end."""
    return time.monotonic() + SECONDS


class WalkRange(msgspec.Struct, frozen=True):
    """The limits of one step."""

    low: int
    """Excluded, as is `high`."""
    high: int
    most: int
    """The most rows to examine."""
    until: float = msgspec.field(default_factory=deadline)
    """The end of the step, of time.monotonic."""


class SearchPage(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one step."""

    ids: list[int]
    """Newest first."""
    looked_at: int
    reached: int | None
    """All rows from this id on were examined: `before` of the next step. None: there are no more."""
    full: bool
    """It stopped at `limit`, and there are more matches."""


def read_source(conn: sa.Connection, source: RowSource, low: int, high: int, limit: int) -> Iterable[int]:
    """Return the newest `limit` ids of a source between two ids (both excluded), however many rows that scans."""
    return conn.execute(source.select(source.key, low=low, high=high).where(*source.narrow).limit(limit)).scalars()


def take_step(conn: sa.Connection, sources: Sequence[RowSource], within: WalkRange, limit: int) -> SearchPage:
    """Find the newest `limit` rows of all sources within the limits of one step."""
    ids: set[int] = set()
    looked_at = 0
    horizon: int | None = None
    for source in sources:
        source_ids, looked, edge = _walk(conn, source, within, limit + 1)
        ids.update(source_ids)
        looked_at += looked
        if edge is not None:
            # Below it the result is incomplete: this source may have further rows there that it has not reached.
            horizon = edge if horizon is None else max(horizon, edge)
    newest = sorted((row_id for row_id in ids if horizon is None or row_id >= horizon), reverse=True)
    if len(newest) > limit:
        return SearchPage(ids=newest[:limit], looked_at=looked_at, reached=newest[limit - 1], full=True)
    return SearchPage(ids=newest, looked_at=looked_at, reached=horizon, full=False)


def _walk(conn: sa.Connection, source: RowSource, within: WalkRange, limit: int) -> tuple[list[int], int, int | None]:
    """Read one source; return the ids, how many rows were examined, and the id it stopped at (None: all read)."""
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
