"""Takes the steps of `app.metrics.fold` beside the service, for as long as the process lives."""

import threading
import time

import structlog

from app.errors import Unavailable
from app.metrics.fold import BUILD_EVENTS, PATIENCE_MICROS, BucketBuilder

_IDLE_SECONDS = 0.5
"""Between two looks where there is nothing to do, or another process does it."""

_SHARE = 2.0
"""After a step it rests so many times as long as the step took: calls that come in go first."""

_LOG = structlog.get_logger("metrics")


class BackgroundFold:
    """The steps of one process."""

    def __init__(self, folder: BucketBuilder) -> None:
        self._folder = folder
        self._trouble: str | None = None

    def start(self) -> None:
        """Begin, on a thread of its own."""
        threading.Thread(target=self._run, name="folding", daemon=True).start()

    def _run(self) -> None:
        while True:
            began = time.monotonic()
            did = self._step()
            time.sleep(_SHARE * (time.monotonic() - began) if did else _IDLE_SECONDS)

    def _step(self) -> bool:
        did = False
        try:
            did = self._folder.is_free() and self._folder.step(build_events=BUILD_EVENTS, patience=PATIENCE_MICROS)
        except Unavailable as error:
            # Answers stay right: they read what is not added up.
            self._say(error.message)
        except Exception as error:  # noqa: BLE001  whatever it is, it keeps no call from being stored
            self._say(repr(error))
        else:
            self._trouble = None
        return did

    def _say(self, what: str) -> None:
        if what != self._trouble:
            _LOG.warning("events not added up; answers are right, and slower", message=what)
        self._trouble = what
