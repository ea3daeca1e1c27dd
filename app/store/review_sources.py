"""Chooses the indexes that answer the filters of calls. `conn` first.

Nothing here may scan a million calls if an index selects the matching ones. No single index holds all calls of a
customer or of a message, since the hot path pays for each index: stored calls are found through `events` and `claims`,
the others through partial indexes. Hence *sources*: each is a query that reads call ids from one index, newest first; a
page is the newest ids of all its sources.
"""

import msgspec
import sqlalchemy as sa

from app.core.outcome import REASONS_OF, Outcome, Reason
from app.store.ids import ID_MAX
from app.store.record import to_key
from app.store.review_events import first_id_since
from app.store.schema import calls, claims, events
from app.store.walk import RowSource

_ID_DIGITS = len(str(ID_MAX))

_OUTCOME_OF = {reason: outcome for outcome, reasons in REASONS_OF.items() for reason in reasons}

# Exactly the condition of the partial indexes, with a literal: with a bound value they could not be used.
_NOT_STORED = calls.c.outcome != sa.literal_column("'stored'")


class CallFilters(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls to find; None or (): any."""

    outcomes: tuple[Outcome, ...] = ()
    reason: Reason | None = None
    event: str | None = None
    """Segment's event name."""
    customer: str | None = None
    id: str | None = None
    """A call id, a message id or an idempotency id."""
    transform: str | None = None
    since: int | None = None
    """Microseconds since 1970, included."""
    until: int | None = None
    """Microseconds since 1970, excluded."""


def id_range(filters: CallFilters, after: int | None, before: int | None) -> tuple[int, int]:
    """Return the range of ids (both excluded) of the filters' period and of two ids."""
    low = max(-1 if after is None else after, first_id_since(filters.since, 0) - 1)
    high = min(ID_MAX if before is None else before, first_id_since(filters.until, ID_MAX))
    return low, high


def call_sources(filters: CallFilters) -> list[RowSource]:
    """Choose the indexes for these filters; all other filters become conditions on the calls found there."""
    outcomes = set(filters.outcomes or Outcome)
    if filters.reason is not None:
        outcomes &= {_OUTCOME_OF[filters.reason]}
    if not outcomes:
        return []
    narrow = _narrow(filters, outcomes)
    if len(outcomes) < len(Outcome):
        narrow = (*narrow, calls.c.outcome.in_(sorted(outcomes)))
    if filters.id is not None:
        leading = _id_sources(filters.id)
    elif filters.customer is not None:
        leading = _customer_sources(filters.customer, outcomes)
    else:
        by_event = () if filters.event is None else (calls.c.event == to_key(filters.event),)
        if len(outcomes) < len(Outcome):
            # One source per outcome: the index is ordered by outcome, then by id.
            return [_outcome_source(outcome, by_event, narrow[:-1]) for outcome in sorted(outcomes)]
        leading = [RowSource(calls.c.id, by_event)]
        narrow = narrow[1:] if by_event else narrow
    return [RowSource(source.key, source.leading, narrow, source.joined) for source in leading]


def _narrow(filters: CallFilters, outcomes: set[Outcome]) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions other than outcome, customer and id; the one on the event comes first."""
    conditions: list[sa.ColumnElement[bool]] = []
    if filters.event is not None:
        conditions.append(calls.c.event == to_key(filters.event))
    if filters.reason is not None and REASONS_OF[next(iter(outcomes))] != (filters.reason,):
        conditions.append(calls.c.reason == filters.reason)
    if filters.transform is not None:
        conditions.append(calls.c.transform == to_key(filters.transform))
    if filters.customer is not None and filters.id is not None:
        conditions.append(calls.c.customer_id == to_key(filters.customer))
    return tuple(conditions)


def _outcome_source(
    outcome: Outcome, by_event: tuple[sa.ColumnElement[bool], ...], narrow: tuple[sa.ColumnElement[bool], ...]
) -> RowSource:
    if outcome is Outcome.STORED:
        # Most calls are stored: a scan from the newest finds them soon, without an index.
        return RowSource(calls.c.id, by_event, (calls.c.outcome == outcome.value, *narrow[len(by_event) :]))
    return RowSource(calls.c.id, (calls.c.outcome == outcome.value, _NOT_STORED), narrow)


def _customer_sources(customer: str, outcomes: set[Outcome]) -> list[RowSource]:
    key = to_key(customer)
    sources = []
    if Outcome.STORED in outcomes:
        sources.append(RowSource(events.c.call_id, (events.c.customer_id == key,), joined=True))
    if outcomes != {Outcome.STORED}:
        sources.append(RowSource(calls.c.id, (calls.c.customer_id == key, _NOT_STORED)))
    return sources


def message_sources(message_key: str | None) -> list[RowSource]:
    """Return the indexes that lead to the calls of a message."""
    return [
        RowSource(claims.c.call_id, (claims.c.message_id == message_key,), joined=True),
        # The conditions of SQLite's index and of PostgreSQL's. Calls that were stored later have a claim.
        RowSource(calls.c.id, (calls.c.message_id == message_key, _NOT_STORED, calls.c.came_unstored.is_not(None))),
    ]


def _id_sources(text: str) -> list[RowSource]:
    key = to_key(text)
    sources = [
        *message_sources(key),
        RowSource(events.c.call_id, (events.c.idempotency_id == key,), joined=True),
        RowSource(events.c.call_id, (events.c.base_id == key,), joined=True),
    ]
    if text.isascii() and text.isdecimal() and len(text) <= _ID_DIGITS and int(text) <= ID_MAX:
        sources.append(RowSource(calls.c.id, (calls.c.id == int(text),)))
    return sources
