"""Corrections of sums in Lotus: what it has of an event, and which event would correct its sums.

Lotus can take nothing back. Where a metric is a sum, a further event with a difference, which may be negative, makes
its number right. Metrics know the difference, and the outbox sends it: these are the values between them.
"""

from collections.abc import Callable, Sequence

import msgspec
import sqlalchemy as sa

from app.core.lotus import LotusEvent
from app.store.corrections import LotusChoice


class LotusShare(msgspec.Struct, frozen=True):
    """What Lotus has of an event."""

    event: LotusEvent
    """As it was delivered."""
    differences: tuple[str, ...] = ()
    """Properties of the differences that it got since, as JSON."""


class SumDifference(msgspec.Struct, frozen=True):
    """What makes the sums of Lotus right."""

    properties: str | None = None
    """Those of the further event, as JSON; None: the sums are right."""
    moves: bool = False
    """The further event takes the number back, and the replacement has to be sent: it counts elsewhere."""
    obstacle: str | None = None
    """Why no event makes them right."""


FindDifferences = Callable[[sa.Connection, Sequence[tuple[LotusShare, LotusEvent | None]]], list[SumDifference]]
"""Returns a difference for each pair of what Lotus has, and what counts in its place; None: nothing does."""


def delivered_text(delivered: int, choice: str | None, *, replaced: bool) -> str:
    """Return what a correction means for Lotus, which has `delivered` of its events.

    `choice` is a LotusChoice, None before it is made; `replaced`: other events stand for them.
    """
    if not delivered:
        return "Lotus has none of them"
    head = f"{delivered:,} of these {'was' if delivered == 1 else 'were'} delivered; Lotus"
    it = "it" if delivered == 1 else "them"
    if choice == LotusChoice.DIFFERENCE:
        return f"{head} keeps {it}, and gets the difference as a correction event"
    if not replaced:
        return f"{head} still counts {it}"
    if choice == LotusChoice.SEND:
        return f"{head} will count both"
    if choice is None:
        return f"{head} will count both, unless what replaces {it} is held back"
    return f"{head} still counts {it}, and what replaces {it} is held back"
