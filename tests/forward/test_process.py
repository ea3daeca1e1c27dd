"""The worker as a process: killed, stopped, and beside others."""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from app.forward.fake_lotus.faults import InjectedFault, PlannedFault
from app.forward.fake_lotus.server import FakeLotus
from app.store.engine import Database
from app.store.schema import deliveries, events
from tests.builders import rows_of
from tests.forked import fork_command
from tests.forward.forwarding import KEY, a_recent, balanced, states_of, store
from tests.served import wait_until

EVENTS = 4000
KILLS = 4


def start(folder: Path, url: str, address: str, *, lease: str = "2", key: str = KEY) -> ForkServerProcess:
    """Start a worker in a folder of its own."""
    folder.mkdir(exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": url,
        "LOTUS_HOST": address,
        "LOTUS_API_KEY": key,
    }
    return fork_command(folder, folder / "worker.log", environment, "worker", "--lease", lease)


def has_begun(folder: Path) -> bool:
    """Tell whether a worker in this folder is past its start: before, SIGTERM ends any process at once."""
    return b'"forwarding"' in (folder / "worker.log").read_bytes()


def has_at_least(lotus: FakeLotus, count: int) -> bool:
    return len(lotus.events) >= count


@contextlib.contextmanager
def ended(*processes: ForkServerProcess) -> Iterator[None]:
    """Kill what still runs at the end."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join(10)


def exit_code(process: ForkServerProcess) -> int | None:
    """Return it once the process has ended."""
    process.join(20)
    return process.exitcode


def waiting_ids(database: Database) -> set[str]:
    """Return the idempotency ids of the events that no worker has noted as delivered."""
    ids = dict(rows_of(database, events, events.c.id, events.c.idempotency_id))
    rows = rows_of(database, deliveries, deliveries.c.event_id, deliveries.c.state)
    return {ids[event_id] for event_id, state in rows if state == "waiting"}


@pytest.mark.survival
def test_killed_at_any_point_every_event_arrives_and_only_the_batch_under_way_again(
    database: Database, migrated_url: str, lotus: FakeLotus, address: str, tmp_path: Path
) -> None:
    store(database, [a_recent(f"id-{number:04}") for number in range(EVENTS)])
    lotus.faults.plan([PlannedFault(InjectedFault.SLOW, 0.5)])
    cut_off: Counter[str] = Counter()
    for kills in range(KILLS):
        first, again = len(lotus.events), len(lotus.repeats)
        process = start(tmp_path / "killed", migrated_url, address)
        with ended(process):
            wait_until(partial(has_at_least, lotus, min(first + 300 + 37 * kills, EVENTS)), 30)
            # Anywhere: while it sends, while it settles, while it claims.
            time.sleep(0.003 * kills)
            process.kill()
            process.join(10)
        # What it had sent may still be worked off.
        wait_until(lambda: not lotus.open_connections)
        received = [*list(lotus.events)[first:], *lotus.repeats[again:]]
        under_way = waiting_ids(database).intersection(received)
        assert len(under_way) <= 100, "more than a batch was under way"
        cut_off.update(under_way)
    assert len(lotus.events) < EVENTS, "it was done before the kills: this shows nothing"
    lotus.faults.plan([])
    # A long lease: on a busy machine one of them must not take over what the other is about to send.
    pair = [start(tmp_path / name, migrated_url, address, lease="600") for name in ("one", "two")]
    with ended(*pair):
        wait_until(lambda: not states_of(database)["waiting"], 60)
        # One of them may have sent all of it before the other was there.
        wait_until(lambda: has_begun(tmp_path / "one") and has_begun(tmp_path / "two"))
        for process in pair:
            process.terminate()
            assert exit_code(process) == 0
    assert set(lotus.events) == {f"id-{number:04}" for number in range(EVENTS)}
    assert balanced(database) == {"delivered": EVENTS}
    # Two kills may cut off the same batch: it is then rightly sent three times.
    assert Counter(lotus.repeats) == cut_off
    print(f"{KILLS} kills, {len(lotus.repeats)} events sent again")  # noqa: T201  for `pytest -s`


def test_sigterm_ends_after_the_request_under_way_and_gives_the_rest_back(
    database: Database, migrated_url: str, lotus: FakeLotus, address: str, tmp_path: Path
) -> None:
    store(database, [a_recent(f"id-{number:04}") for number in range(1000)])
    lotus.slow_seconds = 0.3
    lotus.faults.plan([PlannedFault(InjectedFault.SLOW)])
    process = start(tmp_path / "stopped", migrated_url, address, lease="600")
    with ended(process):
        wait_until(lambda: lotus.events)
        process.terminate()
        assert exit_code(process) == 0
    sent = len(lotus.events)
    assert 0 < sent < 1000
    assert balanced(database) == {"delivered": sent, "waiting": 1000 - sent}
    # Another one has them at once, and needs not wait for a lease of ten minutes.
    lotus.faults.plan([])
    process = start(tmp_path / "stopped", migrated_url, address)
    with ended(process):
        wait_until(lambda: len(lotus.events) == 1000)
    assert lotus.repeats == []


def test_without_a_key_a_worker_says_so_and_waits(migrated_sqlite_url: str, address: str, tmp_path: Path) -> None:
    process = start(tmp_path / "idle", migrated_sqlite_url, address, key="")
    with ended(process):
        wait_until(lambda: b"LOTUS_API_KEY is not set" in (tmp_path / "idle" / "worker.log").read_bytes())
        assert process.is_alive()
        process.terminate()
        assert exit_code(process) == 0
