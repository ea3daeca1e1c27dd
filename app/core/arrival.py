"""Read a stored call as it was read on arrival, by the rules of the route it came in on.

Everything that looks at a stored call (replay, preview, `show`, the editor) reads it here, so all of them process the
same document as on arrival.
"""

from typing import Any

from app.core import native, tracking
from app.core.native import NativeEvent, sketch_event
from app.core.segment import Sketch, read, sketch

WEBHOOK = "webhook"
"""The route name of Segment's webhook destination, which has more than one path."""

BACKFILL = "backfill"
"""The route name of Segment calls that a person loaded from a file: read as they are written there."""

BACKFILL_EVENTS = "backfill/events"
"""The route name of Lotus events that a person loaded from a file."""

NATIVE_ROUTES = frozenset({native.ROUTE, BACKFILL_EVENTS})
"""The routes of events in Lotus's own form."""


def read_arrived(raw: bytes, *, route: str, envelope: bytes | None, received_at: int, message_id: str | None) -> Any:
    """Decode a stored call into the document that `pipeline.run` takes. Never fails.

    `envelope` holds the members that stood beside `batch` in its request; `message_id` is the id it was stored with.
    """
    document = read(raw)
    if route == WEBHOOK:
        return document
    if route in NATIVE_ROUTES:
        return NativeEvent(document)
    if route not in tracking.TYPE_OF:
        return document
    return tracking.complete(
        raw,
        document,
        route=route,
        envelope=tracking.read_envelope(envelope),
        received_at=received_at,
        message_id=message_id,
    )


def describe(document: Any) -> Sketch:
    """Return the few fields that a log line shows of a rejected call. Never fails."""
    return sketch_event(document) if type(document) is NativeEvent else sketch(document)
