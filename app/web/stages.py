"""The stops on a call's way, as its page shows them."""

import msgspec


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One stop on a call's way."""

    name: str
    passed: bool
    sentence: str
    at: str | None = None
    """RFC 3339; None where it was not kept."""
    after: float | None = None
    """Seconds after the call was received; None where a replay began it, or Lotus ended it."""
