"""What a run of bodies did, and what it found."""

from collections import Counter
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

from tools.fuzz.target import Fault

_SLOWEST = 8


@dataclass(slots=True)
class Tally:
    """What a run did."""

    requests: int = 0
    calls: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    routes: Counter[str] = field(default_factory=Counter)
    """Calls by the route that they came by."""
    judged: int = 0
    looked: int = 0
    slowest: dict[str, float] = field(default_factory=dict)
    """Seconds of what took longest."""
    resident: list[int] = field(default_factory=list)
    """Bytes after each block."""
    faults: list["Finding"] = field(default_factory=list)
    """The first of each kind."""
    reviews: Counter[str] = field(default_factory=Counter)
    """How often all that is stored was looked at, by what looked."""

    def lines(self) -> list[str]:
        """Return what is to be told at the end."""
        statuses, routes = (dict(sorted(counted.items())) for counted in (self.statuses, self.routes))
        reviews = ", ".join(f"{name} {count}" for name, count in self.reviews.items())
        slowest = sorted(self.slowest.items(), key=itemgetter(1), reverse=True)[:_SLOWEST]
        first, last = (resident >> 20 for resident in (self.resident[0], self.resident[-1]))
        return [
            f"statuses {statuses}",
            f"calls by route {routes}",
            f"{self.judged} calls judged, {self.looked} looked at one by one; times all were looked at: {reviews}",
            "slowest: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in slowest),
            f"memory {first} MB after the first block, {last} MB after the last, at most {max(self.resident) >> 20} MB",
        ]


@dataclass(slots=True)
class Finding:
    """A fault, and what showed it."""

    fault: Fault
    number: int | None
    """Of the request; None: no request alone."""
    file: Path | None = None
    """Holds the request."""
