"""A full disk: 503 meanwhile, nothing half-stored, and on with the work once there is space again."""

import contextlib
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.builders import a_document, to_raw
from tests.programs import small_disk
from tests.served import ADMIN_TOKEN, Served, served, signed, wait_until
from tests.survival.load import a_call
from tests.survival.whole import find_broken, stored_messages

pytestmark = pytest.mark.survival

_DISK_BYTES = 6 << 20
_ROOM_LEFT = 400_000


def _fill(file: Path) -> None:
    """Take all space there is on the disk of `file` but for some calls."""
    with file.open("wb", buffering=0) as filler:
        with contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))
        filler.truncate(filler.tell() - _ROOM_LEFT)


def _a_large_call(message_id: str) -> bytes:
    return to_raw(a_document(messageId=message_id, event="Load", properties={"padding": "x" * 20_000}))


def _post_until_refused(service: Served, name: str) -> list[str]:
    """Post calls of 20 kB until one gets another answer than 200, which must be 503; return those that got 200."""
    stored: list[str] = []
    for number in range(500):
        message_id = f"{name}-{number}"
        answer = service.post(_a_large_call(message_id))
        if answer.status != 200:
            assert answer.status == 503, answer
            assert answer.headers["retry-after"]
            assert answer.json["code"] == "unavailable"
            return stored
        stored.append(message_id)
    raise AssertionError("the disk never got full")


def _show_that_it_survives(
    service: Served, url: str, make_full: Callable[[], object], make_room: Callable[[], object]
) -> None:
    assert service.post(a_call("before")).status == 200
    workers = service.worker_pids()
    make_full()
    stored = _post_until_refused(service, "filling")
    assert stored, "it was full before the first call: no transaction broke in the middle"

    assert service.get("/healthz").status == 200
    assert service.post(b"{}", signed(b"something else")).status == 401
    assert service.post(_a_large_call("while-full")).status == 503
    metrics = service.get("/metrics", ADMIN_TOKEN).body.decode()
    assert 'segment_lotus_requests_refused_total{code="unavailable"} 2.0' in metrics
    assert f'segment_lotus_calls_total{{outcome="stored",reason=""}} {len(stored) + 1}.0' in metrics
    assert service.worker_pids() == workers, "a worker died"

    make_room()
    wait_until(lambda: service.post(a_call("after")).status == 200)
    # All is sent again: what was answered is a duplicate, what was told to come back is new.
    for message_id in stored:
        assert service.post(_a_large_call(message_id)).json["duplicate"] == 1
    assert service.post(_a_large_call("while-full")).json["stored"] == 1
    assert service.worker_pids() == workers, "a worker died"
    assert stored_messages(url) == sorted([*stored, "before", "while-full", "after"])
    print(f"{len(stored)} calls of 20 kB fitted")  # noqa: T201


def test_with_the_disk_full_it_is_503_and_with_space_again_it_goes_on(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", _DISK_BYTES) as disk:
        url = f"sqlite:///{disk / 'test.db'}"
        # The log is on the full disk as well.
        log = disk / "service.log"
        with served(url, tmp_path, log=log, WEB_CONCURRENCY="2", MIN_FREE_DISK_BYTES="100KB") as service:
            assert service.get("/readyz").status == 200
            _show_that_it_survives(service, url, lambda: _fill(disk / "filler"), (disk / "filler").unlink)
        assert find_broken(url) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits another process: Linux only")
def test_with_a_limit_on_file_sizes_it_is_503_and_without_it_goes_on(sqlite_database_url: str, tmp_path: Path) -> None:
    def limit(size: int) -> None:
        for pid in service.worker_pids():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    with served(sqlite_database_url, tmp_path, WEB_CONCURRENCY="2") as service:
        _show_that_it_survives(
            service, sqlite_database_url, lambda: limit(2 << 20), lambda: limit(resource.RLIM_INFINITY)
        )
    assert find_broken(sqlite_database_url) == []
