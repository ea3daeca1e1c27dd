"""The deliveries of a call's events, for the page of the call."""

from collections.abc import Sequence

from app.core.times import format_time
from app.forward.outbox import to_delivery_document
from app.forward.sql_deliveries import IN_LOTUS, DeliveryState
from app.forward.sql_lists import DeliveryRow, list_attempts, read_deliveries
from app.store.engine import Connection
from app.store.review import WholeCall
from app.web.pages import Values
from app.web.stages import EVENTS_MAX, Panel, Stage

ATTEMPTS_MAX = 100
"""Attempts that the page shows for all its events together; the page of a delivery has more."""

_WHY = {
    DeliveryState.FAILED: "Lotus refused it: {reason}",
    DeliveryState.UNFORWARDABLE: "it was never sent: {reason}",
    DeliveryState.VOIDED: "it was made void before it was sent",
    DeliveryState.SURPLUS: "it is void since, and Lotus bills too much",
    DeliveryState.CREDITED: "it is void since, and that is settled",
    DeliveryState.HELD: "it is held back, since Lotus has the event that it replaces",
}


def delivery_panel(*, forwards: bool) -> Panel:
    """Return the panel of deliveries. `forwards`: events are forwarded, so those that never were can be queued."""

    def show(conn: Connection, whole: WholeCall, _now: int) -> Values:
        """Return the delivery and the attempts of each event, by event id, and the stages of forwarding."""
        shown = whole.events[:EVENTS_MAX]
        rows = read_deliveries(conn, [event.id for event in shown])
        attempts = list_attempts(conn, [row.event_id for row in rows], ATTEMPTS_MAX) if rows else {}
        live = {event.id for event in shown if event.voided_at is None} if forwards else set()
        return {
            "deliveries_of": {str(row.event_id): (to_delivery_document(row), attempts[row.event_id]) for row in rows},
            "not_requested": len(live.difference(row.event_id for row in rows)),
            "delivery_stages": _stages(rows),
        }

    return show


def _stages(rows: Sequence[DeliveryRow]) -> list[Stage]:
    if not rows:
        return []
    waiting = [row for row in rows if row.state == DeliveryState.WAITING]
    ended = [row for row in rows if row.state != DeliveryState.WAITING]
    sentence = "for Lotus" if len(rows) == 1 else f"for Lotus, {len(rows)} events"
    if waiting:
        sentence += "; it waits" if len(rows) == 1 else f"; {len(waiting)} wait"
        sentence += next((f", the last time: {row.reason}" for row in waiting if row.reason), "")
    stages = [Stage(name="queued", passed=True, sentence=sentence)]
    if ended:
        stages.append(_last_stage(ended, len(rows)))
    return stages


def _last_stage(ended: Sequence[DeliveryRow], count: int) -> Stage:
    taken = [row for row in ended if row.state in IN_LOTUS]
    undelivered = [row for row in ended if row.state != DeliveryState.DELIVERED]
    sentence = "Lotus took it" if count == 1 else f"Lotus took {len(taken)} of {count}"
    if undelivered:
        row = undelivered[0]
        why = _WHY[DeliveryState(row.state)].format(reason=row.reason)
        if count > 1:
            sentence += f"; of one: {why}"
        else:
            sentence = f"{sentence}; {why}" if taken else why
    at = max((row.settled_at for row in ended if row.settled_at is not None), default=None)
    return Stage(
        name="delivered", passed=not undelivered, sentence=sentence[:400], at=None if at is None else format_time(at)
    )
