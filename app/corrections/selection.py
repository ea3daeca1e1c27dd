"""The selection of a correction: which events it is about, from options, members of JSON or fields of a form."""

from collections.abc import Mapping
from typing import Any

import msgspec

from app.core.times import format_time
from app.errors import BadQuery
from app.store.query import check_texts, parse_id, parse_moment
from app.store.record import KEY_MAX

MEMBERS = ("ids", "call", "message", "event_name", "customer", "since", "until")

IDS_MAX = 10_000
"""Idempotency ids of one selection: more are a filter."""

TEXT_MAX = 2000
REASON_MAX = 500
AUTHOR_MAX = 100


class Selection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which events: all that is set has to fit. Stored as it is: the same selection resumes a stopped correction."""

    ids: tuple[str, ...] = ()
    """Idempotency ids, also those before any correction."""
    call: int | None = None
    """Id of the call that made them."""
    message: str | None = None
    """Id of the message that their call had."""
    event_name: str | None = None
    customer: str | None = None
    since: int | None = None
    """The first `time_created`, in microseconds since 1970."""
    until: int | None = None
    """The first `time_created` after them."""

    def to_values(self) -> dict[str, Any]:
        """Return it as JSON values that `parse_selection` reads."""
        return {
            "ids": list(self.ids) or None,
            "call": None if self.call is None else str(self.call),
            "message": self.message,
            "event_name": self.event_name,
            "customer": self.customer,
            "since": None if self.since is None else format_time(self.since),
            "until": None if self.until is None else format_time(self.until),
        }


def parse_selection(values: Mapping[str, Any], now: int) -> Selection:
    """Parse a selection; `values` has some of MEMBERS, None for one that is not used; `now` in microseconds.

    Raises:
        BadQuery: names the member that is wrong, and says what is accepted.

    """
    texts = {name: value for name, value in values.items() if value is not None}
    ids = texts.pop("ids", [])
    if wrong := next((name for name in texts if name not in MEMBERS), None):
        raise BadQuery(f"there is no {wrong[:40]!a}: there are {', '.join(MEMBERS)}")
    if not isinstance(ids, list | tuple) or not all(isinstance(id_, str) and 0 < len(id_) <= KEY_MAX for id_ in ids):
        raise BadQuery(f"ids must be a list of idempotency ids, each of 1 to {KEY_MAX} characters")
    if len(ids) > IDS_MAX:
        raise BadQuery(f"there are {len(ids):,} ids: {IDS_MAX:,} at most; a filter takes any number of events")
    for name, text in texts.items():
        if not (isinstance(text, str) and 0 < len(text) <= TEXT_MAX):
            raise BadQuery(f"{name} must be a text of 1 to {TEXT_MAX:,} characters; leave it out if it does not matter")
    check_texts({**texts, **{f"ids[{at}]": id_ for at, id_ in enumerate(ids)}})
    if not (ids or texts.keys() & {"call", "message", "event_name", "customer"}):
        raise BadQuery("name the events: idempotency ids, a call, a message, a customer or an event name")
    selection = Selection(
        ids=tuple(sorted(set(ids))),
        call=parse_id("call", texts["call"]) if "call" in texts else None,
        message=texts.get("message"),
        event_name=texts.get("event_name"),
        customer=texts.get("customer"),
        since=parse_moment("since", texts["since"], now) if "since" in texts else None,
        until=parse_moment("until", texts["until"], now) if "until" in texts else None,
    )
    if selection.since is not None and selection.until is not None and selection.since >= selection.until:
        raise BadQuery("since must be before until: the period includes since, but not until")
    return selection


def parse_reason(text: object) -> str:
    """Return the reason of a correction or an undo. Raises BadQuery."""
    return _parse_words("reason", text, REASON_MAX)


def parse_author(text: object) -> str:
    """Return the author of a correction or an undo. Raises BadQuery."""
    return _parse_words("author", text, AUTHOR_MAX)


def _parse_words(name: str, text: object, most: int) -> str:
    words = text.strip() if isinstance(text, str) else ""
    if not 0 < len(words) <= most:
        raise BadQuery(f"{name} must be a text of 1 to {most} characters")
    check_texts({name: words})
    return words
