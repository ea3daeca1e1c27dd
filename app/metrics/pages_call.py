"""The panel of metrics on a call's page: which counted its events, with what value, and which did not and why."""

import msgspec

from app.metrics.catalog import read_live_metrics
from app.metrics.explain import EventExplanation, explain_event
from app.metrics.pages_query import to_day
from app.metrics.query import can_be_asked
from app.metrics.windows import Unit, window_at
from app.store.engine import Connection
from app.store.review import WholeCall
from app.web.pages import Values
from app.web.parameters import to_address
from app.web.zone import page_zone

SHOWN_MAX = 100
"""Explanations that the page shows; the API gives all of them."""


class EventCount(msgspec.Struct, frozen=True, kw_only=True):
    """How one metric treats one event, with the address of its number for that day."""

    metric: str
    idempotency_id: str
    verdict: str
    value: str | None
    why: str | None
    address: str | None
    """None if no number of that day can be asked for."""


def metrics_panel(conn: Connection, whole: WholeCall, now: int) -> Values:
    """Return the panel's values: how the live metrics treat the events of a call."""
    metrics = sorted(read_live_metrics(conn).values(), key=lambda metric: metric.name) if whole.events else []
    pairs = [(metric, event) for event in whole.events for metric in metrics if metric.event_name == event.event_name]
    return {
        "judged": [_to_event_count(explain_event(metric, event, now)) for metric, event in pairs[:SHOWN_MAX]],
        "judged_more": max(0, len(pairs) - SHOWN_MAX),
        "event_names": sorted({event.event_name for event in whole.events}),
    }


def _to_event_count(explanation: EventExplanation) -> EventCount:
    return EventCount(
        metric=explanation.metric.name,
        idempotency_id=explanation.event.idempotency_id,
        verdict=explanation.verdict.value,
        value=explanation.value,
        why=explanation.why,
        address=_to_address(explanation) if can_be_asked(explanation.event.time_created) else None,
    )


def _to_address(explanation: EventExplanation) -> str:
    zone = page_zone()
    first, last = window_at(zone, Unit.DAY, explanation.event.time_created)
    texts = {
        "metric": explanation.metric.name,
        "customer_id": explanation.event.customer_id,
        "start": to_day(zone, first),
        "end": to_day(zone, last),
    }
    return to_address("/usage", texts)
