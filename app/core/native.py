"""Events in Lotus's own format, from `/api/track/`: checked, and stored as they are.

They have no message id and no transform. A built-in name stands for the transform; it has a colon, which no file name
can have.
"""

from hashlib import blake2b
from typing import Any, Final

import msgspec

from app.core.lotus import DIGEST_BYTES, LotusEvent, make_event, to_id_text
from app.core.outcome import Reason
from app.core.segment import Sketch, Unparsed, Unread
from app.errors import CallRejected, EventInvalid

ROUTE: Final = "/api/track/"

TYPE: Final = "event"
"""Stands for a Segment call's type."""

NAME: Final = "built-in:lotus"
DIGEST: Final = blake2b(b"built-in:lotus 1", digest_size=DIGEST_BYTES).digest()

# Lotus's own wording (https://github.com/uselotus/lotus); the last one is ours, since Lotus does not check.
NO_ID = "No idempotency_id provided"
NO_CUSTOMER = "No customer_id provided"
INVALID_TIME = "Invalid time_created"
NO_NAME = "No event_name provided"
NO_JSON = "Invalid JSON"
"""In Lotus this is about a whole request; here, about one event."""

_REQUIRED = (("idempotency_id", NO_ID), ("customer_id", NO_CUSTOMER), ("event_name", NO_NAME))


class NativeEvent(msgspec.Struct, frozen=True):
    """The decoded document of a native event; it stands for a Segment call's document."""

    value: Any
    """Any JSON value, an Unread, or an Unparsed."""


def check_event(native: NativeEvent) -> LotusEvent:
    """Check an event and return it.

    Raises:
        CallRejected: it is not an object, or could not be read.
        EventInvalid: it breaks a rule; the sentence says which, in Lotus's wording where Lotus has one.

    """
    value = native.value
    if isinstance(value, Unread):
        raise CallRejected(Reason.CALL_TOO_LARGE, value.value.replace("The call", "The event"))
    if type(value) is Unparsed:
        raise CallRejected(Reason.UNSTORABLE, value.sentence, path=value.path, kind=value.kind)
    if type(value) is not dict:
        raise CallRejected(Reason.NOT_AN_OBJECT, "An event must be an object.")
    for field, sentence in _REQUIRED:
        if value.get(field) in (None, ""):
            raise EventInvalid(field, sentence)
    try:
        return make_event(
            value["event_name"],
            value["idempotency_id"],
            value["customer_id"],
            value.get("time_created"),
            value.get("properties"),
        )
    except EventInvalid as error:
        if error.field == "time_created":
            raise EventInvalid(error.field, INVALID_TIME) from error
        raise


def sketch_event(native: NativeEvent) -> Sketch:
    """Return the few fields that log lines and lists show of an event, valid or not."""
    value = _readable(native)
    if type(value) is not dict:
        return Sketch(type=TYPE)
    name = value.get("event_name")
    return Sketch(type=TYPE, event=name if type(name) is str and name else None, user_id=_id(value.get("customer_id")))


def find_idempotency_id(native: NativeEvent) -> str | None:
    """Return the event's idempotency id, valid or not, for the answer to its sender."""
    value = _readable(native)
    return _id(value.get("idempotency_id")) if type(value) is dict else None


def _readable(native: NativeEvent) -> Any:
    return native.value.mended if type(native.value) is Unparsed else native.value


def _id(value: Any) -> str | None:
    try:
        return to_id_text("", value) or None
    except EventInvalid:
        return None
