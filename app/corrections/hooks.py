"""What a correction does besides events: metrics and deliveries hear of it in its transaction."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from app.corrections.tally import Measure
from app.store import ledger
from app.store.engine import Connection
from app.store.ids import Ids

OnChange = Callable[[Connection, Sequence[int], int], Counter[ledger.Entry]]
"""Called in the transaction with the ids of voided or revived events, and the time; returns the ledger's changes."""


class CorrectionHooks(NamedTuple):
    """What a correction does besides events."""

    on_void: Sequence[OnChange]
    on_revive: Sequence[OnChange]
    count_deliveries: Callable[[Connection, Sequence[int]], tuple[int, int]]
    """Returns how many of these event ids Lotus has, as far as is known here, and how many are in the outbox."""
    measure: Callable[[Connection, Sequence[int]], Measure]
    """Returns what these event ids add to the metrics."""


class CorrectionHooksFactory(Protocol):
    """Makes the hooks of corrections."""

    def __call__(self, ids: Ids) -> CorrectionHooks:
        """Make hooks that draw ids from `ids`."""
