"""Limits the bytes of all request bodies in a process, and chooses which to abandon when there are too many.

Bodies whose senders are not authenticated yet have a separate share, so that strangers cannot use up the limit for
authenticated senders. When the limit is reached, bodies that have stopped arriving are abandoned.
"""

import time
from collections.abc import Callable
from typing import Any

import structlog

from app.errors import Unavailable

CHUNK_BYTES = 64 * 1024
"""A body is read, inflated and counted in pieces of this size."""

STALLED_SECONDS = 1.5
"""A reader that has waited this long may be abandoned. Longer than a lost packet takes to be sent again."""

GREEDY_TIMES = 8
"""An unauthenticated body may be abandoned for one this many times smaller, however fast it arrives: otherwise two
endless bodies would shut out all senders who sign."""

_SHARE = 4
_LOG_PAUSE_SECONDS = 10

_LOG = structlog.get_logger("web")


class InFlight:
    """Counts bytes. One per process."""

    def __init__(
        self, most: int, largest: int, report: Callable[[int], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        """`most`: bytes held at once, MAX_INFLIGHT_BYTES; `largest`: the limit of one body.

        `report` gets the number of bytes whenever it has changed by a chunk or more. `now` is the clock of a stream's
        `last_byte_at`, in seconds.
        """
        self._most = most
        # A quarter, but room for at least one body: the largest one that a sender may sign must fit.
        self._unverified_most = min(most, max(most // _SHARE, largest + CHUNK_BYTES))
        self._report = report
        self._now = now
        self._reported = 0
        self._logged_at = float("-inf")
        self.waiting: set[Reservation] = set()
        """Reservations with bytes whose readers wait for more."""
        self.held = 0
        self.unverified = 0
        """The bytes among them whose senders are not authenticated yet."""

    def reserve(self, stream: Any) -> "Reservation":
        """Return a reservation for the body in `stream`. The caller must close it."""
        return Reservation(self, stream)

    def take(self, reservation: "Reservation", size: int) -> None:
        """Add `size` bytes to a reservation. Raises Unavailable if there is no room for them."""
        if not self._fits(reservation, size) and not self._make_room(reservation, size):
            raise Unavailable("too many bytes are in flight (MAX_INFLIGHT_BYTES); send it again")
        self._count(reservation, size)

    def give(self, reservation: "Reservation", size: int) -> None:
        """Release `size` bytes of a reservation."""
        self._count(reservation, -size)

    def _count(self, reservation: "Reservation", size: int) -> None:
        self.held += size
        if not reservation.verified:
            self.unverified += size
        if self.held // CHUNK_BYTES != self._reported:
            self._reported = self.held // CHUNK_BYTES
            self._report(self.held)

    def _fits(self, reservation: "Reservation", size: int) -> bool:
        return self.held + size <= self._most and (
            reservation.verified or self.unverified + size <= self._unverified_most
        )

    def _make_room(self, reservation: "Reservation", size: int) -> bool:
        """Abandon stalled readers, the longest silent first, then the largest bodies; tell whether that was enough."""
        self._log()
        now = self._now()
        # If the share of unauthenticated bodies is full, releasing other bytes does not help.
        unverified_only = not reservation.verified and self.unverified + size > self._unverified_most
        silent = [
            (since, candidate)
            for candidate in self.waiting
            if candidate is not reservation
            and not (unverified_only and candidate.verified)
            and (since := candidate.silent_since) is not None
            and now - since >= STALLED_SECONDS
        ]
        greedy = [
            (-candidate.size, candidate)
            for candidate in self.waiting
            if not candidate.verified
            and candidate.silent_since is not None
            and candidate.size >= GREEDY_TIMES * (reservation.size + size)
        ]
        for _, candidate in (*sorted(silent, key=_sort_key), *sorted(greedy, key=_sort_key)):
            if not candidate.abandoned:
                candidate.abandon()
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


def _sort_key(pair: tuple[float, "Reservation"]) -> float:
    return pair[0]


class Reservation:
    """The bytes of one request."""

    __slots__ = ("_in_flight", "_is_waiting", "_stream", "abandoned", "size", "verified")

    def __init__(self, in_flight: InFlight, stream: Any) -> None:
        self._in_flight = in_flight
        self._stream = stream
        self._is_waiting = False
        self.size = 0
        self.verified = False
        """Whether the sender is authenticated."""
        self.abandoned = False

    def grow(self, size: int) -> None:
        """Reserve `size` more bytes. Raises Unavailable."""
        if self.abandoned:
            raise Unavailable("the body came too slowly while others waited (MAX_INFLIGHT_BYTES); send it again")
        self._in_flight.take(self, size)
        self.size += size

    def shrink(self, size: int) -> None:
        """Release `size` bytes."""
        self._in_flight.give(self, size)
        self.size -= size

    def mark_verified(self) -> None:
        """Mark the sender as authenticated: its bytes leave the share of unauthenticated bodies."""
        if not self.verified:
            self._in_flight.unverified -= self.size
            self.verified = True

    def begin_wait(self) -> None:
        """Mark the reader as waiting; while it waits, it may be abandoned."""
        self._in_flight.waiting.add(self)
        self._is_waiting = True

    def end_wait(self) -> None:
        """Mark the reader as no longer waiting."""
        if self._is_waiting:
            self._in_flight.waiting.discard(self)
            self._is_waiting = False

    @property
    def silent_since(self) -> float | None:
        """When the last bytes arrived; None for a stream that does not know, and cannot be abandoned."""
        since: float | None = getattr(self._stream, "last_byte_at", None)
        return since

    def abandon(self) -> None:
        """Release all bytes, and make the reader fail."""
        self.abandoned = True
        self.close()
        self._stream.abandon()

    def close(self) -> None:
        """Release all bytes."""
        self.end_wait()
        if self.size:
            self.shrink(self.size)
