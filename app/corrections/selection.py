"""The selection of a correction: which events it is about, from options, members of JSON or fields of a form."""

from collections.abc import Mapping
from typing import Any

import msgspec

from app.core.times import format_time
from app.errors import BadQuery
from app.store.corrections import LotusChoice
from app.store.query import AUTHOR_MAX, check_texts, parse_id, parse_moment, parse_words
from app.store.record import KEY_MAX

_TEXTS = ("message", "event_name", "customer", "transform", "call_event", "route")
_MOMENTS = ("since", "until", "received_since", "received_until")
MEMBERS = ("ids", "call", *_TEXTS, *_MOMENTS)

_NAMED_BY = ("call", "message", "event_name", "customer", "transform", "call_event")
"""A selection has ids or one of these: a period alone would be everybody's events."""

IDS_MAX = 10_000
"""Idempotency ids of one selection: more are a filter."""

TEXT_MAX = 2000


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
    transform: str | None = None
    """Name of the transform that made them."""
    call_event: str | None = None
    """Segment's name of the event, as their call has it."""
    route: str | None = None
    """The way by which their call came."""
    received_since: int | None = None
    """When their calls came, in microseconds since 1970."""
    received_until: int | None = None

    def to_values(self) -> dict[str, Any]:
        """Return it as JSON values that `parse_selection` reads."""
        return {
            "ids": list(self.ids) or None,
            "call": None if self.call is None else str(self.call),
            **{name: getattr(self, name) for name in _TEXTS},
            **{name: None if (at := getattr(self, name)) is None else format_time(at) for name in _MOMENTS},
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
    if not (ids or texts.keys() & set(_NAMED_BY)):
        raise BadQuery("name the events: idempotency ids, a call, a message, a customer, an event name or a transform")
    members: dict[str, Any] = {name: texts[name] for name in _TEXTS if name in texts}
    members.update((name, parse_moment(name, texts[name], now)) for name in _MOMENTS if name in texts)
    call = parse_id("call", texts["call"]) if "call" in texts else None
    selection = Selection(ids=tuple(sorted(set(ids))), call=call, **members)
    for first, last in (("since", "until"), ("received_since", "received_until")):
        start, end = getattr(selection, first), getattr(selection, last)
        if start is not None and end is not None and start >= end:
            raise BadQuery(f"{first} must be before {last}: the period includes {first}, but not {last}")
    return selection


def parse_name(text: object) -> str | None:
    """Return the name of a batch; None if it gets none. Raises BadQuery."""
    return None if text is None else parse_words("name", text, AUTHOR_MAX)


def parse_lotus(text: object) -> LotusChoice:
    """Return what is done where Lotus has an event. Raises BadQuery."""
    if text is None:
        return LotusChoice.HOLD
    if not isinstance(text, str) or text not in set(LotusChoice):
        raise BadQuery(f"lotus must be {', '.join(LotusChoice)}")
    return LotusChoice(text)
