"""A commit is on the disk before the 200: kill -9 cannot show that, counting the calls to the kernel can."""

import contextlib
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import require_program
from tests.served import served, wait_until
from tests.survival.load import a_call

pytestmark = pytest.mark.survival

_REQUESTS = 20


@contextlib.contextmanager
def _traced(pid: int, output: Path) -> Iterator[None]:
    """Write down every call of a process that makes data durable, with the file it is about."""
    tracer = subprocess.Popen(
        [require_program("strace"), "-f", "-y", "-e", "trace=fsync,fdatasync", "-o", str(output), "-p", str(pid)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tracer.stderr is not None
    said = tracer.stderr.readline()
    if "attached" not in said:
        tracer.wait(10)
        tracer.stderr.close()
        pytest.skip(f"strace may not look at other processes here: {said.strip()}")
    try:
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(10)
        tracer.stderr.close()


def test_each_request_that_is_answered_was_synced_to_the_write_ahead_log_first(
    sqlite_database_url: str, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    with served(sqlite_database_url, tmp_path, WEB_CONCURRENCY="1") as service:
        assert service.post(a_call("before")).status == 200
        (worker,) = service.worker_pids()
        with _traced(worker, trace):
            for number in range(_REQUESTS):
                assert service.post(a_call(f"synced-{number}")).status == 200
            wait_until(trace.exists)
    synced = re.findall(r"f(?:data)?sync\(\d+<[^>]*test\.db-wal>\)\s*= 0", trace.read_text())
    assert len(synced) >= _REQUESTS
    print(f"{_REQUESTS} requests one after the other, {len(synced)} syncs of the write-ahead log")  # noqa: T201
