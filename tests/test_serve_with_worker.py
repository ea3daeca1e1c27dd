"""The last mile: two variables, `serve --with-worker`, and events arrive in Lotus."""

import signal
from pathlib import Path

from app.bootstrap import clock
from app.fake_lotus.server import FakeLotus, running
from tests.forward.forwarding import KEY
from tests.served import free_port, wait_until
from tests.test_cli_serve import Folder, answers


def test_two_variables_and_events_arrive_and_the_worker_ends_with_the_service(tmp_path: Path) -> None:
    lotus = FakeLotus(KEY, clock=clock)
    folder = Folder(tmp_path, free_port())
    folder.type("init")
    folder.type("migrate")
    with running(lotus) as address:
        process = folder.start("serve", "--with-worker", LOTUS_HOST=address, LOTUS_API_KEY=KEY)
        try:
            wait_until(lambda: answers(folder.port) or process.poll() is not None, 30)
            assert folder.type("send", "sample").returncode == 0
            wait_until(lambda: len(lotus.events) == 4)
        finally:
            process.send_signal(signal.SIGTERM)
        # Whoever reads what they print sees its end only once both are gone.
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    assert '"event":"forwarding"' in stdout.replace(": ", ":")
    assert KEY not in stdout + stderr
    assert lotus.violations == []
