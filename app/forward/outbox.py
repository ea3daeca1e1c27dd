"""Deliveries for the API, the pages and the commands: the filters, and the documents that show them."""

from collections.abc import Mapping

import msgspec

from app.core.times import format_time
from app.errors import BadQuery
from app.forward.sql_claims import Attempt
from app.forward.sql_deliveries import DeliveryState
from app.forward.sql_destination import Destination, read_destination
from app.forward.sql_lists import DeliveryGroup, DeliveryRow, count_undelivered
from app.forward.sql_search import DeliveryFilters
from app.store.engine import Connection
from app.store.query import check_texts, parse_moment

DELIVERY_PARAMETERS = ("state", "reason", "customer", "event_name", "id", "since", "until")


class DeliveryDocument(msgspec.Struct, kw_only=True):
    """One delivery."""

    event_id: str
    idempotency_id: str
    event_name: str
    customer_id: str
    time_created: str
    call_id: str | None
    """None: it is a difference, and no event."""
    state: str
    reason: str | None
    tries: int
    due_at: str | None
    """When it is sent next; None if it is not waiting."""
    settled_at: str | None
    note: str | None
    """What was done about a surplus."""
    note_author: str | None
    noted_at: str | None
    held_for: str | None
    """Id of the event that it replaces, and that Lotus has; None: it is not held back."""
    correction_id: str | None
    """Of a difference: the correction that made it."""
    corrects: str | None
    """Of a difference: id of the event whose number it corrects."""


class GroupDocument(msgspec.Struct, kw_only=True):
    """Undelivered events with the same state and reason."""

    state: str
    reason: str
    count: int
    first_at: str
    last_at: str
    sample: str
    """The newest of its events."""


class AttemptDocument(msgspec.Struct, kw_only=True):
    """One request to Lotus."""

    id: str
    started_at: str
    milliseconds: int
    events: int
    status: int | None
    answer: str


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Why forwarding is paused, and what to do about it."""

    trouble: str
    message: str
    advice: str
    paused_at: int
    probe_at: int
    """When one event, or a ping, is tried again; in microseconds since 1970."""
    is_due: bool
    """Whether `probe_at` has passed: a running worker tries now."""


# By trouble, see app.forward.verdict.
ADVICE = {
    "key": "Set LOTUS_API_KEY to a valid key (in Lotus: Settings > Developer Settings), and restart.",
    "broker": "Lotus answers, but its message broker does not: check that Kafka or Redpanda is running.",
    "server": "Lotus has an internal error: see its logs.",
    "busy": "No action is needed: Lotus asked for fewer requests.",
    "network": "Check that Lotus is running, and that LOTUS_HOST is its address as seen from this machine.",
    "answer": "Check that LOTUS_HOST is the address of Lotus itself: the server there does not answer as Lotus does.",
}


class DestinationDocument(msgspec.Struct, kw_only=True):
    """The state of forwarding, and the counts of undelivered events."""

    paused: bool
    trouble: str | None
    message: str | None
    advice: str | None
    """What to do about it."""
    paused_at: str | None
    probe_at: str | None
    waiting: int
    failed: int
    unforwardable: int
    surplus: int
    held: int


def parse_delivery_filters(texts: Mapping[str, str], now: int) -> DeliveryFilters:
    """Parse the filters of deliveries; the keys of `texts` are among DELIVERY_PARAMETERS, `now` in microseconds.

    Raises BadQuery.
    """
    try:
        state = DeliveryState(texts["state"]) if "state" in texts else None
    except ValueError:
        raise BadQuery(f"state must be one of {', '.join(DeliveryState)}; it is {texts['state'][:40]!a}") from None
    check_texts({name: texts[name] for name in ("reason", "customer", "event_name", "id") if name in texts})
    return DeliveryFilters(
        state=state,
        reason=texts.get("reason"),
        customer=texts.get("customer"),
        event_name=texts.get("event_name"),
        id=texts.get("id"),
        since=parse_moment("since", texts["since"], now) if "since" in texts else None,
        until=parse_moment("until", texts["until"], now) if "until" in texts else None,
    )


def to_delivery_document(row: DeliveryRow) -> DeliveryDocument:
    """Return the document of a delivery."""
    return DeliveryDocument(
        event_id=str(row.event_id),
        idempotency_id=row.idempotency_id,
        event_name=row.event_name,
        customer_id=row.customer_id,
        time_created=format_time(row.time_created),
        call_id=_to_id(row.call_id),
        state=row.state,
        reason=row.reason,
        tries=row.tries,
        due_at=format_time(row.due_at) if row.state == DeliveryState.WAITING else None,
        settled_at=None if row.settled_at is None else format_time(row.settled_at),
        note=row.note,
        note_author=row.note_author,
        noted_at=None if row.noted_at is None else format_time(row.noted_at),
        held_for=_to_id(row.held_for),
        correction_id=_to_id(row.correction_id),
        corrects=_to_id(row.corrected_id),
    )


def _to_id(number: int | None) -> str | None:
    return None if number is None else str(number)


def to_group_document(group: DeliveryGroup) -> GroupDocument:
    """Return the document of a group."""
    return GroupDocument(
        state=group.state.value,
        reason=group.reason,
        count=group.count,
        first_at=format_time(group.first_at),
        last_at=format_time(group.last_at),
        sample=str(group.sample),
    )


def to_attempt_document(attempt: Attempt) -> AttemptDocument:
    """Return the document of an attempt."""
    return AttemptDocument(
        id=str(attempt.id),
        started_at=format_time(attempt.started_at),
        milliseconds=attempt.milliseconds,
        events=attempt.events,
        status=attempt.status,
        answer=attempt.answer,
    )


def describe_pause(destination: Destination, now: int) -> Pause | None:
    """Return why forwarding is paused, and what to do; None if it is not. `now` in microseconds since 1970."""
    if destination.trouble is None:
        return None
    return Pause(
        trouble=destination.trouble,
        message=destination.sentence or destination.trouble,
        advice=ADVICE.get(destination.trouble, ""),
        paused_at=destination.paused_at or now,
        probe_at=destination.probe_at,
        is_due=destination.probe_at <= now,
    )


def find_pause(conn: Connection, now: int) -> Pause | None:
    """Return why forwarding is paused at `now` (microseconds since 1970); None if it is not."""
    return describe_pause(read_destination(conn), now)


def read_outbox(conn: Connection) -> DestinationDocument:
    """Return the state of forwarding, and the counts of undelivered events."""
    destination: Destination = read_destination(conn)
    counts = count_undelivered(conn)
    paused = destination.trouble is not None
    return DestinationDocument(
        paused=paused,
        trouble=destination.trouble,
        message=destination.sentence,
        advice=ADVICE.get(destination.trouble) if destination.trouble else None,
        paused_at=format_time(destination.paused_at) if destination.paused_at else None,
        probe_at=format_time(destination.probe_at) if paused else None,
        waiting=counts[DeliveryState.WAITING],
        failed=counts[DeliveryState.FAILED],
        unforwardable=counts[DeliveryState.UNFORWARDABLE],
        surplus=counts[DeliveryState.SURPLUS],
        held=counts[DeliveryState.HELD],
    )
