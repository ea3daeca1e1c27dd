"""Searches the events of customers for lookalikes, one customer after the other."""

import time
from collections.abc import Mapping, Sequence

import msgspec

from app.corrections.lookalikes import (
    Counted,
    FindCounted,
    LookalikeGroup,
    Lookalikes,
    LookalikesPage,
    Member,
    Ordinary,
    Question,
    find_groups,
    to_shown_event,
)
from app.corrections.sql_lookalikes import EventDetails, find_next_customer, read_details, scan_events
from app.errors import BadQuery
from app.store.engine import Connection

SHOWN_MAX = 100
"""Events of one group that are shown."""


def find_lookalikes(
    conn: Connection,
    question: Question,
    find_counted: FindCounted,
    *,
    limit: int,
    after: str | None = None,
    seconds: float | None = None,
) -> LookalikesPage:
    """Return the first `limit` groups, those that are pre-selected first, of the customer asked for or of all.

    Of all customers, it goes on `after` one, and ends after `seconds` of work and the customer then at hand.

    Raises:
        NotFound: there is no such metric.
        BadQuery: the metric counts other events than those asked for, or a customer has too many.

    """
    counted = _find_counted(conn, question, find_counted)
    event_name = counted.event_name if counted is not None else question.event_name
    page = LookalikesPage()
    until = None if seconds is None else time.monotonic() + seconds
    customer = question.customer if question.customer is not None else find_next_customer(conn, after)
    while customer is not None:
        recurring = scan_events(conn, question, customer, event_name).find_recurring()
        if counted is not None:
            recurring = _only_counted(conn, recurring, counted)
        groups = sorted(find_groups(recurring, question), key=_first)
        details = _judge(conn, groups)
        groups.sort(key=_is_ordinary)
        _add(conn, page, customer, groups, details, limit)
        following = None if question.customer is not None else find_next_customer(conn, customer)
        if following is not None and until is not None and time.monotonic() > until:
            page.next = customer
            break
        customer = following
    page.groups.sort(key=lambda group: not group.selected)
    return page


def list_spare_ids(page: LookalikesPage) -> list[str]:
    """Return the ids of all but the first event of each pre-selected group."""
    return [id_ for group in page.groups if group.selected for id_ in group.spare_ids]


def _find_counted(conn: Connection, question: Question, find_counted: FindCounted) -> Counted | None:
    if question.metric is None:
        return None
    counted = find_counted(conn, question.metric)
    if question.event_name not in {None, counted.event_name}:
        raise BadQuery(f"the metric {question.metric} counts events named {counted.event_name[:100]!r}, and no others")
    return counted


def _only_counted(
    conn: Connection, recurring: Mapping[bytes, list[Member]], counted: Counted
) -> dict[bytes, list[Member]]:
    """Leave out contents that a metric does not count; one event tells it for all that are equal."""
    details = read_details(conn, (same[0].id for same in recurring.values()))
    return {content: same for content, same in recurring.items() if counted.counts(details[same[0].id].properties)}


def _judge(conn: Connection, groups: Sequence[LookalikeGroup]) -> dict[int, EventDetails]:
    """Decide, of groups that look like retries so far, by what their events have; return the details of these."""
    candidates = [group for group in groups if group.why_ordinary is None]
    details = read_details(conn, (member.id for group in candidates for member in group.members))
    for group in candidates:
        own = [details[member.id] for member in group.members]
        if len({event.call_id for event in own}) < len(own):
            group.why_ordinary = Ordinary.ONE_CALL
        elif own[0].properties == "{}":
            group.why_ordinary = Ordinary.EMPTY
    return details


def _add(
    conn: Connection,
    page: LookalikesPage,
    customer: str,
    groups: Sequence[LookalikeGroup],
    details: Mapping[int, EventDetails],
    limit: int,
) -> None:
    """Add the groups of one customer, by rank, to a page that shows at most `limit`."""
    selected = [group for group in groups if group.why_ordinary is None]
    page.total += len(groups)
    page.selected += len(selected)
    page.doubles += sum(len(group.members) - 1 for group in selected)
    shown = groups[: max(limit - sum(group.selected for group in page.groups), 0)]
    ids = [member.id for group in shown for member in group.members[:SHOWN_MAX] if member.id not in details]
    known = {**details, **read_details(conn, ids)}
    page.groups += [_to_shown(group, customer, known) for group in shown]
    if len(page.groups) > limit:
        # Ordinary groups of former customers make way.
        page.groups = sorted(page.groups, key=lambda group: not group.selected)[:limit]


def _to_shown(group: LookalikeGroup, customer: str, details: Mapping[int, EventDetails]) -> Lookalikes:
    first = details[group.members[0].id]
    return Lookalikes(
        customer_id=customer,
        event_name=first.event_name,
        properties=msgspec.Raw(first.properties.encode()),
        count=len(group.members),
        selected=group.why_ordinary is None,
        why_ordinary=group.why_ordinary,
        events=[
            to_shown_event(event.idempotency_id, event.call_id, member.time_created)
            for member in group.members[:SHOWN_MAX]
            for event in (details[member.id],)
        ],
    )


def _first(group: LookalikeGroup) -> Member:
    return group.members[0]


def _is_ordinary(group: LookalikeGroup) -> bool:
    return group.why_ordinary is not None
