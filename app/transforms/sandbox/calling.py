"""The service's side of the sandbox: starts it, asks it one thing at a time, and kills it when it takes too long."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec

from app import errors
from app.errors import SegmentLotusError, TransformInvalid, Unavailable
from app.transforms.sandbox.wire import IDLE_CODE, HungUp, Job, JobResult, Setup, receive, send

# From the start of Python to the transforms being read; a busy machine takes longer.
_START_SECONDS = 20

# Together, the one that is served included. A person has one preview under way; this is a few people.
_WAITING_MAX = 5

_ROOT = Path(__file__).parent.parent.parent

_ERROR_OF = {
    one.__dict__["code"]: one
    for one in vars(errors).values()
    if isinstance(one, type) and issubclass(one, SegmentLotusError) and "code" in one.__dict__
}

_decode = msgspec.msgpack.Decoder(JobResult).decode


class SandboxFailed(Exception):
    """Something went wrong in the sandbox that is a fault of ours; the message is for the log."""


class Sandbox:
    """One process, or none while nobody asks. Asked from any thread or greenlet; one at a time is served."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._turn = threading.Lock()
        self._waiting = 0
        self._child: _Child | None = None

    @property
    def pid(self) -> int | None:
        """Return the id of its process, None where there is none."""
        return self._child.process.pid if self._child else None

    def warm(self) -> None:
        """Let it start, where it does not run; waits for nothing."""
        if self._turn.acquire(blocking=False):
            try:
                self._running()
            finally:
                self._turn.release()

    def ask(self, act: str, name: str, asked: bytes, seconds: int) -> bytes:
        """Do `act` with the transform `name` and the JSON `asked`; return JSON.

        Raises:
            TransformInvalid: it took longer than `seconds`, or too much memory, and was stopped.
            Unavailable: others are being served.
            SegmentLotusError: what the act itself raises.
            SandboxFailed: a fault of ours.

        """
        if self._waiting >= _WAITING_MAX:
            raise Unavailable("too many previews are asked for at once; try again in a moment")
        self._waiting += 1
        try:
            if not self._turn.acquire(timeout=seconds + _START_SECONDS):
                raise Unavailable("another preview takes all the time; try again in a moment")
            try:
                return self._ask(Job(act=act, name=name, asked=asked, seconds=seconds))
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
            raise TransformInvalid(
                f"this takes longer than {job.seconds} seconds and was stopped: the text is too long, or an expression"
                " has too much to do"
            ) from None
        except HungUp:
            # In the very moment in which it was asked it may have given up waiting.
            idled = child.idled()
            if not idled:
                raise TransformInvalid("this was stopped: it needs too much memory, or too much time") from None
        finally:
            # Whatever went wrong, or whoever was stopped while waiting: the next job must not get this one's answer.
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
    """A process that was started, and the socket to it."""

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
        # It is small and waits in the socket: nobody has to.
        send(self._channel, setup)

    def wait_until_ready(self) -> None:
        """Wait for its first answer. Raises Unavailable."""
        if self._ready:
            return
        try:
            _decode(receive(self._channel, time.monotonic() + _START_SECONDS))
        except (HungUp, TimeoutError) as error:
            raise Unavailable("the process for previews does not start; the log of the service says why") from error
        self._ready = True

    def ask(self, job: Job) -> JobResult:
        """Give it a job, and return its answer. Raises HungUp, TimeoutError."""
        until = time.monotonic() + job.seconds
        self._channel.settimeout(job.seconds)
        send(self._channel, job)
        return _decode(receive(self._channel, until))

    def idled(self) -> bool:
        """Tell whether it ended because nobody asked it anything."""
        try:
            return self.process.wait(1) == IDLE_CODE
        except subprocess.TimeoutExpired:
            return False

    def end(self) -> None:
        """Kill it."""
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
