"""Which event stands in the place of which: who put it there, when, why, and what it changed. `conn` first."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from app.store.arrays import look_up
from app.store.review_events import EventRow, to_event
from app.store.schema import corrected_events, corrections, events


class FieldChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One field of an event that an amendment changed; a value is left out where the event had none."""

    path: str
    before: Any = msgspec.UNSET
    after: Any = msgspec.UNSET


class EventOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """The batch that put an event in the place of another one."""

    correction_id: int
    kind: str
    author: str
    reason: str
    at: int
    """In microseconds since 1970."""
    replaced: EventRow

    def list_changes(self, event: EventRow) -> list[FieldChange]:
        """Return what `event`, which it made, has in another way."""
        before, after = _fields(self.replaced), _fields(event)
        return [
            FieldChange(path=path, before=before.get(path, msgspec.UNSET), after=after.get(path, msgspec.UNSET))
            for path in sorted(before.keys() | after.keys())
            if (path in before, before.get(path)) != (path in after, after.get(path))
        ]


def find_origins(conn: sa.Connection, event_ids: Iterable[int]) -> dict[int, EventOrigin]:
    """Return the origin of those of these events that stand in the place of another one, or stood there, by id."""
    columns = [corrections.c[name].label(f"batch_{name}") for name in ("id", "kind", "author", "reason")]
    query = (
        sa.select(
            corrected_events.c.replacement_id, corrected_events.c.voided_at.label("replaced_at"), *columns, *events.c
        )
        .join(corrections, corrections.c.id == corrected_events.c.correction_id)
        .join(events, events.c.id == corrected_events.c.event_id)
    )
    names = {column.name for column in events.c}
    return {
        row.replacement_id: EventOrigin(
            correction_id=row.batch_id,
            kind=row.batch_kind,
            author=row.batch_author,
            reason=row.batch_reason,
            at=row.replaced_at,
            replaced=to_event({name: value for name, value in row._mapping.items() if name in names}),  # noqa: SLF001
        )
        for row in look_up(conn, query, corrected_events.c.replacement_id, event_ids)
    }


def _fields(event: EventRow) -> Mapping[str, Any]:
    values = event.to_values()
    properties = values.pop("properties") or {}
    values.pop("idempotency_id")
    return {**values, **{f"properties.{name}": value for name, value in properties.items()}}
