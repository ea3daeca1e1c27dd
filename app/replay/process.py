"""Replays started on a page run in a process of their own: `segment-lotus replay`, as typed on the command line.

So they take no time from the requests of a worker, and outlive it. Their progress is in the database; what they print
at the end goes to the log.
"""

import os
import subprocess
import sys
import tempfile
import threading
from typing import IO

import structlog

from app.replay.parameters import to_attribution_options, to_options
from app.replay.plan import ReplayRequest
from app.settings import Settings
from app.store.corrections import Attribution

_LOG = structlog.get_logger("replay")
_OUTPUT_BYTES = 4000


class ReplayProcesses:
    """Starts the replay processes of one service."""

    def __init__(self, settings: Settings) -> None:
        # The service's own values, whatever `.env` says by now: they decide what is replayed, into what, and forwarded.
        self._environment = {
            "DATABASE_URL": settings.database_url,
            "PSEUDONYM_KEY": settings.pseudonym_key,
            "LOTUS_API_KEY": settings.lotus_api_key,
        }

    def start(self, request: ReplayRequest, attribution: Attribution | None) -> None:
        """Start a process for this request, and return without waiting. Raises OSError."""
        # A file and not a pipe: the process must survive a worker that no longer reads.
        output = tempfile.TemporaryFile()  # noqa: SIM115  closed by the thread that waits for the process
        options = [*to_options(request), *to_attribution_options(attribution)]
        command = [sys.executable, "-m", "app.service", "replay", *options, "--yes", "--json"]
        try:
            process = subprocess.Popen(  # noqa: S603  our own program; each option is one argument, whatever it contains
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
        # Waiting for it also keeps it from becoming a zombie.
        threading.Thread(target=_await, args=(process, output), name="replay", daemon=True).start()


def _await(process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
    code = process.wait()
    with output:
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - _OUTPUT_BYTES))
        output_text = output.read().decode(errors="replace").strip()
    (_LOG.warning if code else _LOG.info)("replay ended", process=process.pid, code=code, said=output_text)
