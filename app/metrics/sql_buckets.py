"""Queries for buckets: aggregates of metrics by quarter hour and by day, and the build progress of each metric."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from app.store.arrays import among
from app.store.inserts import Insert, postgresql_text
from app.store.schema import usage_buckets, usage_folds, usage_metrics

BUILT = (1 << 63) - 1
"""Cursor value: the buckets hold all folded events."""

UNFIT = -1
"""Cursor value: a group is too long for a key; numbers are made of raw events."""

RETIRED = -2
"""Cursor value: the metric is not live any more, and its buckets are being deleted."""

_SLICE = 500
_KEYS = ("metric", "level", "bucket", "customer_id", "grp")
_VALUES = ("count", "value", "best_at", "skipped", "first_call", "last_call", "best_base_id")
_BUCKETS = Insert(usage_buckets, (*_KEYS, *_VALUES), replace=True)
_METRICS = Insert(usage_metrics, ("id", "meaning", "event_name", "cursor", "until_id", "done", "total"), replace=True)
_FOLDS = Insert(usage_folds, ("id", "done", "holder", "held_until"))

Key = tuple[int, int, int, str, str]
"""(metric, level, bucket, customer_id, group as JSON)"""

Values = tuple[int, str | None, int | None, str | None, int, int, str | None]
"""(count, value, best_at, skipped as JSON, first_call, last_call, best_base_id)"""


class UsageMetric(msgspec.Struct, frozen=True, kw_only=True):
    """The build progress of one metric."""

    id: int
    meaning: bytes
    event_name: str
    cursor: int
    until_id: int
    done: int
    total: int

    def holds(self, event_id: int) -> bool:
        """Tell whether its buckets hold an event that is not in the tail."""
        return event_id <= self.cursor or event_id > self.until_id


class Folds(msgspec.Struct, frozen=True):
    """The version of the buckets (`done` steps), and which process takes the steps until when."""

    done: int = 0
    holder: int = 0
    held_until: int = 0


class Overtaken(Exception):
    """Another process took a step in between: the computed result is obsolete."""


def get_folds(conn: sa.Connection) -> Folds:
    """Return the current version and holder."""
    columns = (usage_folds.c.done, usage_folds.c.holder, usage_folds.c.held_until)
    row = conn.execute(sa.select(*columns)).first()
    return Folds() if row is None else Folds(*row)


def advance_version(conn: sa.Connection, folds: Folds, holder: int, held_until: int) -> None:
    """Compare-and-set: advance the version if it is still the one of `folds`, from which the step was computed.

    Raises Overtaken, or DuplicateKey if two processes take the very first step.

    The second of two waits here for the lock on the row and then finds that it is too late.
    """
    changed = (
        sa.update(usage_folds)
        .where(usage_folds.c.done == folds.done)
        .values(done=folds.done + 1, holder=holder, held_until=held_until)
    )
    if conn.execute(changed).rowcount == 1:
        return
    if folds.done:
        raise Overtaken
    _FOLDS.run(conn, [(1, 1, holder, held_until)])


def list_usage_metrics(conn: sa.Connection) -> list[UsageMetric]:
    """Return all metrics that have buckets."""
    columns = [usage_metrics.c[name] for name in UsageMetric.__struct_fields__]
    return [
        UsageMetric(**dict(zip(UsageMetric.__struct_fields__, row, strict=True)))
        for row in conn.execute(sa.select(*columns).order_by(usage_metrics.c.id))
    ]


def find_usage_metric(conn: sa.Connection, meaning: bytes) -> UsageMetric | None:
    """Return the metric with this `meaning`, if it has buckets."""
    return next((metric for metric in list_usage_metrics(conn) if metric.meaning == meaning), None)


def put_usage_metrics(conn: sa.Connection, metrics: Sequence[UsageMetric]) -> None:
    """Insert or replace the rows of metrics."""
    _METRICS.run(
        conn,
        [
            (metric.id, metric.meaning, metric.event_name, metric.cursor, metric.until_id, metric.done, metric.total)
            for metric in metrics
        ],
    )


def delete_some_buckets(conn: sa.Connection, metric: int, limit: int) -> bool:
    """Delete up to `limit` buckets of a metric, and its row with the last of them. Return whether there may be more."""
    keys = [usage_buckets.c[name] for name in _KEYS]
    rows = list(conn.execute(sa.select(*keys).where(usage_buckets.c.metric == metric).order_by(*keys).limit(limit)))
    if rows:
        last = tuple(rows[-1])
        until = sa.tuple_(*keys) <= sa.tuple_(*(sa.literal(value) for value in last))
        conn.execute(sa.delete(usage_buckets).where(usage_buckets.c.metric == metric, until))
    if len(rows) == limit:
        return True
    conn.execute(sa.delete(usage_metrics).where(usage_metrics.c.id == metric))
    return False


def put_buckets(conn: sa.Connection, rows: Iterable[tuple[Key, Values]]) -> None:
    """Insert or replace buckets."""
    _BUCKETS.run(conn, [(*key, *values) for key, values in sorted(rows, key=lambda row: row[0])])


def get_buckets(conn: sa.Connection, keys: Iterable[Key]) -> dict[Key, Values]:
    """Return the buckets of `keys` that exist. Uses the driver directly, for speed."""
    ordered = sorted(keys)
    if not ordered:
        return {}
    driver: Any = conn.connection.driver_connection
    if conn.dialect.name == "sqlite":
        statement, cursor = _sqlite_get(), driver.cursor()
        by_key = {key: cursor.execute(statement, key).fetchone() for key in ordered}
        return {key: values for key, values in by_key.items() if values is not None}
    # With statistics from when the table was empty, the planner would choose a full scan per key, and keep that plan.
    conn.exec_driver_sql("SET LOCAL enable_seqscan = off")
    arrays = dict(zip(_KEYS, map(list, zip(*ordered, strict=True)), strict=True))
    rows = driver.execute(_postgresql_get(), arrays).fetchall()
    return {row[: len(_KEYS)]: row[len(_KEYS) :] for row in rows}


@cache
def _sqlite_get() -> str:
    query = sa.select(*(usage_buckets.c[name] for name in _VALUES)).where(
        *(usage_buckets.c[name] == sa.bindparam(name) for name in _KEYS)
    )
    return str(query.compile(dialect=SQLiteDialect_pysqlite()))


@cache
def _postgresql_get() -> str:
    arrays = [sa.bindparam(name, type_=postgresql.ARRAY(usage_buckets.c[name].type)) for name in _KEYS]
    key_rows = sa.func.unnest(*arrays).table_valued(*_KEYS).render_derived()
    # One index lookup per key: with a plain join, the planner read the whole table for each slice of keys.
    bucket = (
        sa.select(*(usage_buckets.c[name] for name in (*_KEYS, *_VALUES)))
        .where(*(usage_buckets.c[name] == key_rows.c[name] for name in _KEYS))
        .limit(sa.literal_column("1"))
        .lateral()
    )
    query = sa.select(*bucket.c).select_from(key_rows.join(bucket, sa.true()))
    return postgresql_text(query)


def stream_buckets(
    conn: sa.Connection, metric: int, level: int, buckets: range, customer_id: str | None
) -> Iterator[Any]:
    """Yield (bucket, customer_id, group as JSON, *Values) of a range of buckets."""
    columns = [usage_buckets.c[name] for name in ("bucket", "customer_id", "grp", *_VALUES)]
    query = sa.select(*columns).where(usage_buckets.c.metric == metric, usage_buckets.c.level == level)
    if customer_id is None:
        yield from _rows(conn, query.where(usage_buckets.c.bucket.between(buckets.start, buckets.stop - 1)))
        return
    query = query.where(usage_buckets.c.customer_id == customer_id)
    for start in range(buckets.start, buckets.stop, _SLICE):
        part = list(range(start, min(start + _SLICE, buckets.stop)))
        yield from _rows(conn, query.where(among(conn, usage_buckets.c.bucket, part)))


def find_calls(
    conn: sa.Connection, metric: int, level: int, bucket: int, customer_id: str | None
) -> tuple[int, int] | None:
    """Return the smallest and largest call id behind the folded events of a bucket; None if there are none."""
    query = sa.select(sa.func.min(usage_buckets.c.first_call), sa.func.max(usage_buckets.c.last_call)).where(
        usage_buckets.c.metric == metric, usage_buckets.c.level == level, usage_buckets.c.bucket == bucket
    )
    if customer_id is not None:
        query = query.where(usage_buckets.c.customer_id == customer_id)
    first, last = conn.execute(query).one()
    return None if first is None else (first, last)


def _rows(conn: sa.Connection, query: sa.Select[Any]) -> Iterator[Any]:
    with conn.execute(query.execution_options(yield_per=2000)) as rows:
        yield from rows
