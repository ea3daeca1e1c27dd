"""What time it is: the only place that asks."""

import time


def clock() -> int:
    """Return microseconds since 1970."""
    return time.time_ns() // 1000


def monotonic_micros() -> int:
    """Return microseconds of a clock that nobody sets: how long a step took can be told by it, and no more."""
    return time.monotonic_ns() // 1000
