"""Replays that are asked for on a page run in a process of their own: `segment-lotus replay`, as one types it.

So they take nothing from the requests of a worker, and go on where a worker is replaced. How far they are stands in the
database; what they print at their end goes to the log.
"""

import os
import subprocess
import sys
import tempfile
import threading
from typing import IO

import structlog

from app.replay.parameters import to_options
from app.replay.plan import ReplayRequest
from app.settings import Settings

_LOG = structlog.get_logger("replay")
_SAID_BYTES = 4000


class ReplayProcesses:
    """Starts them, for one service."""

    def __init__(self, settings: Settings) -> None:
        # The service's own, whatever `.env` says by now: they decide what is replayed, into what, and what is sent on.
        self._environment = {
            "DATABASE_URL": settings.database_url,
            "PSEUDONYM_KEY": settings.pseudonym_key,
            "LOTUS_API_KEY": settings.lotus_api_key,
        }

    def start(self, asked: ReplayRequest) -> None:
        """Start one. Returns at once."""
        # A file and not a pipe: it must not die of a worker that reads no more.
        output = tempfile.TemporaryFile()  # noqa: SIM115  closed by who waits for the process
        command = [sys.executable, "-m", "app.service", "replay", *to_options(asked), "--yes", "--json"]
        try:
            process = subprocess.Popen(  # noqa: S603  our own program; each word is one option, whatever stands in it
                command,
                env={**os.environ, **{name: text for name, text in self._environment.items() if text}},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        except OSError:
            output.close()
            raise
        _LOG.info("replay started", process=process.pid, options=command[4:])
        # Waiting for it is also what keeps it from staying behind as a zombie.
        threading.Thread(target=_await, args=(process, output), name="replay", daemon=True).start()


def _await(process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
    code = process.wait()
    with output:
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - _SAID_BYTES))
        said = output.read().decode(errors="replace").strip()
    (_LOG.warning if code else _LOG.info)("replay ended", process=process.pid, code=code, said=said)
