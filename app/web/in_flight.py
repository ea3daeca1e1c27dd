"""The bytes of all request bodies that this process holds, and who has to let go of them when there are too many.

Bodies of senders that nothing has vouched for yet have a share of their own, so that strangers cannot fill the room of
senders that are known. Where there is no room, a body that has stopped coming makes some.
"""

import time
from collections.abc import Callable
from typing import Any

import structlog

from app.errors import Unavailable

CHUNK_BYTES = 64 * 1024
"""A body is read, inflated and counted in pieces of this size."""

STALLED_SECONDS = 1.5
"""A reader that has waited for so long may lose its bytes. Longer than a lost packet takes to come again."""

GREEDY_TIMES = 8
"""A stranger's body that holds so many times what another one asks for gives way to it, however fast it comes: else two
that go on and on would shut out all senders who sign."""

_SHARE = 4
_LOG_PAUSE_SECONDS = 10

_LOG = structlog.get_logger("web")


class InFlight:
    """Counts bytes. One per process."""

    def __init__(
        self, most: int, largest: int, show: Callable[[int], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        """`most` bytes are held at once, MAX_INFLIGHT_BYTES; `largest` is what one body may have.

        `show` is told how many there are, whenever that has changed by a chunk or more. `now` gives seconds of the
        clock of a stream's `last_byte_at`.
        """
        self._most = most
        # A quarter, but never less than one body: the largest that a sender may sign must come in.
        self._unverified_most = min(most, max(most // _SHARE, largest + CHUNK_BYTES))
        self._show = show
        self._now = now
        self._shown = 0
        self._logged_at = float("-inf")
        self.waiting: set[Reservation] = set()
        """Those that hold bytes while their readers wait for more."""
        self.held = 0
        self.unverified = 0
        """Those of them that nothing has vouched for yet."""

    def reserve(self, stream: Any) -> "Reservation":
        """Return a reservation for the body that comes by `stream`. Whoever asks for one closes it."""
        return Reservation(self, stream)

    def take(self, reservation: "Reservation", size: int) -> None:
        """Count `size` more bytes for a reservation. Raises Unavailable where there is no room for them."""
        if not self._fits(reservation, size) and not self._make_room(reservation, size):
            raise Unavailable("too many bytes are in flight (MAX_INFLIGHT_BYTES); send it again")
        self._count(reservation, size)

    def give(self, reservation: "Reservation", size: int) -> None:
        """Give `size` bytes of a reservation back."""
        self._count(reservation, -size)

    def _count(self, reservation: "Reservation", size: int) -> None:
        self.held += size
        if not reservation.verified:
            self.unverified += size
        if self.held // CHUNK_BYTES != self._shown:
            self._shown = self.held // CHUNK_BYTES
            self._show(self.held)

    def _fits(self, reservation: "Reservation", size: int) -> bool:
        return self.held + size <= self._most and (
            reservation.verified or self.unverified + size <= self._unverified_most
        )

    def _make_room(self, reservation: "Reservation", size: int) -> bool:
        """Abandon stalled readers, the longest silent first, then who holds most; tell whether that was enough."""
        self._log()
        now = self._now()
        # Where the share of the unverified is full, nobody else's bytes help.
        strangers_only = not reservation.verified and self.unverified + size > self._unverified_most
        silent = [
            (since, other)
            for other in self.waiting
            if other is not reservation
            and not (strangers_only and other.verified)
            and (since := other.silent_since) is not None
            and now - since >= STALLED_SECONDS
        ]
        greedy = [
            (-other.size, other)
            for other in self.waiting
            if not other.verified
            and other.silent_since is not None
            and other.size >= GREEDY_TIMES * (reservation.size + size)
        ]
        for _, other in (*sorted(silent, key=_first), *sorted(greedy, key=_first)):
            if not other.abandoned:
                other.abandon()
            if self._fits(reservation, size):
                return True
        return False

    def _log(self) -> None:
        if self._now() - self._logged_at >= _LOG_PAUSE_SECONDS:
            self._logged_at = self._now()
            _LOG.warning(
                "request bodies in flight are at their limit",
                setting="MAX_INFLIGHT_BYTES",
                limit=self._most,
                held=self.held,
                unverified=self.unverified,
                unverified_limit=self._unverified_most,
            )


def _first(pair: tuple[float, "Reservation"]) -> float:
    return pair[0]


class Reservation:
    """The bytes of one request."""

    __slots__ = ("_in_flight", "_stream", "_waits", "abandoned", "size", "verified")

    def __init__(self, in_flight: InFlight, stream: Any) -> None:
        self._in_flight = in_flight
        self._stream = stream
        self._waits = False
        self.size = 0
        self.verified = False
        """Something has vouched for the sender."""
        self.abandoned = False

    def grow(self, size: int) -> None:
        """Hold `size` more bytes. Raises Unavailable."""
        if self.abandoned:
            raise Unavailable("the body came too slowly while others waited (MAX_INFLIGHT_BYTES); send it again")
        self._in_flight.take(self, size)
        self.size += size

    def shrink(self, size: int) -> None:
        """Hold `size` bytes less."""
        self._in_flight.give(self, size)
        self.size -= size

    def verify(self) -> None:
        """Move the bytes out of the share of the unverified, and those that follow."""
        if not self.verified:
            self._in_flight.unverified -= self.size
            self.verified = True

    def wait(self) -> None:
        """Say that more bytes are waited for: until they are no longer, the reader can be abandoned."""
        self._in_flight.waiting.add(self)
        self._waits = True

    def go_on(self) -> None:
        """Say that no more bytes are waited for."""
        if self._waits:
            self._in_flight.waiting.discard(self)
            self._waits = False

    @property
    def silent_since(self) -> float | None:
        """When the last bytes came; None for a stream that does not know, or cannot be abandoned."""
        since: float | None = getattr(self._stream, "last_byte_at", None)
        return since

    def abandon(self) -> None:
        """Give everything back, and let the reader fail."""
        self.abandoned = True
        self.close()
        self._stream.abandon()

    def close(self) -> None:
        """Give everything back."""
        self.go_on()
        if self.size:
            self.shrink(self.size)
