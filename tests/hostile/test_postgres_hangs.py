"""A PostgreSQL that hangs: its processes are there, its connections are open, and nothing comes.

A stopped server refuses, and is heard at once; here only a clock can tell. What is answered is compared afterwards with
what is stored, counted anew from the rows.
"""

import contextlib
import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import sqlalchemy as sa

from app.errors import Unavailable
from app.store.engine import Database, connect
from tests.postgres import Postgres, own_postgres
from tests.served import ADMIN_TOKEN, Served, served, wait_until
from tests.survival.load import a_call, resend, watching_health
from tests.survival.whole import find_broken, stored_messages

pytestmark = pytest.mark.survival

# A sender is to hear within 3 s; the rest is what a busy machine adds. Segment waits this long.
SOON = 5


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with own_postgres() as server:
        yield server


class Answered(NamedTuple):
    message_id: str
    status: int
    """0: none came."""
    seconds: float


class Sending:
    """Requests at a steady pace, whether answers come or not, each on a connection and a thread of its own."""

    def __init__(self, service: Served) -> None:
        self._service = service
        self._threads: list[threading.Thread] = []
        self.answers: list[Answered] = []
        self.most = 0
        """How many waited for an answer at one time."""

    def send(self, name: str, count: int, seconds: float) -> None:
        """Send so many in that time."""
        for number in range(count):
            thread = threading.Thread(target=self._post, args=(f"{name}-{number}",))
            self._threads.append(thread)
            thread.start()
            self.most = max(self.most, len(self._threads) - len(self.answers))
            time.sleep(seconds / count)

    def wait(self) -> None:
        """Wait for all answers."""
        for thread in self._threads:
            thread.join(40)
        assert len(self.answers) == len(self._threads)

    def _post(self, message_id: str) -> None:
        began = time.monotonic()
        try:
            status = self._service.post(a_call(message_id)).status
        except (OSError, http.client.HTTPException):
            status = 0
        self.answers.append(Answered(message_id, status, time.monotonic() - began))


class Pages:
    """Requests for what is read from the database, all at one moment."""

    def __init__(self, service: Served) -> None:
        self._service = service
        self._threads: list[threading.Thread] = []
        self.answers: list[tuple[int, float]] = []
        """Statuses, and how many seconds they took."""

    def ask(self, paths: Sequence[str]) -> None:
        self._threads = [threading.Thread(target=self._get, args=(path,)) for path in paths]
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        for thread in self._threads:
            thread.join(40)
        assert len(self.answers) == len(self._threads)

    def _get(self, path: str) -> None:
        began = time.monotonic()
        status = self._service.get(path, ADMIN_TOKEN).status
        self.answers.append((status, time.monotonic() - began))


@contextmanager
def frozen(postgres: Postgres) -> Iterator[None]:
    postgres.freeze()
    try:
        yield
    finally:
        postgres.thaw()


def threads_of(pids: Sequence[int]) -> int:
    return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in pids)


def megabytes_of(pids: Sequence[int]) -> float:
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids) * 4096 / 1e6


def test_with_postgresql_frozen_everybody_hears_503_in_time_and_thawed_it_goes_on(
    postgres: Postgres, tmp_path: Path
) -> None:
    with served(postgres.url, tmp_path, WEB_CONCURRENCY="2") as service, watching_health(service) as watched:
        workers = sorted(service.worker_pids())
        sending, pages = Sending(service), Pages(service)
        sending.send("before", 60, 0.6)
        sending.wait()
        assert {answer.status for answer in sending.answers} == {200}
        memory = megabytes_of(workers)
        # In the middle of the load, so that commits are under way.
        during = threading.Thread(target=sending.send, args=("during", 700, 7.0))
        during.start()
        time.sleep(0.5)
        with frozen(postgres):
            pages.ask(("/api/v1/ledger", "/api/v1/calls", "/api/v1/events") * 4)
            time.sleep(2)
            began = time.monotonic()
            ready = service.get("/readyz", ADMIN_TOKEN)
            ready_seconds = time.monotonic() - began
            during.join()
            threads, grown = threads_of(workers), megabytes_of(workers) - memory
            pages.wait()
            began = time.monotonic()
        wait_until(lambda: service.post(a_call("after")).status == 200)
        resumed = time.monotonic() - began
        sending.wait()
        # That was one worker. The other may hear of the silence for a moment more, from a page that began within it.
        wait_until(lambda: all(service.post(a_call("after")).status == 200 for _ in range(20)))

        assert ready.status == 503
        assert {check["name"] for check in ready.json["checks"] if not check["ok"]} == {"database"}
        slowest = max(answer.seconds for answer in sending.answers)
        assert max(slowest, ready_seconds) < SOON
        assert {status for status, _ in pages.answers} == {503}
        # One that was under way asks first whether the server is there at all.
        slowest_page = max(seconds for _, seconds in pages.answers)
        assert slowest_page < 2 * SOON
        assert watched.failures == 0
        assert max(watched.seconds) < SOON
        assert sorted(service.worker_pids()) == workers, "a worker died"
        # Two for pages in each worker, and gevent's own; not one for each request.
        assert threads <= 2 * 16
        assert grown < 100

        statuses = Counter(answer.status for answer in sending.answers)
        assert statuses.keys() == {200, 503}
        told = {answer.message_id for answer in sending.answers if answer.status == 200}
        there = stored_messages(postgres.url)
        assert told <= set(there)
        assert find_broken(postgres.url) == []
        sent = [answer.message_id for answer in sending.answers] + ["after"]
        assert resend(service, sent)["duplicate"] == len(there)
        assert stored_messages(postgres.url) == sorted(sent)
        assert find_broken(postgres.url) == []
        # It is an ordinary trouble: lines, and no tracebacks.
        assert [line for line in service.lines() if "exception" in line] == []
        # Nobody is refused for what is over.
        wait_until(lambda: service.get("/readyz").status == 200)
    print(  # noqa: T201
        f"{dict(statuses)}; slowest answer {slowest:.2f} s, /readyz {ready_seconds:.2f} s, slowest page"
        f" {slowest_page:.2f} s, slowest /healthz {max(watched.seconds):.2f} s; at most {sending.most} requests waited,"
        f" {threads} threads, {grown:.0f} MB more; first 200 {resumed:.2f} s after it was thawed;"
        f" {len(set(there) - told) - 1} stored and not answered"
    )


def test_frozen_in_the_middle_a_page_is_given_up_and_long_work_goes_on_when_it_is_thawed(postgres: Postgres) -> None:
    serving, other = (connect(postgres.url, serving=serving) for serving in (True, False))

    def work(database: Database) -> tuple[str, float]:
        with contextlib.suppress(Unavailable), database.reading() as conn:
            conn.execute(sa.text("SELECT pg_sleep(2)"))
            return "done", time.monotonic() - began
        return "given up", time.monotonic() - began

    with ThreadPoolExecutor(2) as threads:
        began = time.monotonic()
        page, replay = (threads.submit(work, database) for database in (serving, other))
        time.sleep(1)
        with frozen(postgres):
            what, seconds = page.result(40)
            # After 3 s of silence it asks for a connection, and waits 3 s for that.
            assert what == "given up"
            assert 5 < seconds < 12
            assert not replay.done()
        assert replay.result(40)[0] == "done"
    time.sleep(1)
    with serving.committing() as conn:
        assert conn.execute(sa.text("SELECT 1")).scalar() == 1
    for database in (serving, other):
        database.close()
