"""A node whose link goes down in the middle of a commit: nothing ever says so to the server, and it holds locks.

Over TCP, and through a link of the test's own: to kill the node would close its connections, and a proxy in between
would answer the server's keepalives.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from app.core.outcome import Outcome
from app.errors import Unavailable
from app.store.engine import connect
from app.store.migrate import migrate
from app.store.postgresql import VANISHED_SECONDS, find_lock_release
from tests.builders import a_record, an_event, balance, store
from tests.postgres import own_postgres
from tests.programs import require_program
from tests.served import free_port
from tests.survival.whole import find_broken, stored_messages

pytestmark = pytest.mark.survival

ROOT = Path(__file__).parent.parent.parent


class Link(NamedTuple):
    """A network of two addresses: ours, and that of a namespace."""

    namespace: str
    device: str
    address: str

    def cut(self) -> None:
        """Let nothing through any more, either way, and tell nobody."""
        ip("netns", "exec", self.namespace, "ip", "link", "set", f"{self.device}-b", "down")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextmanager
def linked() -> Iterator[Link]:
    """Make a namespace and a link to it; raises OSError or CalledProcessError where that cannot be done."""
    place = os.getpid() % 65_536
    network = f"10.{100 + place // 256 // 4}.{place % 256}"
    link = Link(f"segment-lotus-{os.getpid()}", f"sl{os.getpid()}", f"{network}.1")
    ip("netns", "add", link.namespace)
    try:
        ip("link", "add", f"{link.device}-a", "type", "veth", "peer", f"{link.device}-b", "netns", link.namespace)
        ip("address", "add", f"{link.address}/30", "dev", f"{link.device}-a")
        ip("link", "set", f"{link.device}-a", "up")
        inside = ("netns", "exec", link.namespace, "ip")
        ip(*inside, "address", "add", f"{network}.2/30", "dev", f"{link.device}-b")
        ip(*inside, "link", "set", f"{link.device}-b", "up")
        yield link
    finally:
        # The link goes with the last process in it.
        ip("netns", "delete", link.namespace)


@pytest.fixture
def link() -> Iterator[Link]:
    require_program("ip")
    with ExitStack() as stack:
        try:
            made = stack.enter_context(linked())
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"needs the right to make a network namespace, to cut a link: {error}")
        yield made


@pytest.fixture
def url(link: Link) -> Iterator[str]:
    """The URL of a migrated database, at the address of the link."""
    with own_postgres() as server:
        server.admit(f"{link.address}/30")
        server.stop("fast")
        port = free_port()
        server.start(link.address, port)
        url = f"postgresql+psycopg://postgres@{link.address}:{port}/postgres"
        database = connect(url)
        migrate(database)
        database.close()
        yield url


@contextmanager
def halted(link: Link, ways: Sequence[str], url: str) -> Iterator[None]:
    """Run nodes on the other side of the link; give way as soon as each stands still in the middle of a commit."""
    command = ["ip", "netns", "exec", link.namespace, sys.executable, "-m", "tests.hostile.a_vanishing_node"]
    nodes = [
        subprocess.Popen([*command, way, url, way], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for way in ways
    ]
    try:
        lines = [(node.stdin, node.stdout) for node in nodes if node.stdin and node.stdout]
        assert [said.readline() for _, said in lines] == ["ready\n"] * len(ways)
        # At one moment: what limits the first one's transaction must not end while the last one starts.
        for go, _ in lines:
            go.write("\n")
            go.flush()
        assert [said.readline() for _, said in lines] == ["halted\n"] * len(ways)
        yield
    finally:
        for node in nodes:
            node.kill()
            node.communicate()


def store_again_and_again(url: str, message_id: str) -> tuple[float, int]:
    """Store a call as a sender does that is told 503; return the seconds it took, and how often it was told."""
    began = time.monotonic()
    told = 0
    database = connect(url)
    while time.monotonic() - began < 3 * VANISHED_SECONDS:
        try:
            assert store(database, a_record(an_event(idempotency_id=message_id))) == [Outcome.STORED]
        except Unavailable:
            told += 1
        else:
            database.close()
            return time.monotonic() - began, told
    raise AssertionError(f"{message_id} is still held")


def test_a_node_that_vanishes_in_a_commit_holds_its_locks_10_s(link: Link, url: str) -> None:
    ways = ("commit", "old server", "long work")
    with halted(link, ways, url), ThreadPoolExecutor(2) as threads:
        link.cut()
        waited = dict(zip(ways, threads.map(lambda way: store_again_and_again(url, way), ways[:2]), strict=False))
        database = connect(url)
        with database.committing() as conn:
            release = find_lock_release(conn)
        assert (release.has_timeout, release.has_keepalives) == (True, True)
        # Nothing of the kind ends what may take long: a replay, a migration, a fold, a report.
        with pytest.raises(Unavailable):
            store(database, a_record(an_event(idempotency_id="long work")))
        assert stored_messages(url) == sorted(ways[:2])
        assert balance(database) == {("stored", ""): 2}
        assert find_broken(url) == []
        database.close()
    for seconds, told in waited.values():
        # It did hold them; and a busy machine may be slow to find them free.
        assert told >= 1
        assert seconds < 2 * VANISHED_SECONDS
    print({way: f"stored after {seconds:.1f} s and {told} times 503" for way, (seconds, told) in waited.items()})  # noqa: T201
