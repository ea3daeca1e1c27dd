"""Bytes in flight: strangers have a share of their own, and who has stopped sending makes room."""

import contextlib
import io
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from app.errors import Unavailable
from app.web.body import BodyBroken, Limit, read_body
from app.web.in_flight import CHUNK_BYTES, STALLED_SECONDS, InFlight, Reservation
from tests.builders import a_document, to_raw
from tests.served import signed, wait_until
from tests.sites import Site, counts

MIB = 1 << 20
LIMIT = Limit(MIB, "the limit")


class Stream:
    """A body of which the rest does not come: as the server's own stream, it knows since when, and can be abandoned."""

    def __init__(self, data: bytes = b"", *, last_byte_at: float = 0.0) -> None:
        self.last_byte_at = last_byte_at
        self.waits = threading.Event()
        self._data = io.BytesIO(data)
        self._abandoned = threading.Event()

    def read(self, size: int) -> bytes:
        if part := self._data.read(size):
            self.last_byte_at = time.monotonic()
            return part
        self.waits.set()
        assert self._abandoned.wait(20), "nobody abandoned it"
        raise OSError("abandoned")

    def abandon(self) -> None:
        self._abandoned.set()

    @property
    def is_abandoned(self) -> bool:
        return self._abandoned.is_set()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def in_flight_of(most: int, largest: int = 0, now: Callable[[], float] = time.monotonic) -> InFlight:
    return InFlight(most, largest, lambda _size: None, now)


def waiting(in_flight: InFlight, size: int, stream: Any, *, verified: bool = False) -> Reservation:
    """Return a reservation that holds bytes while its reader waits for more."""
    reservation = in_flight.reserve(stream)
    if verified:
        reservation.mark_verified()
    reservation.grow(size)
    reservation.begin_wait()
    return reservation


def test_bytes_of_strangers_fill_a_quarter_and_leave_the_rest_to_who_is_known() -> None:
    in_flight = in_flight_of(4 * MIB)
    stranger, known = in_flight.reserve(io.BytesIO()), in_flight.reserve(io.BytesIO())
    known.mark_verified()
    stranger.grow(MIB)
    with pytest.raises(Unavailable):
        stranger.grow(1)
    known.grow(3 * MIB)
    with pytest.raises(Unavailable):
        known.grow(1)
    stranger.close()
    known.grow(MIB)
    known.close()
    assert (in_flight.held, in_flight.unverified) == (0, 0)


def test_bytes_leave_the_share_of_strangers_once_their_sender_is_known() -> None:
    in_flight = in_flight_of(4 * MIB)
    signed_body = in_flight.reserve(io.BytesIO())
    signed_body.grow(MIB)
    signed_body.mark_verified()
    assert (in_flight.held, in_flight.unverified) == (MIB, 0)
    signed_body.grow(MIB)
    in_flight.reserve(io.BytesIO()).grow(MIB)
    signed_body.close()
    assert (in_flight.held, in_flight.unverified) == (MIB, MIB)


def test_the_largest_body_that_may_be_signed_always_has_room() -> None:
    in_flight = in_flight_of(MIB, largest=MIB)
    body = bytes(MIB)
    with contextlib.closing(in_flight.reserve(io.BytesIO())) as reservation:
        environ = {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(MIB)}
        assert read_body(environ, LIMIT, reservation) == body


def test_where_there_is_no_room_who_was_silent_longest_makes_some() -> None:
    clock = Clock()
    in_flight = in_flight_of(4 * MIB, now=clock)
    oldest, newer, talking = (Stream(last_byte_at=clock.now - silent) for silent in (9, 5, STALLED_SECONDS - 0.1))
    for stream in (talking, newer, oldest):
        waiting(in_flight, 300 * 1024, stream)
    other = in_flight.reserve(io.BytesIO())
    other.grow(300 * 1024)
    assert (oldest.is_abandoned, newer.is_abandoned, talking.is_abandoned) == (True, False, False)
    other.grow(300 * 1024)
    assert (newer.is_abandoned, talking.is_abandoned) == (True, False)
    with pytest.raises(Unavailable):
        other.grow(300 * 1024)
    clock.now += 1
    other.grow(300 * 1024)
    assert talking.is_abandoned


def test_strangers_whose_bodies_go_on_coming_shut_no_small_one_out() -> None:
    """They never fall silent, so time alone would never make room."""
    clock = Clock()
    in_flight = in_flight_of(4 * MIB, now=clock)
    larger, smaller = (Stream(last_byte_at=clock.now) for _ in range(2))
    waiting(in_flight, 520 * 1024, larger)
    waiting(in_flight, 500 * 1024, smaller)
    with contextlib.closing(in_flight.reserve(io.BytesIO())) as equal:
        equal.grow(4 * 1024)
        with pytest.raises(Unavailable):
            equal.grow(200 * 1024)
    assert (larger.is_abandoned, smaller.is_abandoned) == (False, False)
    for _ in range(8):
        in_flight.reserve(io.BytesIO()).grow(1024)
    assert (larger.is_abandoned, smaller.is_abandoned) == (True, False)


def test_only_who_waits_for_bytes_is_abandoned() -> None:
    in_flight = in_flight_of(4 * MIB)
    whole, known, plain = Stream(), Stream(), io.BytesIO()
    # One whose body is there and is being stored; one who is known, and holds nothing that would help; one of a server
    # that does not know when bytes came.
    waiting(in_flight, 300 * 1024, whole).end_wait()
    waiting(in_flight, 3 * MIB, known, verified=True)
    waiting(in_flight, 600 * 1024, plain)
    with pytest.raises(Unavailable):
        in_flight.reserve(io.BytesIO()).grow(300 * 1024)
    assert (whole.is_abandoned, known.is_abandoned) == (False, False)
    # Where all of the room is full, they who are known are asked, too.
    other = in_flight.reserve(io.BytesIO())
    other.mark_verified()
    other.grow(300 * 1024)
    assert known.is_abandoned


def test_who_lost_its_bytes_gives_none_back_twice_and_takes_no_more() -> None:
    in_flight = in_flight_of(4 * MIB)
    lost = waiting(in_flight, MIB, Stream())
    other = in_flight.reserve(io.BytesIO())
    other.grow(MIB)
    assert (lost.size, in_flight.held) == (0, MIB)
    with pytest.raises(Unavailable, match="too slowly"):
        lost.grow(1)
    lost.close()
    other.close()
    assert (in_flight.held, in_flight.unverified) == (0, 0)


def test_that_there_is_no_room_is_logged_once_in_a_while_and_names_the_setting() -> None:
    clock = Clock()
    in_flight = in_flight_of(MIB, now=clock)
    in_flight.reserve(io.BytesIO()).grow(MIB // 4)
    with capture_logs() as lines:
        for pause in (0, 1, 1, 9):
            clock.now += pause
            with pytest.raises(Unavailable, match="MAX_INFLIGHT_BYTES"):
                in_flight.reserve(io.BytesIO()).grow(MIB)
    assert [line["setting"] for line in lines] == ["MAX_INFLIGHT_BYTES"] * 2
    structlog.reset_defaults()


def test_the_gauge_is_told_of_each_chunk_and_of_nothing_smaller() -> None:
    shown: list[int] = []
    in_flight = InFlight(MIB, MIB, shown.append)
    for size in (1000, CHUNK_BYTES, 1000):
        reservation = in_flight.reserve(io.BytesIO())
        reservation.grow(size)
        if size == 1000:
            reservation.close()
    reservation.close()
    assert shown == [CHUNK_BYTES]


def test_forty_bodies_that_stopped_coming_shut_nobody_out(make_site: Callable[..., Site]) -> None:
    site = make_site(max_body_bytes=MIB, max_inflight_bytes=4 * MIB)
    answers: list[int] = []

    def stall(stream: Stream) -> None:
        answer = site.app.test_client().post(
            "/webhooks/segment",
            environ_overrides={"wsgi.input": stream, "CONTENT_LENGTH": str(MIB)},
            headers={"X-Signature": "0" * 40},
        )
        answers.append(answer.status_code)

    streams = [Stream(bytes(100 * 1024)) for _ in range(40)]
    threads = [threading.Thread(target=stall, args=(stream,)) for stream in streams]
    for thread in threads:
        thread.start()
    # No more of them than there is room for wait; the others are refused.
    wait_until(lambda: sum(stream.waits.is_set() for stream in streams) + len(answers) == len(streams))
    assert 0 < len(answers) < len(streams)
    # Whatever room they hold, who sends a whole body has it once they have been silent for a while.
    time.sleep(STALLED_SECONDS)
    for number in range(5):
        body = to_raw([a_document(messageId=f"m-{number}", properties={"x": "y" * 300_000})])
        assert counts(site.send(body)) == {"received": 1, "stored": 1}
    assert sum(stream.is_abandoned for stream in streams) > 0
    for stream in streams:
        stream.abandon()
    for thread in threads:
        thread.join(20)
    assert answers == [503] * 40
    assert site.app.extensions["segment_lotus_in_flight"].held == 0
    assert counts(site.send(to_raw(a_document()), signed(to_raw(a_document())))) == {"received": 1, "stored": 1}


def test_a_reader_that_is_abandoned_hears_that_its_body_broke_off() -> None:
    in_flight = in_flight_of(4 * MIB)
    stream = Stream(bytes(CHUNK_BYTES))
    reservation = in_flight.reserve(stream)
    threading.Timer(0.05, stream.abandon).start()
    with pytest.raises(BodyBroken):
        read_body({"wsgi.input": stream}, LIMIT, reservation)
    reservation.close()
    assert (in_flight.held, in_flight.waiting) == (0, set())
