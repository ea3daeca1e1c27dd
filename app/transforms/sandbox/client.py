"""The service's side of the sandbox: starts it, gives it one job at a time, and kills it when it takes too long."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec

from app import errors
from app.core.text import counted
from app.errors import SegmentLotusError, TransformInvalid, Unavailable
from app.transforms.sandbox.wire import IDLE_CODE, HungUp, Job, JobResult, Setup, receive, send

# From the start of Python until the transforms are read; long enough for a busy machine.
_START_SECONDS = 20

# Jobs in total, including the one that runs. A person has one preview at a time; this is a few people.
_WAITING_MAX = 5

_ROOT = Path(__file__).parent.parent.parent

_ERROR_OF = {
    error.__dict__["code"]: error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, SegmentLotusError) and "code" in error.__dict__
}

_decode = msgspec.msgpack.Decoder(JobResult).decode


class SandboxFailed(Exception):
    """The sandbox failed because of a bug in this program; the message is for the log."""


class Sandbox:
    """One process, or none while there are no jobs. Any thread or greenlet may call it; it does one job at a time."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._turn = threading.Lock()
        self._waiting = 0
        self._child: _Child | None = None

    @property
    def pid(self) -> int | None:
        """Return the id of its process; None if it does not run."""
        return self._child.process.pid if self._child else None

    def warm(self) -> None:
        """Start the process if it does not run; waits for nothing."""
        if self._turn.acquire(blocking=False):
            try:
                self._running()
            finally:
                self._turn.release()

    def ask(self, action: str, name: str, request: bytes, seconds: int) -> bytes:
        """Do `action` on the transform `name` with the JSON `request`; return JSON.

        Raises:
            TransformInvalid: it took longer than `seconds`, or too much memory, and was stopped.
            Unavailable: too many other jobs are waiting, or take too long.
            SegmentLotusError: an error of the action itself.
            SandboxFailed: a bug in this program.

        """
        if self._waiting >= _WAITING_MAX:
            raise Unavailable("too many previews are waiting; try again in a moment")
        self._waiting += 1
        try:
            if not self._turn.acquire(timeout=seconds + _START_SECONDS):
                raise Unavailable("another preview takes too long; try again in a moment")
            try:
                return self._ask(Job(action=action, name=name, request=request, seconds=seconds))
            finally:
                self._turn.release()
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End its process."""
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def _ask(self, job: Job) -> bytes:
        child = self._running()
        answer: JobResult | None = None
        idled = False
        try:
            child.wait_until_ready()
            answer = child.ask(job)
        except TimeoutError:
            limit = counted(job.seconds, "second")
            raise TransformInvalid(
                f"this takes longer than {limit} and was stopped: the text is too long, or an expression does too much"
            ) from None
        except HungUp:
            # The sandbox may have ended for lack of jobs just as it got this one.
            idled = child.idled()
            if not idled:
                raise TransformInvalid("this was stopped: it needs too much memory, or too much time") from None
        finally:
            # Even if the caller was interrupted while waiting: the next job must not get this answer.
            if answer is None or answer.ends:
                self.close()
        return _read(answer) if answer is not None else self._ask(job)

    def _running(self) -> "_Child":
        if self._child is not None and self._child.process.poll() is not None:
            self.close()
        if self._child is None:
            self._child = _Child(self._setup)
        return self._child


class _Child:
    """A process of the sandbox, and the socket to it."""

    def __init__(self, setup: Setup) -> None:
        self._channel, theirs = socket.socketpair()
        paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app.transforms.sandbox"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
            )
        self._ready = False
        self._channel.settimeout(_START_SECONDS)
        # It is small enough for the buffer of the socket, so sending it does not block.
        send(self._channel, setup)

    def wait_until_ready(self) -> None:
        """Wait for the first answer of the process. Raises Unavailable."""
        if self._ready:
            return
        try:
            _decode(receive(self._channel, time.monotonic() + _START_SECONDS))
        except (HungUp, TimeoutError) as error:
            raise Unavailable("the preview process does not start; the log of the service says why") from error
        self._ready = True

    def ask(self, job: Job) -> JobResult:
        """Send a job, and return the answer. Raises HungUp, TimeoutError."""
        until = time.monotonic() + job.seconds
        self._channel.settimeout(job.seconds)
        send(self._channel, job)
        return _decode(receive(self._channel, until))

    def idled(self) -> bool:
        """Tell whether the process ended because it got no jobs."""
        try:
            return self.process.wait(1) == IDLE_CODE
        except subprocess.TimeoutExpired:
            return False

    def end(self) -> None:
        """Kill the process."""
        self._channel.close()
        self.process.kill()
        self.process.wait()


def _read(answer: JobResult) -> bytes:
    if answer.code is None:
        return answer.body
    kind = _ERROR_OF.get(answer.code)
    if kind is None:
        raise SandboxFailed(answer.message)
    raise kind(answer.message)
