"""Ids made by the application: 63 bits, time-ordered, no sequence, so that any number of nodes can write.

The upper 51 bits are microseconds since 2020 (enough until 2091), the lower 12 a random tag that each process draws at
its start. A process never uses a microsecond twice. Two processes collide only if they drew the same tag and use the
same microsecond; the primary key then refuses the row, and the writer draws a new tag and tries again.

A clock that jumps ahead and back leaves ids from the future behind. The process then continues at the current time,
with a new tag.
"""

from collections.abc import Callable
from datetime import UTC, datetime

TAG_BITS = 12
ID_MAX = (1 << 63) - 1
_LEAP_MICROS = 60_000_000
"""A clock this far behind the last id was set back, not just slowed. Ids run at most a few seconds ahead of
the clock (a large batch, a request that waited)."""

EPOCH_MICROS = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000


def first_id_at(micros: int) -> int:
    """Return the smallest id of a moment (microseconds since 1970); no id of that moment or later is below it.

    0 for a moment before all ids, ID_MAX for one after all of them.
    """
    return min(max(0, micros - EPOCH_MICROS) << TAG_BITS, ID_MAX)


def micros_of(identifier: int) -> int:
    """Return when an id was made, in microseconds since 1970."""
    return (identifier >> TAG_BITS) + EPOCH_MICROS


class Ids:
    """Makes the ids of one process."""

    def __init__(self, draw_tag: Callable[[int], int]) -> None:
        """`draw_tag(n)` returns a random number below n."""
        self._draw_tag = draw_tag
        self._last = 0
        self.tag = draw_tag(1 << TAG_BITS)

    def next(self, micros: int) -> int:
        """Return a new id for a moment, later than every id this process made within the last minute."""
        tick = micros - EPOCH_MICROS
        if tick <= self._last:
            if tick < self._last - _LEAP_MICROS:
                self.renew()
            else:
                tick = self._last + 1
        self._last = tick
        return (tick << TAG_BITS) | self.tag

    def renew(self) -> None:
        """Draw a new tag, after an id was taken or the clock was set back."""
        self.tag = self._draw_tag(1 << TAG_BITS)
