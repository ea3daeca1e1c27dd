"""When an event can be sent, and when it is retried. All times in microseconds since 1970."""

SECOND = 1_000_000
_DAY = 86_400 * SECOND

# Lotus's own clock decides, and a request takes time: our window ends a minute before that of Lotus.
_SPARE = 60 * SECOND
LOOKS_BACK = 30 * _DAY - _SPARE
LOOKS_AHEAD = _DAY - _SPARE

_DELAYS_SECONDS = (5, 30, 120, 600, 1800, 7200)
_JITTER = 0.2

# A probe costs one request of one event: forwarding should resume soon after an outage, not two hours later.
_LONGEST_PAUSE_SECONDS = 120.0

TOO_OLD = "Lotus takes no event that is more than 30 days old"
"""A reason that is stored: with other words, old and new rows would be two groups."""


def is_too_old(time_created: int, now: int) -> bool:
    """Whether an event of this time is too old for Lotus."""
    return time_created < now - LOOKS_BACK


def takes_from(time_created: int) -> int:
    """Return the time from which Lotus accepts an event of this time."""
    return time_created - LOOKS_AHEAD


def back_off(tries: int, draw: float) -> int:
    """Return the microseconds to wait after this many tries (from 1), with jitter; `draw` is random, from 0 to 1."""
    seconds = _DELAYS_SECONDS[min(tries, len(_DELAYS_SECONDS)) - 1]
    return int(seconds * SECOND * _jitter(draw))


def pause_for(failures: int, asked_seconds: float, draw: float) -> int:
    """Return the microseconds to pause the destination after this many failures in a row (from 1)."""
    seconds = min(_DELAYS_SECONDS[min(failures, len(_DELAYS_SECONDS)) - 1], _LONGEST_PAUSE_SECONDS)
    # Never shorter than what Lotus asked for.
    return int(max(seconds * _jitter(draw), asked_seconds) * SECOND)


def _jitter(draw: float) -> float:
    return 1 - _JITTER + 2 * _JITTER * draw
