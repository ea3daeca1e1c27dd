"""Which events a live metric counts, for those who look for events and know no metrics."""

from collections.abc import Callable

from app.metrics.catalog import get_metric
from app.metrics.values import Skip, read_properties
from app.store.engine import Connection


def find_counted_events(conn: Connection, name: str) -> tuple[str, Callable[[str], bool]]:
    """Return the event name of a metric, and what tells whether it counts an event with these properties.

    Raises:
        NotFound: there is no such metric.

    """
    metric = get_metric(conn, name)

    def counts(text: str) -> bool:
        properties = read_properties(text)
        return metric.passes(properties) and not isinstance(metric.read(properties), Skip)

    return metric.event_name, counts
