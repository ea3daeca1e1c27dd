"""A migrated database of each kind, and events in it that came through the real writer."""

from collections.abc import Callable, Sequence

import pytest
import sqlalchemy as sa

from app.catalog.files import Folder as Files
from app.core.lotus import make_event
from app.core.times import format_time
from app.metrics.catalog import publish_new_metrics
from app.metrics.definition import Metric
from app.metrics.fold import BucketBuilder
from app.metrics.query import MetricEvent
from app.metrics.sql_tail import tail_of
from app.store.engine import Database
from app.store.schema import events
from tests.builders import IDS, NOW, a_record, store

Keep = Callable[[Sequence[MetricEvent]], None]


def keep_events(kept: Database, told: Sequence[MetricEvent], ids: Sequence[str] | None = None, group: int = 7) -> None:
    """Store events in order, some in one commit; then make void what is to be void. `ids`: their idempotency ids."""
    named = list(zip(told, ids or [one.base_id for one in told], strict=True))
    records = [
        # Each comes as a call of its own: a message id would make two of them one before the events are compared.
        a_record(
            # As text: a number would be taken for seconds where it is small.
            make_event(one.event_name, name, one.customer_id, format_time(one.time_created), one.properties),
            message_id=f"m-{one.base_id}",
        )
        for one, name in named
    ]
    for start in range(0, len(records), group):
        store(kept, *records[start : start + group])
    void = [name for one, name in named if one.voided]
    if void:
        make_void(kept, void)


def make_void(kept: Database, names: Sequence[str]) -> None:
    """Make events void by their idempotency ids, as a replay that corrects does."""
    with kept.writing() as conn:
        of_these = events.c.idempotency_id.in_(names)
        ids = list(conn.scalars(sa.select(events.c.id).where(of_these)))
        conn.execute(sa.update(events).where(of_these).values(voided_at=NOW))
        tail_of(IDS.next)(conn, [], ids, NOW)


def publish(database: Database, *metrics: Metric) -> None:
    """Make metrics live, as the service does with new files."""
    texts = {one.name: one.text for one in metrics}
    publish_new_metrics(database, Files(texts=texts, problems={}), IDS.next, lambda: NOW)


def fold_all(database: Database, events: int = 500) -> None:
    """Take all steps there are."""
    folder = BucketBuilder(database, 1, lambda: NOW)
    while folder.step(events):
        pass


@pytest.fixture
def keep(database: Database) -> Keep:
    """Stores events in the test's database."""
    return lambda told: keep_events(database, told)
