"""Bytes as a stranger writes them: bare sockets, requests by hand, answers taken apart."""

import contextlib
import itertools
import json
import re
import socket
import time

from tests.builders import a_document, to_raw
from tests.served import WEBHOOK, signed

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"

UPGRADES = (
    ("Connection: upgrade",),
    ("Upgrade: websocket",),
    ("Connection: Upgrade", "Upgrade: websocket"),
    ("Connection: keep-alive, Upgrade", "Upgrade: WebSocket"),
)
"""Headers by which a client asks for another protocol."""

_numbers = itertools.count()


def new_call(name: str = "hostile") -> bytes:
    """Return the body of a call that no other test has sent."""
    return to_raw(a_document(messageId=f"{name}-{next(_numbers)}"))


def post(body: bytes, *lines: str, framed: bytes | None = None, path: str = WEBHOOK) -> bytes:
    """Return a signed request with this body: sized, or in the chunks `framed`; to the pages it is a form."""
    framing = f"Content-Length: {len(body)}" if framed is None else "Transfer-Encoding: chunked"
    form = {"Content-Type": "application/x-www-form-urlencoded"} if path == "/sign-in" else {}
    fields = {"Host": "x", **signed(body), **form}
    headers = [*(f"{name}: {value}" for name, value in fields.items()), framing, *lines]
    head = "\r\n".join([f"POST {path} HTTP/1.1", *headers, "", ""]).encode("latin-1")
    return head + (body if framed is None else framed)


def chunked(body: bytes, size: int = 100) -> bytes:
    """Return a body in chunks of `size` bytes, the last one included."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def connect(port: int, seconds: float = 10) -> socket.socket:
    """Return a connection to a port of this machine."""
    return socket.create_connection(("127.0.0.1", port), timeout=seconds)


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Read one answer that has a length; return its status and body, or (0, what came) where none is whole."""
    received = b""
    with contextlib.suppress(OSError):
        while b"\r\n\r\n" not in received:
            if not (part := connection.recv(1)):
                return 0, received
            received += part
        head, _, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        while length is not None and len(body) < int(length[1]):
            if not (part := connection.recv(int(length[1]) - len(body))):
                return 0, received
            body += part
        return int(head.split()[1]), body
    return 0, received


def read_all(connection: socket.socket) -> bytes:
    """Read until the connection is closed, broken or silent."""
    received = b""
    with contextlib.suppress(OSError):
        while part := connection.recv(65536):
            received += part
    return received


def talk(port: int, *parts: bytes, end: bool = True, seconds: float = 10) -> bytes:
    """Send bytes on a connection of their own; return all that comes back until it is closed, or silent."""
    with connect(port, seconds) as connection:
        with contextlib.suppress(OSError):
            for part in parts:
                connection.sendall(part)
            if end:
                connection.shutdown(socket.SHUT_WR)
        return read_all(connection)


def statuses(answers: bytes) -> list[int]:
    """Return the statuses of answers that came one after the other."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z]", answers)]


def refusal(answers: bytes) -> tuple[int, str]:
    """Return the status and the code of the one answer that came; it must have the shape of all our errors."""
    [status] = statuses(answers)
    head, _, body = answers.partition(b"\r\n\r\n")
    assert b"Content-Type: application/json" in head
    document = json.loads(body)
    assert document.keys() == {"code", "message"}
    return status, document["code"]


def seconds_until_answered(port: int) -> float:
    """Ask `/healthz` on a new connection; return how long that took."""
    began = time.monotonic()
    with connect(port, 60) as connection:
        connection.sendall(HEALTH)
        assert read_answer(connection)[0] == 200
    return time.monotonic() - began
