"""The worker that `serve --with-worker` keeps running beside the service: one for all processes of this machine.

The process of the service that gets a file lock starts the worker, and restarts it if it dies. If that process dies,
the lock is released: the worker notices that its parent is gone and ends, even while it is still starting
(`app.forward.commands_parent`), and the next process to get the lock starts one.
"""

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

import structlog

from app.settings import WITH_WORKER, Settings
from app.web.drain import Drain

SHORTEST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
LIVED_SECONDS = 60.0
"""A worker that lived this long did not fail at its start, so the pause starts again at the shortest."""

_CHECK_SECONDS = 1.0

_OUR_OWN = {WITH_WORKER, "PROMETHEUS_MULTIPROC_DIR"}

_LOG = structlog.get_logger("forward")


def next_pause(pause: float, lived_seconds: float) -> float:
    """Return the seconds to wait before the next worker; `pause` is the wait before this one, or 0."""
    if lived_seconds > LIVED_SECONDS:
        return SHORTEST_PAUSE_SECONDS
    return min(max(2 * pause, SHORTEST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)


class WorkerProcess:
    """Keeps one worker running while this process lives and is not draining."""

    def __init__(self, settings: Settings, drain: Drain, lock: Path) -> None:
        """`lock`: the lock file that all processes of the service share."""
        inherited = {name: text for name, text in os.environ.items() if name not in _OUR_OWN}
        # The service's own values, even if `.env` has changed since: it must forward this database and no other.
        own = {
            "DATABASE_URL": settings.database_url,
            "LOTUS_HOST": settings.lotus_host,
            "LOTUS_API_KEY": settings.lotus_api_key,
        }
        self._environment = {**inherited, **own}
        self._drain = drain
        self._lock = lock

    def keep(self) -> None:
        """Start supervising, on a thread. Returns at once."""
        threading.Thread(target=self._run, name="worker", daemon=True).start()

    def _run(self) -> None:
        with self._lock.open("ab") as lock:
            while not _try_lock(lock):
                time.sleep(_CHECK_SECONDS)
            pause = 0.0
            while not self._drain.started:
                began = time.monotonic()
                code = self._start_and_wait()
                pause = next_pause(pause, time.monotonic() - began)
                # Before anything is logged: Ctrl-C ends the worker first, and then this process.
                time.sleep(pause)
                if not self._drain.started:
                    _LOG.warning("the worker ended; starting another one", code=code, after_seconds=pause)

    def _start_and_wait(self) -> int | str:
        """Start a worker and wait for it; return its exit code, or why it could not be started."""
        command = [sys.executable, "-m", "app.service", "worker", "--parent", str(os.getpid())]
        try:
            return subprocess.Popen(command, env=self._environment, stdin=subprocess.DEVNULL).wait()  # noqa: S603
        except OSError as error:
            return str(error)


def _try_lock(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
