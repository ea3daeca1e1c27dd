"""Ends a process when its parent ends, however the parent ends: by itself or by any signal, kill -9 included."""

import ctypes
import os
import signal
import sys
import threading

GRACE_SECONDS = 5.0
"""Time for the request to Lotus that is in flight. One that is cut off is sent again, and Lotus drops the copy."""

_CHECK_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int, stopping: threading.Event) -> None:
    """Set `stopping` when the process `parent`, which started this one, ends; exit some seconds later in any case.

    `parent` comes from the parent itself: it may have ended while this process was starting, and getppid() then names
    the process that adopted this one. Raises SystemExit in that case.
    """
    _request_signal()
    # Only after that request: the kernel sends nothing for a parent that had ended before it.
    if os.getppid() != parent:
        sys.exit(0)
    threading.Thread(target=_watch, args=(parent, stopping), name="parent", daemon=True).start()


def _request_signal() -> None:
    """Let Linux send SIGTERM at the end of the thread that started this process: of a gunicorn worker, the only one.

    It arrives even if the interpreter is busy; other systems have no such signal, and `_watch` polls the parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _watch(parent: int, stopping: threading.Event) -> None:
    while os.getppid() == parent:
        threading.Event().wait(_CHECK_SECONDS)
    stopping.set()
    threading.Event().wait(GRACE_SECONDS)
    # A database or a Lotus that does not answer would keep the process alive for longer.
    os._exit(1)
