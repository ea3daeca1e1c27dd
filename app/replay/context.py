"""What the writing of a batch works with: its transaction, its hooks, its result."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from app.core.lotus import LotusEvent
from app.store import ledger
from app.store.commit import OnEvents
from app.store.corrections import Correction, CorrectionStep
from app.store.engine import Connection
from app.store.ids import Ids
from app.store.settle import MapAgain
from app.store.tally import Measure


class Hooks(NamedTuple):
    """What a replay does besides calls and events."""

    on_events: Sequence[OnEvents]
    """Hear of the events that a replay stores that corrects none."""
    on_step: Sequence[Callable[[Connection, CorrectionStep], Counter[ledger.Entry]]]
    """Hear of what a replay does that corrects; in its transaction, too. They return the ledger's changes."""
    count_deliveries: Callable[[Connection, Sequence[int]], tuple[int, int]]
    """Returns how many of these event ids Lotus has, as far as is known here, and how many are in the outbox."""
    measure: Callable[[Connection, Sequence[int]], Measure]
    """Returns what these event ids add to the metrics."""
    check_lotus: Callable[[Connection, Sequence[int], str, int, Mapping[int, LotusEvent]], None]
    """Checks that what is chosen for Lotus can be carried out for voided events, at a time in microseconds, with what
    stands for them by their ids. Raises BadQuery."""


class HooksFactory(Protocol):
    """Makes the hooks of a replay."""

    def __call__(self, ids: Ids, *, forwards: bool) -> Hooks:
        """Make hooks that draw ids from `ids`. `forwards`: queue stored events for Lotus, else only where others do."""


@dataclass(slots=True, kw_only=True)
class BatchResult:
    """The result of one batch."""

    changed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Calls by (outcome before, outcome now), without corrected calls."""
    same: int = 0
    """Calls whose outcome is unchanged."""
    corrected: int = 0
    voided: int = 0
    """Events."""
    delivered: int = 0
    """How many of the voided events Lotus already has, and keeps."""
    withdrawn: int = 0
    """How many of them were taken out of the outbox."""
    added: int = 0
    """Events that a correction stored and that replace no other."""
    owners: list[tuple[str, str]] = field(default_factory=list)
    """The customer and the event name of each voided event."""
    moved: list[tuple[str, str]] = field(default_factory=list)
    """The same of what a correction stored for another customer or name."""
    lost: Measure = field(default_factory=dict)
    """What the voided events added to the metrics."""
    gained: Measure = field(default_factory=dict)
    """What those add that a correction stored."""
    notes: list[tuple[int, str]] = field(default_factory=list)
    """(call id, why it is left unchanged)."""


@dataclass(slots=True, kw_only=True)
class BatchContext:
    """The transaction of a batch and what its writes need."""

    conn: Connection
    replay_id: int
    correction: Correction | None
    """The batch of a replay that corrects."""
    map_again: MapAgain
    next_id: Callable[[int], int]
    tag: int
    """Tag of this process's rows in the ledger."""
    now: int
    hooks: Hooks
    is_rehearsal: bool = False
    """It will be rolled back: what cannot be carried out is refused here, before anything is written."""
