"""The progress of building buckets, and how to reset them."""

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
    """The source of a metric's answers."""

    BUILT = "built"
    """Pre-aggregated buckets."""
    BUILDING = "building"
    """Raw events, until its buckets are built."""
    RAW = "raw"
    """Raw events, always."""


class BuildProgress(msgspec.Struct, frozen=True):
    """How much of a metric's history is in its buckets."""

    state: BuildState
    share: float
    """From 0 to 1; below 1 only while the buckets are built."""


def read_progress(conn: Connection, metrics: Iterable[Metric]) -> dict[bytes, BuildProgress]:
    """Return the progress of metrics, by `meaning`."""
    rows = {row.meaning: row for row in list_usage_metrics(conn)}
    return {metric.meaning: _to_progress(metric, rows.get(metric.meaning)) for metric in metrics}


def find_progress(database: Database, metric: Metric) -> float:
    """Return the share of a metric's buckets that is built: 1 if answers come from them, or never will.

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
    # Below 1, since late commits from before the build began belong to it, too.
    return BuildProgress(BuildState.BUILDING, min(row.done / max(row.total, 1), 0.999))


def reset_buckets(database: Database, metrics: Iterable[Metric]) -> None:
    """Mark the buckets of metrics for the next steps to delete and rebuild. Raises Unavailable."""
    meanings = {metric.meaning for metric in metrics}
    while True:
        # Another process may take a step between this read and this write: then try again.
        with contextlib.suppress(Overtaken, DuplicateKey), database.writing() as conn:
            folds = get_folds(conn)
            advance_version(conn, folds, folds.holder, folds.held_until)
            rows = [row for row in list_usage_metrics(conn) if row.meaning in meanings]
            put_usage_metrics(conn, [msgspec.structs.replace(row, cursor=RETIRED) for row in rows])
            return
