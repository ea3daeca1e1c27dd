"""How far the buckets of a metric came, and how they are forgotten."""

import contextlib
from collections.abc import Iterable

import msgspec

from app.core.metric_definition import Metric
from app.store.engine import Database, DuplicateKey
from app.store.usage_buckets import (
    BUILT,
    RETIRED,
    UNFIT,
    Overtaken,
    find_usage_metric,
    get_folds,
    list_usage_metrics,
    put_usage_metrics,
    take_step,
)


def find_progress(database: Database, metric: Metric) -> float:
    """Return how far the buckets of a metric came: 1 where answers come from them, or never will.

    Raises Unavailable.
    """
    with database.reading() as conn:
        row = find_usage_metric(conn, metric.meaning)
    if row is None or row.cursor == RETIRED:
        return 0.0
    if row.cursor in {BUILT, UNFIT}:
        return 1.0
    # Events that came since it began belong to it too.
    return min(row.done / max(row.total, 1), 0.999)


def forget(database: Database, metrics: Iterable[Metric]) -> None:
    """Let the buckets of metrics be deleted and made anew, by the steps that follow. Raises Unavailable."""
    wanted = {one.meaning for one in metrics}
    while True:
        # Another process may take a step between what is read here and what is written.
        with contextlib.suppress(Overtaken, DuplicateKey), database.writing() as conn:
            seen = get_folds(conn)
            take_step(conn, seen, seen.holder, seen.held_until)
            rows = [row for row in list_usage_metrics(conn) if row.meaning in wanted]
            put_usage_metrics(conn, [msgspec.structs.replace(row, cursor=RETIRED) for row in rows])
            return
