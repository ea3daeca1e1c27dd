"""Bodies that stop coming hold their bytes for a moment, and nobody's calls wait for them: the real service."""

import contextlib
import time
from pathlib import Path

from tests.hostile.wire import connect, new_call, post, read_answer, talk
from tests.served import served

MIB = 1 << 20
STALLED = 40


def test_forty_stalled_bodies_shut_nobody_out(tmp_path: Path) -> None:
    """Each holds half a megabyte of the two that strangers have together, and held it as long as it liked."""
    url = f"sqlite:///{tmp_path / 'test.db'}"
    with (
        served(url, tmp_path, WEB_CONCURRENCY="1", MAX_BODY_BYTES=str(MIB), MAX_INFLIGHT_BYTES=str(8 * MIB)) as service,
        contextlib.ExitStack() as open_connections,
    ):
        body = b" " * MIB
        for _ in range(STALLED):
            connection = open_connections.enter_context(connect(service.port))
            head_and_half = post(body)[: MIB // 2]
            with contextlib.suppress(OSError):
                connection.sendall(head_and_half)
        statuses, began = [], time.monotonic()
        while time.monotonic() - began < 8:
            answer = talk(service.port, post(new_call("stalled"), "Connection: close"))
            statuses.append(int(answer.split()[1]))
            time.sleep(0.05)
        # A call of ordinary size finds room at once, or once the first of them has been silent for too long.
        assert statuses.count(200) >= 0.5 * len(statuses)
        assert set(statuses[-20:]) == {200}
        with connect(service.port) as connection:
            connection.sendall(post(new_call("large") + b" " * (MIB // 2)))
            assert read_answer(connection)[0] == 200
        assert service.get("/healthz").status == 200
