"""What a correction does besides events: metrics and deliveries hear of it in its transaction."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from app.core.lotus import LotusEvent
from app.store import ledger
from app.store.corrections import CorrectionStep
from app.store.engine import Connection
from app.store.events import EventValues
from app.store.ids import Ids
from app.store.tally import Comparison, Measure, NumberKey, Swap

OnStep = Callable[[Connection, CorrectionStep], Counter[ledger.Entry]]
"""Called in the transaction of a step; returns the ledger's changes."""


class CompareNumbers(Protocol):
    """Says by how much numbers change that depend on all their events."""

    def __call__(
        self, conn: Connection, keys: Collection[NumberKey], before: Swap, after: Swap, now: int
    ) -> Comparison:
        """Return the changes of these numbers, and of further months, from `before` to `after`."""


class CheckLotus(Protocol):
    """Checks that a choice can be carried out for Lotus."""

    def __call__(
        self,
        conn: Connection,
        event_ids: Sequence[int],
        choice: str,
        now: int,
        replacements: Mapping[int, LotusEvent] | None = None,
    ) -> None:
        """Check a LotusChoice at a time in microseconds, for events made void or replaced. Raises BadQuery."""


class CorrectionHooks(NamedTuple):
    """What a correction does besides events."""

    on_step: Sequence[OnStep]
    count_deliveries: Callable[[Connection, Sequence[int]], tuple[int, int]]
    """Returns how many of these event ids Lotus has, as far as is known here, and how many are in the outbox."""
    measure: Callable[[Connection, Sequence[EventValues]], Measure]
    """Returns what events add to the metrics."""
    compare: CompareNumbers
    check_lotus: CheckLotus


class CorrectionHooksFactory(Protocol):
    """Makes the hooks of corrections."""

    def __call__(self, ids: Ids) -> CorrectionHooks:
        """Make hooks that draw ids from `ids`."""
