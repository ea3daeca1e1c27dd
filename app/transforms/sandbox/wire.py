"""The messages between the service and its sandbox, over a socket: a length, and then MessagePack."""

import socket
import time
from typing import Any

import msgspec

_LENGTH_BYTES = 4
_CHUNK = 1 << 20

ANSWER_BYTES_MAX = 64 << 20

IDLE_CODE = 3
"""Exit code of a sandbox that got no job for `Setup.idle_seconds`."""


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """The first message: the settings of the sandbox."""

    database_url: str
    transforms_dir: str
    pseudonym_key: str
    idle_seconds: int
    """After this long without a job it ends, which frees its memory."""
    memory_bytes: int
    """Limit of its address space; Python with its libraries takes 170 MB of it."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One action on a transform."""

    action: str
    name: str
    """Of the transform."""
    request: bytes
    """JSON; its fields depend on the action."""
    seconds: int
    """The longest it may take."""


class JobResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a job; the first one, before any job, says that the sandbox is ready."""

    body: bytes = b""
    """JSON."""
    code: str | None = None
    """Code of the error; None: there was none."""
    message: str = ""
    ends: bool = False
    """The sandbox ends after this message."""


class HungUp(Exception):
    """The other side closed the socket, or sent too much."""


def send(channel: socket.socket, message: Any) -> None:
    """Send a message. Raises HungUp, TimeoutError."""
    encoded = msgspec.msgpack.encode(message)
    try:
        channel.sendall(len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded)
    except TimeoutError:
        raise
    except OSError as error:
        raise HungUp from error


def receive(channel: socket.socket, until: float | None = None) -> bytes:
    """Receive the bytes of a message; `until` is a time of time.monotonic. Raises HungUp, TimeoutError."""
    length = int.from_bytes(_receive(channel, _LENGTH_BYTES, until), "big")
    if length > ANSWER_BYTES_MAX:
        raise HungUp
    return _receive(channel, length, until)


def _receive(channel: socket.socket, size: int, until: float | None) -> bytes:
    parts: list[bytes] = []
    while size:
        if until is not None:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            channel.settimeout(left)
        try:
            part = channel.recv(min(size, _CHUNK))
        except TimeoutError:
            raise
        except OSError as error:
            raise HungUp from error
        if not part:
            raise HungUp
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
