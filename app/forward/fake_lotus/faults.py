"""What can go wrong with Lotus, on demand."""

import random
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """One way to fail."""

    SLOW = "slow"
    """Answers late, but well."""
    ERROR = "error"
    """500, with nothing taken."""
    BROKER_DOWN = "broker_down"
    """400: the broker takes no event."""
    PARTIAL = "partial"
    """201: the broker takes only every other event."""
    WRONG_KEY = "wrong_key"
    """400: no key is known."""
    HANG_UP = "hang_up"
    """Closes the connection half-way through the body, with nothing taken."""
    HANG_UP_AFTER = "hang_up_after"
    """Takes the events, and closes the connection half-way through its answer."""
    BUSY = "busy"
    """429 with Retry-After: 1."""
    NOT_JSON = "not_json"
    """Takes the events, and answers 201 with a page."""
    REDIRECT = "redirect"
    """302 to itself."""
    ENDLESS = "endless"
    """Answers 500 with a body that does not end."""


@dataclass(slots=True)
class PlannedFault:
    """A fault, which share of the requests it meets, and how often at most."""

    fault: Fault
    share: float = 1.0
    left: int | None = None


class Faults:
    """The faults that are planned."""

    def __init__(self, planned: Iterable[PlannedFault] = (), seed: int | None = None) -> None:
        self._planned = list(planned)
        self._random = random.Random(seed)  # noqa: S311  faults need not be hard to guess
        self._lock = threading.Lock()

    def plan(self, planned: Iterable[PlannedFault]) -> None:
        """Plan these, and forget those that were planned."""
        with self._lock:
            self._planned = list(planned)

    def draw(self) -> Fault | None:
        """Return what the next request meets."""
        with self._lock:
            for plan in self._planned:
                if plan.left != 0 and self._random.random() < plan.share:
                    if plan.left is not None:
                        plan.left -= 1
                    return plan.fault
        return None


def parse_fault(text: str) -> PlannedFault:
    """Read `kind`, or `kind:share` with a share from 0 to 1. Raises ValueError."""
    kind, _, share = text.partition(":")
    if kind not in set(Fault):
        raise ValueError(f"there is no fault {kind!r}: there are {', '.join(Fault)}")
    try:
        number = float(share or "1")
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise ValueError("a share is a number from 0 to 1")
    return PlannedFault(Fault(kind), number)
