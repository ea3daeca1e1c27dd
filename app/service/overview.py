"""The overview: calls by outcome, and what needs attention."""

from collections import Counter
from collections.abc import Sequence

import msgspec
from flask import Blueprint, Response, request

from app.calls.review import to_refusal_document
from app.catalog.backend import Backend
from app.catalog.status import CatalogStatus, FileState
from app.clock import clock
from app.core.outcome import Outcome
from app.core.times import format_time
from app.errors import BadQuery
from app.forward.sql_deliveries import DeliveryState as Delivery
from app.forward.sql_lists import count_undelivered
from app.service.build import Service
from app.service.sql_series import TimeSpan, count_calls_by_step, count_delivered, last_steps
from app.store.engine import Connection
from app.store.ledger import MINUTE
from app.store.refusals import count_refusals, list_losses
from app.web.pages import Pages, Values

REFUSALS_SHOWN = 5


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """A period that the overview can show."""

    name: str
    title: str
    steps: int
    step_minutes: int
    step_text: str


RANGES = {
    period.name: period
    for period in (
        Range(name="hour", title="Last hour", steps=60, step_minutes=1, step_text="minute"),
        Range(name="day", title="Last 24 hours", steps=48, step_minutes=30, step_text="30 minutes"),
        Range(name="week", title="Last 7 days", steps=56, step_minutes=180, step_text="3 hours"),
    )
}

# From the bottom up, so that what needs attention is on top.
_STACKED = (Outcome.STORED, Outcome.DUPLICATE, Outcome.IGNORED, Outcome.CONFLICT, Outcome.REJECTED)

_STEP_WIDTH = 10
_BAR_WIDTH = 8
_HEIGHT = 120
_LEAST = 2
"""The least height of a bar: one rejected call among a million must be visible."""


class OutcomeBar(msgspec.Struct, frozen=True):
    """One rectangle of the chart."""

    outcome: str
    x: int
    y: float
    height: float
    width: int = _BAR_WIDTH


class OutcomeChart(msgspec.Struct, frozen=True, kw_only=True):
    """The calls over time."""

    width: int
    height: int
    bars: list[OutcomeBar]
    rows: list[tuple[str, str, dict[str, int]]]
    """(since, until, counts) of each step that has any, the newest first: the same as a table."""
    most: int
    starts: list[int]
    """When the first, the middle and the last step begin."""


def overview(pages: Pages, service: Service) -> Blueprint:
    """Return the route `/`."""
    blueprint = pages.blueprint("overview")

    @blueprint.get("/", strict_slashes=False)
    def show() -> Response:
        name = request.args.get("range", "day")
        if name not in RANGES:
            raise BadQuery(f"range must be one of {', '.join(RANGES)}; it is {name[:40]!a}")
        chosen, now = RANGES[name], clock()

        def work(backend: Backend) -> Values:
            span = last_steps(now, chosen.steps, chosen.step_minutes)
            with backend.database.reading() as conn:
                counts = count_calls_by_step(conn, span)
                refused, quiet = count_refusals(conn, span.since)
                refusals = list_losses(conn, REFUSALS_SHOWN, span.since) if refused else []
                deliveries = _count_deliveries(conn, span) if service.settings.lotus_api_key else None
            total: Counter[str] = sum(counts, Counter())
            return {
                "chart": draw(counts, span),
                "total": {outcome.value: total[outcome] for outcome in Outcome},
                "received": total.total(),
                "per_minute": total.total() / ((now - span.since) / MINUTE),
                "since": format_time(span.since)[:19] + "Z",
                "deliveries": deliveries,
                "refused": refused,
                "refusals": [to_refusal_document(refusal) for refusal in refusals],
                "refused_until": refusals[0].received_at if refusals else None,
                "quiet": quiet,
                "latency": service.telemetry.request_quantiles((0.5, 0.95, 0.99)),
            }

        standings = file_problems(service.watcher.status)
        return pages.show("overview.html", work, chosen=chosen, ranges=list(RANGES.values()), **standings)

    return blueprint


def _count_deliveries(conn: Connection, span: TimeSpan) -> dict[str, int]:
    """Count the events delivered in a span, and those undelivered now, by state."""
    undelivered = count_undelivered(conn)
    names = (Delivery.WAITING, Delivery.FAILED, Delivery.UNFORWARDABLE)
    return {
        Delivery.DELIVERED.value: count_delivered(conn, span),
        **{state.value: undelivered[state] for state in names},
    }


def draw(counts: Sequence[Counter[str]], span: TimeSpan) -> OutcomeChart:
    """Stack the calls of each step."""
    # A replay subtracts from the former outcome in the minute when it runs; negative counts are not drawn.
    most = max((sum(max(0, count) for count in step.values()) for step in counts), default=0)
    bars: list[OutcomeBar] = []
    for number, step in enumerate(counts):
        ground = float(_HEIGHT)
        for outcome in _STACKED:
            if step[outcome] > 0:
                height = max(_LEAST, round(step[outcome] / most * (_HEIGHT - _LEAST * len(_STACKED)), 1))
                ground -= height
                bars.append(OutcomeBar(outcome.value, number * _STEP_WIDTH + 1, round(ground, 1), height))
    starts = list(span.starts)
    ends = [*starts[1:], span.until]
    rows = [
        (_to_text(start), _to_text(end), {outcome.value: step[outcome] for outcome in Outcome})
        for start, end, step in zip(starts, ends, counts, strict=True)
        if any(step.values())
    ]
    return OutcomeChart(
        width=len(counts) * _STEP_WIDTH,
        height=_HEIGHT,
        bars=bars,
        rows=rows[::-1],
        most=most,
        starts=[starts[0], starts[len(starts) // 2], starts[-1]],
    )


def _to_text(micros: int) -> str:
    return format_time(micros)[:19] + "Z"


def file_problems(status: CatalogStatus | None) -> Values:
    """Return the transform files that need attention, by kind of problem."""
    if status is None:
        return {"drifted": [], "broken": [], "without_file": []}
    broken = sorted(
        {file.name for file in status.files if file.state is FileState.BROKEN or status.blocking(file.name)}
    )
    return {
        "drifted": [file.name for file in status.in_state(FileState.DRIFT)],
        "broken": [(name, next(iter(status.blocking(name)), "")) for name in broken],
        "without_file": [file.name for file in status.in_state(FileState.NO_FILE)],
    }
