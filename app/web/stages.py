"""What the page of a call is made of: the stops on its way, and what each wing tells about it."""

from collections.abc import Callable
from typing import Any

import msgspec

from app.store.engine import Connection
from app.store.review import WholeCall

EVENTS_MAX = 20
"""Events of one call that its page shows; the API gives all of them."""

Panel = Callable[[Connection, WholeCall, int], dict[str, Any]]
"""Tells more about a call, at a time: values for its page."""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One stop on a call's way."""

    name: str
    passed: bool
    sentence: str
    at: str | None = None
    """RFC 3339; None where it was not kept."""
    after: float | None = None
    """Seconds after the call was received; None where a replay began it, or Lotus ended it."""
