"""A SQLite file that another program holds: 503 in time, a loop that goes on, and recovery without a restart."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.store.sqlite_connection import WAIT_SECONDS
from tests.served import Answer, Served, served, wait_until
from tests.survival.load import a_call, at_once, watching_health
from tests.survival.whole import find_broken, stored_messages

pytestmark = pytest.mark.survival

# Segment gives up after 5 s. Two seconds of it are this machine's, which is busy with other things, too.
_LONGEST_SECONDS = WAIT_SECONDS + 2


@contextlib.contextmanager
def _held(file: Path) -> Iterator[None]:
    """Hold a database as another program would that writes to it."""
    foreign = sqlite3.connect(file, isolation_level=None, timeout=10)
    foreign.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        foreign.execute("ROLLBACK")
        foreign.close()


def _post_timed(service: Served, message_id: str) -> tuple[Answer, float]:
    began = time.monotonic()
    answer = service.post(a_call(message_id))
    return answer, time.monotonic() - began


def test_a_locked_database_is_503_in_time_blocks_nothing_else_and_recovers(
    sqlite_database_url: str, tmp_path: Path
) -> None:
    file = Path(sqlite_database_url.removeprefix("sqlite:///"))
    timed: list[tuple[Answer, float]] = []

    def send(number: int) -> Answer:
        # They come one after the other, so that some join those who wait already.
        time.sleep(number * 0.1)
        answer, seconds = _post_timed(service, f"locked-{number}")
        timed.append((answer, seconds))
        return answer

    with served(sqlite_database_url, tmp_path, WEB_CONCURRENCY="2") as service:
        assert service.post(a_call("before")).status == 200
        with _held(file), watching_health(service) as watched:
            at_once(20, send)
            ready = service.get("/readyz")
        wait_until(lambda: service.post(a_call("after")).status == 200)
        metrics = service.get("/metrics", "an-admin-token-of-the-tests").body.decode()
    assert [answer.status for answer, _ in timed] == [503] * 20
    assert all(answer.headers["retry-after"] and answer.json["code"] == "unavailable" for answer, _ in timed)
    assert max(seconds for _, seconds in timed) < _LONGEST_SECONDS
    assert ready.status == 503
    assert watched.failures == 0
    assert len(watched.seconds) > 20
    assert max(watched.seconds) < 1
    assert 'segment_lotus_requests_refused_total{code="unavailable"} 20.0' in metrics
    assert stored_messages(sqlite_database_url) == ["after", "before"]
    assert find_broken(sqlite_database_url) == []
    print(  # noqa: T201
        f"slowest 503 after {max(seconds for _, seconds in timed):.1f} s,"
        f" slowest of {len(watched.seconds)} /healthz {max(watched.seconds):.3f} s"
    )
