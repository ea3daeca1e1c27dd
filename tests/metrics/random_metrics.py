"""Random definitions, events and questions, small enough that chance makes them meet."""

from typing import Any

from hypothesis import strategies as st

from app.core.times import parse_time
from app.metrics.definition import Metric
from app.metrics.query import MetricEvent, Query
from app.metrics.schema import AGGREGATIONS, CATEGORICAL_OPERATORS, GRANULARITIES, NUMERIC_OPERATORS
from app.metrics.windows import WINDOWS, Unit
from tests.metrics.metrics import a_metric

SECOND = 1_000_000
HOUR = 3_600 * SECOND

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")

# Around a change of the clocks in each of three zones, and about a calendar month.
CENTRES = [parse_time(one) for one in ("2026-10-25T01:00Z", "2026-11-01T06:00Z", "2026-10-03T15:30Z", "2026-10-01")]
SPANS = (10 * SECOND, 300 * SECOND, 3 * HOUR, 60 * HOUR, 40 * 24 * HOUR)

NUMBERS: st.SearchStrategy[Any] = st.one_of(
    st.integers(-3, 10),
    st.sampled_from((0.1, 0.2, 2.5, -0.1, "0.1", "1e3", "+5", "123456789012345678901234567890", "1e-30", "1e38")),
    st.sampled_from((None, "", True, "x", "NaN", "1e39", {"a": 1}, [1], 10**30)),
)
TEXTS: st.SearchStrategy[Any] = st.sampled_from(("a", "b", "", None, 1, "1", 1.0, True, 'it\'s "b"', {"x": [1]}))


@st.composite
def properties(draw: st.DrawFn) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if draw(st.integers(0, 9)):
        said["n"] = draw(NUMBERS)
    if draw(st.booleans()):
        said["kind"] = draw(TEXTS)
    if draw(st.booleans()):
        said["m"] = draw(NUMBERS)
    return said


def times(draw: st.DrawFn) -> st.SearchStrategy[int]:
    """Return what gives moments that lie close to each other, often to the second or on a quarter hour."""
    centre, span = draw(st.sampled_from(CENTRES)), draw(st.sampled_from(SPANS))
    plain = st.integers(centre - span, centre + span)
    return st.one_of(
        plain,
        plain.map(lambda at: at // SECOND * SECOND),
        plain.map(lambda at: at // (900 * SECOND) * 900 * SECOND),
    )


@st.composite
def metrics(draw: st.DrawFn) -> Metric:
    kind = draw(st.sampled_from(("counter", "counter", "rate", "gauge", "gauge")))
    keys: dict[str, Any] = {"metric_type": kind, "group_by": draw(st.sampled_from(([], [], ["kind"], ["kind", "m"])))}
    if kind == "counter":
        keys["usage_aggregation_type"] = draw(st.sampled_from(AGGREGATIONS))
        if keys["usage_aggregation_type"] == "percentile":
            keys["percentile"] = draw(st.sampled_from((0, 50, 95, "99.9", 100)))
    elif kind == "rate":
        keys["usage_aggregation_type"] = draw(st.sampled_from(("count", "sum", "max")))
        keys["granularity"] = draw(st.sampled_from(GRANULARITIES[:-1]))
    else:
        keys["event_type"] = draw(st.sampled_from(("total", "delta")))
        if draw(st.booleans()):
            at = draw(st.integers(1, len(GRANULARITIES) - 1))
            keys["granularity"] = GRANULARITIES[at]
            keys["proration"] = draw(st.sampled_from(GRANULARITIES[:at]))
    if draw(st.integers(0, 3)) == 0:
        operator, wanted = draw(st.sampled_from(NUMERIC_OPERATORS)), draw(st.sampled_from((0, 2.5, "0.1")))
        keys["numeric_filters"] = [{"property_name": "m", "operator": operator, "comparison_value": wanted}]
    if draw(st.integers(0, 3)) == 0:
        among = draw(st.lists(st.sampled_from(("a", "", 1, "1.0", True, 'it\'s "b"')), min_size=1))
        operator = draw(st.sampled_from(CATEGORICAL_OPERATORS))
        keys["categorical_filters"] = [{"property_name": "kind", "operator": operator, "comparison_value": among}]
    return a_metric(**keys)


@st.composite
def cases(draw: st.DrawFn, most_events: int = 25) -> tuple[Metric, list[MetricEvent], Query, int]:
    """A metric, events in order of arrival, a query that it can answer, and the moment of the question."""
    metric = draw(metrics())
    moments = times(draw)
    events = [
        MetricEvent(
            # In another order than they came in.
            base_id=f"e-{draw(st.integers(0, 9))}-{at}",
            event_name=draw(st.sampled_from(("use", "use", "use", "other"))),
            customer_id=draw(st.sampled_from(("ann", "bob"))),
            time_created=draw(moments),
            properties=draw(properties()),
            voided=draw(st.integers(0, 9)) == 0,
        )
        for at in range(1, draw(st.integers(0, most_events)) + 1)
    ]
    start, end = sorted((draw(moments), draw(moments)))
    end = max(end, start + 1)
    metric = _short_enough(metric, end - start)
    query = Query(
        start=start,
        end=end,
        customer_id=draw(st.sampled_from((None, "ann", "eve"))),
        window=draw(st.none() | st.sampled_from(_windows(metric, end - start))),
        tz=draw(st.sampled_from(ZONES)),
        group_by=draw(st.sampled_from((None, (), ("kind",)))),
        fill=draw(st.booleans()),
        include_future=draw(st.booleans()),
    )
    return metric, events, query, draw(moments)


def _windows(metric: Metric, length: int) -> list[Unit]:
    """What a period of this length can be cut into without thousands of windows, and not finer than the proration."""
    first = WINDOWS.index(metric.proration) if metric.proration in WINDOWS else 0
    few = [one for one in WINDOWS[first:] if one is not Unit.MINUTE or length < 10 * HOUR]
    return [one for one in few if one is not Unit.HOUR or length < 30 * 24 * HOUR] or [Unit.MONTH]


def _short_enough(metric: Metric, length: int) -> Metric:
    """The reference looks at every bucket one by one: of a long period it gets hours."""
    if metric.proration in {Unit.SECOND, Unit.MINUTE} and length > HOUR // 4:
        return a_metric(
            metric_type="gauge",
            event_type=metric.event_type,
            proration="days",
            granularity="months",
            group_by=list(metric.group_by),
        )
    return metric
