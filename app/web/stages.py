"""The parts of the page of a call: its stages, and the panels of each wing."""

from collections.abc import Callable
from typing import Any

import msgspec

from app.store.engine import Connection
from app.store.review import WholeCall

EVENTS_MAX = 20
"""The most events that the page of a call shows; the API returns all of them."""

Panel = Callable[[Connection, WholeCall, int], dict[str, Any]]
"""(connection, call, now) -> values for the page of the call."""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of the processing of a call."""

    name: str
    passed: bool
    sentence: str
    at: str | None = None
    """RFC 3339; None if it was not recorded."""
    after: float | None = None
    """Seconds after the call was received; None for a stage of a replay, or of Lotus."""
