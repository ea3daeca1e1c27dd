"""Closes months: the numbers of a metric for a calendar month are frozen, and nothing that comes later changes them.

What is frozen is the answer as of a moment just before, with the definition that was live then. So it can be computed
again at any time, and must be the same: `verify_month`.
"""

import contextlib
import re
from collections.abc import Callable, Iterable
from datetime import date, tzinfo
from hashlib import sha256
from typing import NamedTuple

import msgspec

from app.core.json_text import encode
from app.core.times import format_time
from app.errors import BadQuery, EditConflict
from app.metrics.answer import answer, answer_raw
from app.metrics.catalog import get_metric, get_metric_version
from app.metrics.query import Query, Row
from app.metrics.sql_months import (
    ClosedMonth,
    ClosedNumber,
    append_closed_month,
    find_closed_month,
    get_closed_month,
    list_carried,
    list_numbers,
    mark_reopened,
)
from app.metrics.windows import FIRST_YEAR, LAST_YEAR, SECOND, day_start
from app.store.clock import read_clock
from app.store.engine import Connection, Database, DuplicateKey
from app.store.moment import MARGIN, latest_moment, reading_at
from app.zones import find_zone, to_wall, zone_hint

_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")
_MONTHS_IN_YEAR = 12
_TRIES = 10


class Month(NamedTuple):
    """A calendar month in a zone."""

    text: str
    """Such as 2026-10."""
    tz: str
    start: int
    """In microseconds since 1970; the month is [start, end)."""
    end: int

    def query(
        self, as_of: int | None = None, group_by: tuple[str, ...] | None = None, customer_id: str | None = None
    ) -> Query:
        """Return the question for its numbers."""
        return Query(
            start=self.start, end=self.end, tz=self.tz, as_of=as_of, group_by=group_by, customer_id=customer_id
        )


def parse_month(text: object, tz: object) -> Month:
    """Parse a month such as 2026-10 in an IANA time zone. Raises BadQuery."""
    match = _MONTH.fullmatch(text) if isinstance(text, str) else None
    if match is None or not FIRST_YEAR <= int(match[1]) < LAST_YEAR:
        raise BadQuery(f"month must be a year and a month, such as 2026-10; it is {str(text)[:40]!a}")
    zone = find_zone(tz) if isinstance(tz, str) else None
    if zone is None or not isinstance(tz, str):
        raise BadQuery(f"tz {zone_hint(str(tz))}; it is {str(tz)[:40]!a}")
    return _to_month(date(int(match[1]), int(match[2]), 1), tz, zone)


def month_at(tz: str, moment: int) -> Month | None:
    """Return the calendar month of a moment in a zone; None if there is no such zone."""
    zone = find_zone(tz)
    return None if zone is None else _to_month(date.fromisoformat(to_wall(zone, moment)[:10]).replace(day=1), tz, zone)


def _to_month(first: date, tz: str, zone: tzinfo) -> Month:
    years, month = divmod(first.month, _MONTHS_IN_YEAR)
    following = first.replace(year=first.year + years, month=month + 1)
    text = first.isoformat()[: len("2026-10")]
    return Month(text, tz, day_start(zone, first) * SECOND, day_start(zone, following) * SECOND)


def close_month(database: Database, next_id: Callable[[int], int], name: str, month: Month, author: str) -> ClosedMonth:
    """Freeze the numbers of a metric for a month, of all customers and groups.

    They are written in one transaction: a month is closed with all of its numbers, or is not.

    Raises:
        BadQuery: the month is not over.
        NotFound: the metric is not live.
        EditConflict: the month is closed in this zone.
        Unavailable: the database cannot be used now.

    """
    as_of = latest_moment(database)
    if month.end > as_of:
        raise BadQuery(
            f"{month.text} is not over in {month.tz}: it can be closed from {format_time(month.end + MARGIN)} on"
        )
    with reading_at(database, as_of) as conn:
        _check_open(conn, name, month)
        metric = get_metric(conn, name, as_of=as_of)
        numbers = to_numbers(answer(conn, metric, month.query(as_of), as_of).rows)
    for _ in range(_TRIES):
        # A duplicate: somebody closed it in between, or another process drew the same id.
        with contextlib.suppress(DuplicateKey), database.writing() as conn:
            _check_open(conn, name, month)
            now = read_clock(conn)
            closed = ClosedMonth(
                id=next_id(now),
                metric=name,
                month=month.text,
                tz=month.tz,
                as_of=as_of,
                metric_digest=metric.digest,
                numbers_digest=b"",
                closed_at=now,
                author=author,
            )
            closed = msgspec.structs.replace(closed, numbers_digest=digest_numbers(closed, numbers))
            append_closed_month(conn, closed, numbers)
            return closed
    raise EditConflict(f"{month.text} of {name} was closed by somebody else meanwhile")


def reopen_month(database: Database, closed_id: int, author: str, reason: str) -> ClosedMonth:
    """Open a closed month again; its frozen numbers stay in the history.

    What was carried of it is part of its numbers again, and no line of other months any more.

    Raises:
        NotFound: there is no such month.
        EditConflict: it is open already, or a part of it was carried into a month that is closed.

    """
    with database.writing() as conn:
        closed = get_closed_month(conn, closed_id, lock=True)
        check_closed(closed)
        for line in list_carried(conn, closed_id):
            if find_closed_month(conn, closed.metric, line.month, closed.tz):
                raise EditConflict(
                    f"adjustments of {closed.month} were carried into {line.month}, which is closed: reopen that first"
                )
        mark_reopened(conn, closed_id, read_clock(conn), author, reason)
        return get_closed_month(conn, closed_id)


def verify_month(database: Database, closed: ClosedMonth) -> list[str]:
    """Compute the frozen numbers again from raw events, as of their moment by their version.

    Returns what differs as sentences: none, if all is as it was closed.
    """
    with reading_at(database, closed.as_of) as conn:
        frozen = list_numbers(conn, closed.id)
        metric = get_metric_version(conn, closed.metric_digest)
        month = parse_month(closed.month, closed.tz)
        again = to_numbers(answer_raw(conn, metric, month.query(closed.as_of), closed.as_of).rows)
    problems = []
    if digest_numbers(closed, frozen) != closed.numbers_digest:
        problems.append("the stored numbers do not have the digest that they had when the month was closed")
    both = {number.customer_id for number in set(frozen) ^ set(again)}
    problems += [f"computed again, the numbers of {customer_id} are others" for customer_id in sorted(both)]
    return problems


def check_closed(closed: ClosedMonth) -> None:
    """Raise EditConflict if a month was reopened."""
    if closed.reopened_at is not None:
        raise EditConflict(
            f"{closed.month} of {closed.metric} was reopened by {closed.reopen_author} at"
            f" {format_time(closed.reopened_at)}"
        )


def to_numbers(rows: Iterable[Row]) -> list[ClosedNumber]:
    """Return the rows of an answer without windows as numbers, by customer and group."""
    numbers = [
        ClosedNumber(
            row.customer_id,
            to_group(row.group.values()),
            row.value,
            row.events_count,
            encode(row.skipped).decode() if row.skipped else None,
        )
        for row in rows
    ]
    return sorted(numbers, key=lambda number: (number.customer_id, number.grp))


def to_group(texts: Iterable[str | None]) -> str:
    """Return the texts of a group as one key."""
    return encode(list(texts)).decode()


def digest_numbers(closed: ClosedMonth, numbers: Iterable[ClosedNumber]) -> bytes:
    """Return the SHA-256 over what was closed and all of its numbers: a line of JSON each."""
    head = [closed.metric, closed.month, closed.tz, format_time(closed.as_of), closed.metric_digest.hex()]
    lines = [head, *(list(msgspec.structs.astuple(number)) for number in numbers)]
    return sha256(b"".join(encode(line) + b"\n" for line in lines)).digest()


def _check_open(conn: Connection, name: str, month: Month) -> None:
    closed = find_closed_month(conn, name, month.text, month.tz)
    if closed is not None:
        raise EditConflict(
            f"{month.text} of {name} is closed in {month.tz} already: by {closed.author} at"
            f" {format_time(closed.closed_at)}, as {closed.id}"
        )
