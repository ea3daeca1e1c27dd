"""How a kept call is read: as it was understood when it came, by the route it came by.

Each place that looks at a kept call (replay, preview, `show`, the editor) reads it here, so all of them run what ran
when it came.
"""

from typing import Any

from app.core import native, tracking
from app.core.native import NativeEvent, sketch_event
from app.core.segment import Sketch, read, sketch

WEBHOOK = "webhook"
"""The route of Segment's webhook destination, which has more than one path."""


def read_arrived(raw: bytes, *, route: str, envelope: bytes | None, received_at: int, message_id: str | None) -> Any:
    """Decode a kept call into what `pipeline.run` takes. Never fails.

    `envelope` is what stood beside its batch, `message_id` the one it was stored with.
    """
    document = read(raw)
    if route == WEBHOOK:
        return document
    if route == native.ROUTE:
        return NativeEvent(document)
    if route not in tracking.TYPE_OF:
        return document
    return tracking.complete(
        raw,
        document,
        route=route,
        beside=tracking.read_beside(envelope),
        received_at=received_at,
        message_id=message_id,
    )


def describe(document: Any) -> Sketch:
    """Return what a log line can say of a call that was rejected. Never fails."""
    return sketch_event(document) if type(document) is NativeEvent else sketch(document)
