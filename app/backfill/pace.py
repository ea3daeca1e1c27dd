"""How many calls a commit of a backfill takes, and how long it rests: it yields to calls that come in."""

ALONE_SECONDS = 0.5
"""How long a commit may take where nobody else writes: each page of random keys is then written once for more calls."""

BESIDE_SECONDS = 0.015
"""How long it may take beside incoming calls, which wait for it on SQLite."""

CALLS_MAX = 15_000
_CALLS_MIN = 50
_FIRST = 500
_BREATH_SECONDS = 0.001
"""Lets a writer that waits get the lock."""


class Pace:
    """Adapts the size of the next commit to how long the last one took, and to whether others write."""

    def __init__(self) -> None:
        self.calls = _FIRST
        """How many calls the next commit takes."""
        self.rest_seconds = _BREATH_SECONDS
        """How long to wait before it."""

    def note(self, calls: int, seconds: float, *, beside: bool) -> None:
        """Take down a commit of so many calls; `beside`: calls come in meanwhile."""
        aim = BESIDE_SECONDS if beside else ALONE_SECONDS
        fitting = int(calls * aim / max(seconds, 1e-6))
        # A commit may have been short because the disk was idle for once.
        self.calls = max(_CALLS_MIN, min(fitting, 2 * self.calls, CALLS_MAX))
        self.rest_seconds = max(seconds, BESIDE_SECONDS) if beside else _BREATH_SECONDS
