"""A migrated database of each kind, and events in it that came through the real writer."""

from collections.abc import Callable, Sequence

import pytest
import sqlalchemy as sa

from app.core.lotus import make_event
from app.core.metric_query import MetricEvent
from app.core.times import format_time
from app.store.engine import Database
from app.store.schema import events
from tests.builders import NOW, a_record, store

Keep = Callable[[Sequence[MetricEvent]], None]


def keep_events(kept: Database, told: Sequence[MetricEvent], ids: Sequence[str] | None = None, group: int = 7) -> None:
    """Store events in order, some in one commit; then make void what is to be void. `ids`: their idempotency ids."""
    named = list(zip(told, ids or [f"e-{one.id}" for one in told], strict=True))
    records = [
        # Each comes as a call of its own: a message id would make two of them one before the events are compared.
        a_record(
            # As text: a number would be taken for seconds where it is small.
            make_event(one.event_name, name, one.customer_id, format_time(one.time_created), one.properties),
            message_id=f"m-{one.id}",
        )
        for one, name in named
    ]
    for start in range(0, len(records), group):
        store(kept, *records[start : start + group])
    void = [name for one, name in named if one.voided]
    if void:
        with kept.writing() as conn:
            conn.execute(sa.update(events).where(events.c.idempotency_id.in_(void)).values(voided_at=NOW))


@pytest.fixture
def keep(database: Database) -> Keep:
    """Stores events in the test's database."""
    return lambda told: keep_events(database, told)
