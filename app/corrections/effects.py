"""The changes of numbers that depend on other events: computed once, when all events of a batch are known."""

from app.corrections.changes import Changes
from app.corrections.hooks import CorrectionHooks
from app.corrections.sql_corrections import list_replacement_values, list_voided_values
from app.store.clock import read_clock
from app.store.corrections import Correction
from app.store.engine import Connection
from app.store.events import EventValues
from app.store.tally import CorrectionTally, Swap

COMPARED_EVENTS = 100_000
"""Events of a batch whose changes of such numbers are computed."""

_TOO_LARGE = f"the batch has more than {COMPARED_EVENTS:,} events"
_NOTHING = Swap((), ())


class Foreseen:
    """What a preview has come across: what would be left out, and what would stand for it."""

    def __init__(self) -> None:
        self._without: list[EventValues] = []
        self._instead: list[EventValues] = []

    def add(self, changes: Changes, tally: CorrectionTally) -> None:
        """Add some events; more than can be compared are not kept."""
        if tally.events > COMPARED_EVENTS:
            self._without, self._instead = [], []
        elif tally.effects:
            self._without += changes.old_values
            self._instead += changes.new_values

    def compare(self, conn: Connection, hooks: CorrectionHooks, tally: CorrectionTally) -> None:
        """Set the changes of all numbers, from now to when the batch is done."""
        _compare(conn, hooks, tally, _NOTHING, Swap(self._without, self._instead))


def compare_at_end(
    conn: Connection, hooks: CorrectionHooks, correction: Correction, tally: CorrectionTally, last: Changes
) -> None:
    """Set the changes of all numbers, from before the batch to its end; `last` are the events of its last step."""
    if not tally.list_unknown() or tally.events > COMPARED_EVENTS:
        before = after = _NOTHING
    else:
        before = Swap(list_replacement_values(conn, correction.id), list_voided_values(conn, correction.id))
        after = Swap(last.old_values, last.new_values)
    _compare(conn, hooks, tally, before, after)


def _compare(conn: Connection, hooks: CorrectionHooks, tally: CorrectionTally, before: Swap, after: Swap) -> None:
    keys = tally.list_unknown()
    if tally.events > COMPARED_EVENTS:
        tally.compare(dict.fromkeys(keys, _TOO_LARGE))
    elif keys:
        tally.compare(hooks.compare(conn, keys, before, after, read_clock(conn)))
