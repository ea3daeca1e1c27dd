"""How far the buckets of a metric came, and how they are forgotten."""

import contextlib
from collections.abc import Iterable
from enum import StrEnum

import msgspec

from app.metrics.definition import Metric
from app.metrics.parts import is_addable
from app.metrics.sql_buckets import (
    BUILT,
    RETIRED,
    UNFIT,
    Overtaken,
    UsageMetric,
    advance_version,
    get_folds,
    list_usage_metrics,
    put_usage_metrics,
)
from app.store.engine import Connection, Database, DuplicateKey


class BuildState(StrEnum):
    """What answers of a metric are made of."""

    BUILT = "built"
    """Buckets."""
    BUILDING = "building"
    """Raw events, until the buckets are done."""
    RAW = "raw"
    """Raw events, always."""


class BuildProgress(msgspec.Struct, frozen=True):
    """How far the buckets of a metric came."""

    state: BuildState
    share: float
    """From 0 to 1; below 1 only while they are built."""


def read_progress(conn: Connection, metrics: Iterable[Metric]) -> dict[bytes, BuildProgress]:
    """Return how far metrics came, by what they mean."""
    rows = {row.meaning: row for row in list_usage_metrics(conn)}
    return {one.meaning: _to_progress(one, rows.get(one.meaning)) for one in metrics}


def find_progress(database: Database, metric: Metric) -> float:
    """Return how far the buckets of a metric came: 1 where answers come from them, or never will.

    Raises Unavailable.
    """
    with database.reading() as conn:
        return read_progress(conn, [metric])[metric.meaning].share


def _to_progress(metric: Metric, row: UsageMetric | None) -> BuildProgress:
    if not is_addable(metric) or (row is not None and row.cursor == UNFIT):
        return BuildProgress(BuildState.RAW, 1.0)
    if row is None or row.cursor == RETIRED:
        return BuildProgress(BuildState.BUILDING, 0.0)
    if row.cursor == BUILT:
        return BuildProgress(BuildState.BUILT, 1.0)
    # Late commits of before it began belong to it too.
    return BuildProgress(BuildState.BUILDING, min(row.done / max(row.total, 1), 0.999))


def forget(database: Database, metrics: Iterable[Metric]) -> None:
    """Let the buckets of metrics be deleted and made anew, by the steps that follow. Raises Unavailable."""
    wanted = {one.meaning for one in metrics}
    while True:
        # Another process may take a step between what is read here and what is written.
        with contextlib.suppress(Overtaken, DuplicateKey), database.writing() as conn:
            seen = get_folds(conn)
            advance_version(conn, seen, seen.holder, seen.held_until)
            rows = [row for row in list_usage_metrics(conn) if row.meaning in wanted]
            put_usage_metrics(conn, [msgspec.structs.replace(row, cursor=RETIRED) for row in rows])
            return
