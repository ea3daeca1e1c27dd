"""Which metrics counted the events of a call, with what value, and which skipped them and why."""

from datetime import UTC

import msgspec

from app.catalog.metrics import read_live_metrics
from app.core.metric_query import can_be_asked
from app.core.metric_windows import Unit, window_at
from app.store.engine import Connection
from app.store.review import WholeCall
from app.usage.explaining import Judgement, judge
from app.web.pages import Values
from app.web.usage_query import to_address, to_day

SHOWN_MAX = 100
"""Judgements that the page shows; the API gives all of them."""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What one metric makes of one event, and where its number of that day is."""

    metric: str
    idempotency_id: str
    verdict: str
    value: str | None
    why: str | None
    address: str | None
    """None where no number of that day can be asked for."""


def tell_metrics(conn: Connection, whole: WholeCall, now: int) -> Values:
    """Hold the events of a call against the live metrics."""
    metrics = sorted(read_live_metrics(conn).values(), key=lambda one: one.name) if whole.events else []
    pairs = [(metric, event) for event in whole.events for metric in metrics if metric.event_name == event.event_name]
    return {
        "judged": [_to_judged(judge(metric, event, now)) for metric, event in pairs[:SHOWN_MAX]],
        "judged_more": max(0, len(pairs) - SHOWN_MAX),
        "event_names": sorted({event.event_name for event in whole.events}),
    }


def _to_judged(one: Judgement) -> Judged:
    return Judged(
        metric=one.metric.name,
        idempotency_id=one.event.idempotency_id,
        verdict=one.verdict.value,
        value=one.value,
        why=one.why,
        address=_to_address(one) if can_be_asked(one.event.time_created) else None,
    )


def _to_address(one: Judgement) -> str:
    first, last = window_at(UTC, Unit.DAY, one.event.time_created)
    texts = {
        "metric": one.metric.name,
        "customer_id": one.event.customer_id,
        "start": to_day(UTC, first),
        "end": to_day(UTC, last),
    }
    return to_address("/usage", texts)
