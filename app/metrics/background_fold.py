"""Runs the steps of `app.metrics.fold` on a background thread for the life of the process."""

import threading
import time

import structlog

from app.errors import Unavailable
from app.metrics.fold import BUILD_EVENTS, PATIENCE_MICROS, BucketBuilder

_IDLE_SECONDS = 0.5
"""Pause between checks while there is nothing to do, or another process does it."""

_SHARE = 2.0
"""The pause after a step, as a multiple of the step's duration: incoming calls go first."""

_LOG = structlog.get_logger("metrics")


class BackgroundFold:
    """The background thread of one process."""

    def __init__(self, builder: BucketBuilder) -> None:
        self._builder = builder
        self._trouble: str | None = None

    def start(self) -> None:
        """Start the daemon thread."""
        threading.Thread(target=self._run, name="folding", daemon=True).start()

    def _run(self) -> None:
        while True:
            began = time.monotonic()
            did = self._step()
            time.sleep(_SHARE * (time.monotonic() - began) if did else _IDLE_SECONDS)

    def _step(self) -> bool:
        did = False
        try:
            did = self._builder.is_free() and self._builder.step(build_events=BUILD_EVENTS, patience=PATIENCE_MICROS)
        except Unavailable as error:
            # Answers stay correct: they read the events that are not in buckets.
            self._say(error.message)
        except Exception as error:  # noqa: BLE001  no error here may prevent a call from being stored
            self._say(repr(error))
        else:
            self._trouble = None
        return did

    def _say(self, what: str) -> None:
        if what != self._trouble:
            _LOG.warning("events not aggregated; answers stay correct, but slower", message=what)
        self._trouble = what
