"""What a backfill does besides calls and events."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from app.store.commit import OnEvents
from app.store.engine import Connection
from app.store.events import EventValues
from app.store.ids import Ids
from app.store.tally import Measure


class BackfillHooks(NamedTuple):
    """What a backfill does besides calls and events."""

    on_events: Sequence[OnEvents]
    make_measure: Callable[[Connection], Callable[[Sequence[EventValues]], Measure]]
    """Reads the live metrics, and returns the function that says what events add to them."""


class BackfillHooksFactory(Protocol):
    """Makes the hooks of a backfill."""

    def __call__(self, ids: Ids, *, forwards: bool) -> BackfillHooks:
        """Make hooks that draw ids from `ids`. `forwards`: queue events for Lotus, else only where others do."""
