"""The worker that `serve --with-worker` keeps running beside the service: one for all processes of this machine.

Each process of the service wants to start it; the one that gets a lock does, and starts another where it dies. Where
that process dies itself, the lock is free: the worker sees that its parent is gone and ends, also where it is only
being started (`app.forward.commands_parent`), and the next process starts one.
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
from app.web.draining import Draining

SHORTEST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
LIVED_SECONDS = 60.0
"""A worker that lived so long did not die of how it starts."""

_LOOK_SECONDS = 1.0

_OUR_OWN = {WITH_WORKER, "PROMETHEUS_MULTIPROC_DIR"}

_LOG = structlog.get_logger("forward")


def next_pause(pause: float, lived_seconds: float) -> float:
    """Return how long to wait before another worker is started; `pause` is how long it was before this one, or 0."""
    if lived_seconds > LIVED_SECONDS:
        return SHORTEST_PAUSE_SECONDS
    return min(max(2 * pause, SHORTEST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)


class WorkerProcess:
    """Keeps one worker running, as long as this process lives and is not asked to stop."""

    def __init__(self, settings: Settings, draining: Draining, lock: Path) -> None:
        """`lock`: a file that all processes of the service share."""
        inherited = {name: text for name, text in os.environ.items() if name not in _OUR_OWN}
        # The service's own, whatever `.env` says by now: it must not forward another database than this one.
        own = {
            "DATABASE_URL": settings.database_url,
            "LOTUS_HOST": settings.lotus_host,
            "LOTUS_API_KEY": settings.lotus_api_key,
        }
        self._environment = {**inherited, **own}
        self._draining = draining
        self._lock = lock

    def keep(self) -> None:
        """Begin. Returns at once."""
        threading.Thread(target=self._run, name="worker", daemon=True).start()

    def _run(self) -> None:
        with self._lock.open("ab") as lock:
            while not _is_taken(lock):
                time.sleep(_LOOK_SECONDS)
            pause = 0.0
            while not self._draining.started:
                began = time.monotonic()
                code = self._start_and_wait()
                pause = next_pause(pause, time.monotonic() - began)
                # Before anything is said: Ctrl-C ends the worker first, and then this process.
                time.sleep(pause)
                if not self._draining.started:
                    _LOG.warning("the worker ended: another one is started", code=code, after_seconds=pause)

    def _start_and_wait(self) -> int | str:
        """Start it, and return how it ended: a number as the shell's, or why there is none."""
        command = [sys.executable, "-m", "app.service", "worker", "--parent", str(os.getpid())]
        try:
            return subprocess.Popen(command, env=self._environment, stdin=subprocess.DEVNULL).wait()  # noqa: S603
        except OSError as error:
            return str(error)


def _is_taken(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
