"""Who is waited for how long, and who goes first where there is no room."""

import contextlib
import time
from collections.abc import Iterator

import gevent
import pytest
from gevent import socket
from gevent.hub import get_hub

from app.web.connection import ClientConnection, ConnectionLost, DeadlineMissed, Phase
from app.web.deadlines import CHECK_SECONDS, Connections


class Room:
    """The connections of a worker, under a clock of the test's own."""

    def __init__(self, most: int) -> None:
        self.later = 0.0
        self.counted: list[int] = []
        self.connections = Connections(most, self.counted.append, lambda: time.monotonic() + self.later)
        self.clients: list[socket.socket] = []
        self.ends: dict[int, ConnectionLost | bool] = {}
        """How the wait of each ended: with an error, or with bytes."""

    def enter(self, phase: Phase, *, payload: int = 0) -> int:
        """Open a connection that waits; return its number."""
        number = len(self.clients)
        client, server = socket.socketpair()
        self.clients.append(client)
        gevent.spawn(self._serve, number, server, phase, payload)
        gevent.sleep(0.001)
        return number

    def _serve(self, number: int, server: socket.socket, phase: Phase, payload: int) -> None:
        connection = ClientConnection(server, "")
        connection.payload = payload
        self.connections.add(connection)
        try:
            self.ends[number] = connection.fill(phase)
        except ConnectionLost as error:
            self.ends[number] = error
        finally:
            self.connections.remove(connection)
            connection.close()

    def wait(self, seconds: float) -> None:
        """Let time pass, with a check every half second."""
        for _ in range(round(seconds / CHECK_SECONDS)):
            self.later += CHECK_SECONDS
            get_hub().loop.run_callback(self.connections.check)
            gevent.sleep(0)


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room(100)
    yield room
    for client in room.clients:
        client.close()
    gevent.sleep(0.001)


@pytest.mark.parametrize(
    ("phase", "seconds"),
    [
        (Phase.NEW, 10),
        (Phase.HEAD, 10),
        (Phase.BODY, 30),
        (Phase.ANSWER, 30),
        (Phase.KEPT, 75),
        (Phase.CLOSING, 2),
    ],
)
def test_each_wait_has_its_deadline(room: Room, phase: Phase, seconds: int) -> None:
    number = room.enter(phase)
    room.wait(seconds - 1)
    assert number not in room.ends
    room.wait(2)
    assert isinstance(room.ends[number], DeadlineMissed)


def test_a_body_may_take_long_as_long_as_it_comes(room: Room) -> None:
    stalled, slow, steady = (room.enter(Phase.BODY, payload=size) for size in (0, 30 * 15 * 1024, 60 * 16 * 1024))
    room.wait(31)
    assert stalled in room.ends
    assert slow in room.ends
    assert steady not in room.ends
    room.wait(31)
    assert steady in room.ends


def test_what_came_while_the_loop_was_held_up_is_still_read(room: Room) -> None:
    numbers = [room.enter(phase) for phase in (Phase.HEAD, Phase.BODY, Phase.KEPT)]
    room.later += 100
    room.wait(1)
    assert room.ends == {}
    room.wait(100)
    assert room.ends.keys() == set(numbers)


def test_a_kept_connection_on_which_a_request_has_begun_is_never_closed(room: Room) -> None:
    number = room.enter(Phase.KEPT)
    room.wait(74)
    # In the kernel, and not seen by the loop yet.
    room.clients[number].send(b"G")
    room.later += 2 * CHECK_SECONDS
    get_hub().loop.run_callback(room.connections.check)
    gevent.sleep(0.01)
    assert room.ends == {number: True}


def test_beyond_three_quarters_the_kept_ones_that_are_idle_longest_are_closed(room: Room) -> None:
    others = [room.enter(phase) for phase in (Phase.BODY, Phase.HEAD, Phase.NEW) for _ in range(10)]
    kept = [room.enter(Phase.KEPT) for _ in range(50)]
    room.clients[kept[0]].send(b"G")
    room.wait(CHECK_SECONDS)
    assert room.ends.pop(kept[0], True) is True
    closed = [number for number, end in room.ends.items() if isinstance(end, ConnectionLost)]
    assert closed == kept[1 : 1 + len(closed)]
    assert len(closed) in (4, 5)
    assert not set(closed) & set(others)
    assert room.counted[-1] >= 75
    assert room.connections.full is False


def test_a_worker_that_is_full_gives_up_kept_ones_and_then_whoever_kept_it_waiting_longest(room: Room) -> None:
    first = [room.enter(phase) for phase in (Phase.BODY, Phase.HEAD, Phase.ANSWER, Phase.NEW)]
    kept = room.enter(Phase.KEPT)
    for _ in range(94):
        room.enter(Phase.NEW)
    assert room.ends == {}
    room.enter(Phase.NEW)
    assert room.ends.keys() == {kept}
    room.enter(Phase.NEW)
    assert room.ends.keys() == {kept, *first[:2]}
    assert room.connections.full is True
    assert not any(isinstance(end, DeadlineMissed) for end in room.ends.values())
    for client in room.clients[:40]:
        client.close()
    gevent.sleep(0.01)
    room.wait(CHECK_SECONDS)
    assert room.connections.full is False


def test_at_the_end_those_without_a_request_are_closed(room: Room) -> None:
    idle = [room.enter(phase) for phase in (Phase.NEW, Phase.KEPT)]
    begun = room.enter(Phase.KEPT)
    for phase in (Phase.HEAD, Phase.BODY, Phase.ANSWER):
        room.enter(phase)
    room.clients[begun].send(b"G")
    get_hub().loop.run_callback(room.connections.end_idle)
    gevent.sleep(0.01)
    assert sorted(number for number, end in room.ends.items() if isinstance(end, ConnectionLost)) == idle
    assert room.ends[begun] is True


def test_whoever_abandons_a_body_wakes_the_one_who_reads_it() -> None:
    client, server = socket.socketpair()
    heard: list[type[BaseException]] = []
    started = gevent.event.Event()
    connections = []

    def serve() -> None:
        connection = ClientConnection(server, "")
        connections.append(connection)
        started.set()
        for _ in range(2):
            try:
                connection.fill(Phase.BODY)
            except ConnectionLost as error:
                heard.append(type(error))
        with contextlib.suppress(ConnectionLost):
            connection.send(b"the answer")
        connection.end(used_up=False)
        connection.close()

    reader = gevent.spawn(serve)
    started.wait()
    gevent.sleep(0.001)
    connections[0].abandon()
    gevent.sleep(0.001)
    client.sendall(b"more")
    client.shutdown(socket.SHUT_WR)
    reader.join(5)
    assert heard == [ConnectionLost, ConnectionLost]
    assert client.recv(100) == b"the answer"
    client.close()
