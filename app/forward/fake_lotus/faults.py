"""Faults of Lotus, on demand."""

import random
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class InjectedFault(StrEnum):
    """One way to fail."""

    SLOW = "slow"
    """Answers late, but correctly."""
    ERROR = "error"
    """500; accepts nothing."""
    BROKER_DOWN = "broker_down"
    """400: the broker accepts no event."""
    PARTIAL = "partial"
    """201: the broker accepts only every other event."""
    WRONG_KEY = "wrong_key"
    """400: no key is valid."""
    HANG_UP = "hang_up"
    """Closes the connection half-way through the body; accepts nothing."""
    HANG_UP_AFTER = "hang_up_after"
    """Accepts the events, and closes the connection half-way through its answer."""
    BUSY = "busy"
    """429 with Retry-After: 1."""
    NOT_JSON = "not_json"
    """Accepts the events, and answers 201 with an HTML page."""
    REDIRECT = "redirect"
    """302 to itself."""
    ENDLESS = "endless"
    """Answers 500 with a body that does not end."""


@dataclass(slots=True)
class PlannedFault:
    """A fault, the share of the requests that it affects, and how often at most."""

    fault: InjectedFault
    share: float = 1.0
    left: int | None = None


class Faults:
    """The planned faults."""

    def __init__(self, planned: Iterable[PlannedFault] = (), seed: int | None = None) -> None:
        self._planned = list(planned)
        self._random = random.Random(seed)  # noqa: S311  faults need not be hard to guess
        self._lock = threading.Lock()

    def plan(self, planned: Iterable[PlannedFault]) -> None:
        """Replace the planned faults."""
        with self._lock:
            self._planned = list(planned)

    def draw(self) -> InjectedFault | None:
        """Return the fault of the next request; None: none."""
        with self._lock:
            for plan in self._planned:
                if plan.left != 0 and self._random.random() < plan.share:
                    if plan.left is not None:
                        plan.left -= 1
                    return plan.fault
        return None


def parse_fault(text: str) -> PlannedFault:
    """Parse `kind`, or `kind:share` with a share from 0 to 1. Raises ValueError."""
    kind, _, share = text.partition(":")
    if kind not in set(InjectedFault):
        raise ValueError(f"there is no fault {kind!r}: there are {', '.join(InjectedFault)}")
    try:
        number = float(share or "1")
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise ValueError("a share is a number from 0 to 1")
    return PlannedFault(InjectedFault(kind), number)
