"""Senders that never stop: threads that post signed calls and remember what they were told."""

import http.client
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from tests.builders import a_document, to_raw
from tests.served import WEBHOOK, Answer, Served, ask, signed

BATCH = 20
"""How many calls a batch of the load holds."""

# Whichever worker is free takes a new connection and then keeps it: without new ones, one worker may have them all.
_REQUESTS_PER_CONNECTION = 10


def a_call(message_id: str) -> bytes:
    """Return the raw call that has this message id; always the same bytes."""
    return to_raw(a_document(messageId=message_id, event="Load"))


def a_batch(message_ids: Sequence[str]) -> tuple[bytes, dict[str, str]]:
    """Return an array of calls and its headers, signed over the first of them as Segment does."""
    items = [a_call(message_id) for message_id in message_ids]
    return b"[" + b",".join(items) + b"]", signed(b"", over=items[0])


Way = Callable[[Sequence[str]], tuple[str, bytes, dict[str, str]]]
"""How calls with these message ids are sent: path, body, headers."""


def by_webhook(message_ids: Sequence[str]) -> tuple[str, bytes, dict[str, str]]:
    """Send one call, or a batch of several, as Segment does."""
    if len(message_ids) > 1:
        return WEBHOOK, *a_batch(message_ids)
    return WEBHOOK, a_call(message_ids[0]), signed(a_call(message_ids[0]))


class Load:
    """Posts singles and batches, every message id once, from several threads until told to stop."""

    def __init__(
        self,
        service: Served,
        threads: int = 8,
        name: str = "load",
        ways: Sequence[Way] = (by_webhook,),
        pause_seconds: float = 0,
    ) -> None:
        """`ways` are taken in turn, by the threads. Each thread pauses so long after a request that was taken."""
        self._service = service
        self._pause_seconds = pause_seconds
        self.name = name
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(f"{name}-{one}", ways[one % len(ways)])) for one in range(threads)
        ]
        self._underway: dict[str, list[str]] = {}
        self.answered: list[str] = []
        """Message ids of requests that were answered 200 or 201."""
        self.unanswered: list[str] = []
        """Message ids of requests that were answered otherwise, or not at all."""
        self.statuses: Counter[int] = Counter()
        """How many answers had which status; 0: the connection broke."""
        self.answers: list[Answer] = []
        """Answers other than those."""

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Send no more, and wait for the answers that are due."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(40)

    def in_flight(self) -> int:
        """Return how many requests wait for an answer at this moment."""
        return len(self._underway)

    @property
    def underway(self) -> set[str]:
        """Return the first message id of each request that has no answer yet."""
        return {ids[0] for ids in [*self._underway.values()]}

    @property
    def sent(self) -> list[str]:
        """Return every message id there was."""
        return self.answered + self.unanswered

    def _send(self, name: str, way: Way) -> None:
        connection = self._service.connect()
        for number in itertools.count():
            if self._stopping.is_set():
                break
            if number % _REQUESTS_PER_CONNECTION == 0:
                connection.close()
            alone = number % 4 != 0
            ids = [f"{name}-{number}-{place}" for place in range(1 if alone else BATCH)]
            path, body, headers = way(ids)
            self._underway[name] = ids
            try:
                answer = ask(connection, "POST", path, body, headers)
            except (OSError, http.client.HTTPException):
                self.statuses[0] += 1
                self.unanswered += ids
                connection.close()
                time.sleep(0.02)
            else:
                self.statuses[answer.status] += 1
                if answer.status in {200, 201}:
                    self.answered += ids
                    self._stopping.wait(self._pause_seconds)
                else:
                    self.unanswered += ids
                    self.answers.append(answer)
                    time.sleep(0.02)
            del self._underway[name]
        connection.close()


def resend(service: Served, message_ids: Sequence[str], size: int = 500) -> Counter[str]:
    """Send calls again in batches of another size; return the sum of the receipts."""
    total: Counter[str] = Counter()
    for start in range(0, len(message_ids), size):
        answer = service.post(*a_batch(message_ids[start : start + size]))
        assert answer.status == 200, answer
        total.update(answer.json)
    return total


def at_once(count: int, send: Callable[[int], Answer]) -> list[Answer | None]:
    """Call `send` with 0, 1, 2, ... from as many threads, all at one moment; None where no answer came."""
    answers: list[Answer | None] = [None] * count
    gate = threading.Barrier(count)

    def run(number: int) -> None:
        gate.wait(30)
        try:
            answers[number] = send(number)
        except (OSError, http.client.HTTPException):
            answers[number] = None

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers


class Watched:
    """How long /healthz took while something went wrong, asked again and again on a thread of its own."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.failures = 0


@contextmanager
def watching_health(service: Served, pause: float = 0.05) -> Iterator[Watched]:
    """Ask /healthz until the end of the block."""
    watched = Watched()
    stopping = threading.Event()

    def ask_again() -> None:
        while not stopping.is_set():
            began = time.monotonic()
            try:
                watched.failures += service.get("/healthz").status != 200
            except (OSError, http.client.HTTPException):
                watched.failures += 1
            watched.seconds.append(time.monotonic() - began)
            stopping.wait(pause)

    thread = threading.Thread(target=ask_again)
    thread.start()
    try:
        yield watched
    finally:
        stopping.set()
        thread.join(40)
