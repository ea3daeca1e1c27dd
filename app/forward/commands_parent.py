"""A process that ends with the one that started it, however that ends: by a signal, kill -9 included, or by itself."""

import ctypes
import os
import signal
import sys
import threading

GRACE_SECONDS = 5.0
"""For the request to Lotus that is under way. What is cut off after it is sent again, and Lotus drops it."""

_LOOK_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int, stopping: threading.Event) -> None:
    """Set `stopping` when the process `parent`, which started this one, ends; exit some seconds later in any case.

    `parent` comes from the parent itself: it may have ended while this process was started, and whoever asks for it
    then is told of the process that has taken its place. Raises SystemExit where that is so.
    """
    _request_signal()
    # Only now: of a parent that ended before, the kernel says nothing.
    if os.getppid() != parent:
        sys.exit(0)
    threading.Thread(target=_watch, args=(parent, stopping), name="parent", daemon=True).start()


def _request_signal() -> None:
    """Let Linux send SIGTERM at the end of the thread that started this process: of a gunicorn worker, the only one.

    It arrives also where the interpreter is busy; where there is no such signal, looking at the parent has to do.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _watch(parent: int, stopping: threading.Event) -> None:
    while os.getppid() == parent:
        threading.Event().wait(_LOOK_SECONDS)
    stopping.set()
    threading.Event().wait(GRACE_SECONDS)
    # A database or a Lotus that does not answer would keep it for longer.
    os._exit(1)
