"""What becomes of the next events of a selection, before anything is written: preview and run ask the same function."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from app.core.lotus import IDEMPOTENCY_ID_MAX, LotusEvent
from app.corrections.amendment import Amendment
from app.corrections.hooks import CorrectionHooks
from app.corrections.sql_corrections import SelectedEvent
from app.errors import EventInvalid, UnparsableJson
from app.store.engine import Connection
from app.store.events import EventValues, to_revision_id
from app.store.tally import CorrectionTally


class EventChange(NamedTuple):
    """An event that is made void, and what stands for it then."""

    old: SelectedEvent
    new: LotusEvent | None
    """None: nothing does."""

    def to_values(self) -> EventValues | None:
        """Return what metrics read of the new event, which is not stored yet."""
        if self.new is None:
            return None
        new = self.new
        return EventValues(0, self.old.base, new.event_name, new.customer_id, new.time_created, new.properties)


class Changes(msgspec.Struct, kw_only=True):
    """What becomes of some events."""

    events: list[EventChange]
    already_void: int = 0
    unchanged: int = 0
    refused: list[str] = []
    overtaken: int = 0

    @property
    def event_ids(self) -> list[int]:
        """The ids of the events that are made void."""
        return [change.old.id for change in self.events]

    @property
    def replacements(self) -> dict[int, LotusEvent]:
        """What stands for them, by the id of the event that is made void."""
        return {change.old.id: change.new for change in self.events if change.new is not None}

    @property
    def old_values(self) -> list[EventValues]:
        """What metrics read of them."""
        return [change.old.to_values() for change in self.events]

    @property
    def new_values(self) -> list[EventValues]:
        """What metrics read of what stands for them."""
        return [values for change in self.events if (values := change.to_values()) is not None]

    def count(self, tally: CorrectionTally, conn: Connection, hooks: CorrectionHooks) -> None:
        """Add them to the counts of a batch, with what they change about metrics; deliveries are counted apart."""
        tally.already_void += self.already_void
        tally.unchanged += self.unchanged
        tally.overtaken += self.overtaken
        tally.refused += len(self.refused)
        tally.refused_why = tally.refused_why or next(iter(self.refused), None)
        tally.add_events(
            [(change.old.customer_id, change.old.event_name) for change in self.events],
            hooks.measure(conn, self.old_values),
        )
        replacements = self.new_values
        if replacements:
            moved = [
                (change.new.customer_id, change.new.event_name)
                for change in self.events
                if change.new is not None
                and (change.new.customer_id, change.new.event_name) != (change.old.customer_id, change.old.event_name)
            ]
            tally.add_replacements(moved, hooks.measure(conn, replacements))


def count_deliveries(
    tally: CorrectionTally, conn: Connection, hooks: CorrectionHooks, event_ids: Sequence[int]
) -> None:
    """Add what Lotus has of these events, and what waits for it."""
    delivered, undelivered = hooks.count_deliveries(conn, event_ids)
    tally.delivered += delivered
    tally.withdrawn += undelivered


def decide(page: Sequence[SelectedEvent], amendment: Amendment | None, counted_at: int | None) -> Changes:
    """Decide about events: without an amendment those that count are made void.

    `counted_at`: when the selection was counted. What somebody else amended since then is left: it was not seen.
    """
    changes = Changes(events=[])
    for event in page:
        if event.voided_at is not None:
            changes.already_void += 1
        elif amendment is None:
            changes.events.append(EventChange(event, None))
        elif counted_at is not None and event.revision is not None and (event.stored_at or 0) > counted_at:
            changes.overtaken += 1
        else:
            _amend(changes, event, amendment)
    return changes


def _amend(changes: Changes, event: SelectedEvent, amendment: Amendment) -> None:
    if len(to_revision_id(event.base, (event.revision or 1) + 1)) > IDEMPOTENCY_ID_MAX:
        changes.refused.append(f"an idempotency id of {len(event.base)} characters leaves no room for a revision")
        return
    try:
        amended = amendment.apply(event)
    except (EventInvalid, UnparsableJson) as error:
        changes.refused.append(error.message)
        return
    if amended is None:
        changes.unchanged += 1
    else:
        changes.events.append(EventChange(event, amended))
