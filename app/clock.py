"""The clocks of the program."""

import time


def clock() -> int:
    """Return microseconds since 1970."""
    return time.time_ns() // 1000


def monotonic_micros() -> int:
    """Return microseconds of a monotonic clock, which only measures durations."""
    return time.monotonic_ns() // 1000
