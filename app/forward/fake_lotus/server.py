"""The server: Lotus's paths, and two of its own that show what it received (`/_received`) and plan faults.

Faults are planned at `/_faults`.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from app.forward.fake_lotus.faults import Faults, InjectedFault, PlannedFault
from app.forward.fake_lotus.rules import DAY, MAX_BYTES, MAX_EVENTS, RequestVerdict, decide, is_since, refuse_whole

TRACK = "/api/track/"
PING = "/api/ping/"
VERIFY = "/api/verify_idems_received/"
RECEIVED = "/_received"
FAULTS = "/_faults"

_EVERY_OTHER = frozenset(range(0, MAX_EVENTS, 2))
_ALL = frozenset(range(MAX_EVENTS))
_TAKES_NOTHING = {
    InjectedFault.ERROR,
    InjectedFault.HANG_UP,
    InjectedFault.BUSY,
    InjectedFault.REDIRECT,
    InjectedFault.ENDLESS,
    InjectedFault.WRONG_KEY,
}
_MOST_BYTES = 8 * MAX_BYTES
_ENDLESS_STEPS = 600
_SHOWN = 1000


class _PlannedDocument(msgspec.Struct):
    fault: InjectedFault
    share: float = 1.0
    left: int | None = None


class FakeLotus:
    """The state of the stand-in: the first event of each id wins, and repeats are dropped silently."""

    def __init__(
        self, key: str, *, faults: Faults | None = None, clock: Callable[[], int], slow_seconds: float = 1.0
    ) -> None:
        """`clock` gives microseconds since 1970."""
        self.key = key
        self.faults = faults or Faults()
        self.clock = clock
        self.slow_seconds = slow_seconds
        self.events: dict[str, dict[str, Any]] = {}
        """By idempotency id, in order of arrival."""
        self.repeats: list[str] = []
        """Ids received again."""
        self.requests: list[tuple[int, int]] = []
        """(events, status) of each request to track; the status is 0 if it was not answered."""
        self.connections = 0
        self.open_connections = 0
        """Those still being served: after a sender was killed, until its last request is processed."""
        self.violations: list[str] = []
        """Violations of the contract by the client."""
        self.lock = threading.Lock()

    def keep(self, verdict: RequestVerdict) -> None:
        """Keep the accepted events."""
        with self.lock:
            self.violations += verdict.violations
            for event in verdict.taken:
                if event["idempotency_id"] in self.events:
                    self.repeats.append(event["idempotency_id"])
                else:
                    self.events[event["idempotency_id"]] = event

    def forget(self) -> None:
        """Forget everything received."""
        with self.lock:
            self.events, self.repeats, self.requests, self.violations = {}, [], [], []

    def show(self) -> dict[str, Any]:
        """Return what was received, the newest events last."""
        with self.lock:
            return {
                "received": len(self.events),
                "repeats": len(self.repeats),
                "requests": len(self.requests),
                "violations": self.violations[-_SHOWN:],
                "events": list(self.events.values())[-_SHOWN:],
            }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "fake-lotus"
    disable_nagle_algorithm = True
    timeout = 60
    lotus: FakeLotus

    def setup(self) -> None:
        super().setup()
        with self.lotus.lock:
            self.lotus.connections += 1
            self.lotus.open_connections += 1

    def finish(self) -> None:
        with self.lotus.lock:
            self.lotus.open_connections -= 1
        super().finish()

    def log_message(self, *_arguments: object) -> None:
        """Log nothing: RECEIVED shows the requests."""

    def do_GET(self) -> None:
        if self.path == PING:
            if self.headers.get("X-API-KEY") == self.lotus.key:
                self._answer(200, {"organization_id": "org_fake_lotus"})
            else:
                self._answer(401, {"detail": "Invalid API key."})
        elif self.path == RECEIVED:
            self._answer(200, self.lotus.show())
        else:
            self._answer(404, {"detail": "Not found."})

    def do_DELETE(self) -> None:
        if self.path != RECEIVED:
            self._answer(404, {"detail": "Not found."})
            return
        self.lotus.forget()
        self._answer(200, {})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 <= length <= _MOST_BYTES:
            self.close_connection = True
            self._answer(413, {"message": "too large"})
            return
        if self.path == TRACK:
            self._track(length)
            return
        body = self.rfile.read(length)
        if self.path == VERIFY:
            self._verify(body)
        elif self.path == FAULTS:
            self._plan(body)
        elif self.path == TRACK.rstrip("/"):
            # As Django does: a client that follows it sends a GET without a body.
            self._answer(301, {}, Location=TRACK)
        else:
            self._answer(404, {"detail": "Not found."})

    def _track(self, length: int) -> None:
        fault = self.lotus.faults.draw()
        if fault is InjectedFault.HANG_UP:
            self.rfile.read(length // 2)
            self._note(0, 0)
            self._hang_up()
            return
        body = self.rfile.read(length)
        if len(body) < length:
            # The sender is gone.
            self.close_connection = True
            return
        verdict = self._decide(body, fault)
        if fault is InjectedFault.SLOW:
            time.sleep(self.lotus.slow_seconds)
        if fault not in _TAKES_NOTHING:
            self.lotus.keep(verdict)
        self._send_verdict(verdict, fault)

    def _send_verdict(self, verdict: RequestVerdict, fault: InjectedFault | None) -> None:
        if fault is InjectedFault.HANG_UP_AFTER:
            self._note(len(verdict.taken), 0)
            self.wfile.write(b"HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n{")
            self._hang_up()
        elif fault is InjectedFault.NOT_JSON:
            self._note(len(verdict.taken), 201)
            self._send(201, b"<html>hello</html>")
        elif fault is InjectedFault.ENDLESS:
            self._note(len(verdict.taken), 500)
            self._run_on()
        elif fault is InjectedFault.ERROR:
            self._answer(500, {"message": "something went wrong"}, len(verdict.taken))
        elif fault is InjectedFault.BUSY:
            self._answer(429, {"message": "slow down"}, len(verdict.taken), **{"Retry-After": "1"})
        elif fault is InjectedFault.REDIRECT:
            self._answer(302, {}, len(verdict.taken), Location=TRACK)
        else:
            self._answer(verdict.status, verdict.answer, len(verdict.taken))

    def _decide(self, body: bytes, fault: InjectedFault | None) -> RequestVerdict:
        key = self.headers.get("X-API-KEY")
        if not key:
            return RequestVerdict(status=400, answer={"message": "No API key found in request"})
        if key != self.lotus.key or fault is InjectedFault.WRONG_KEY:
            return RequestVerdict(status=400, answer={"message": "Invalid API key"})
        if self.headers.get_content_type() != "application/json" or "Content-Encoding" in self.headers:
            return refuse_whole()
        broken = {InjectedFault.PARTIAL: _EVERY_OTHER, InjectedFault.BROKER_DOWN: _ALL}.get(
            fault or InjectedFault.SLOW, frozenset()
        )
        return decide(body, self.lotus.clock(), broken)

    def _verify(self, body: bytes) -> None:
        if self.headers.get("X-API-KEY") != self.lotus.key:
            self._answer(401, {"detail": "Invalid API key."})
            return
        try:
            document = msgspec.json.decode(body, type=dict[str, Any])
            ids = [str(id_) for id_ in document["idempotency_ids"]]
            since = self.lotus.clock() - int(document.get("number_days_lookback", 30)) * DAY
        except (msgspec.DecodeError, KeyError, TypeError, ValueError):
            self._answer(400, {"status": "error"})
            return
        with self.lotus.lock:
            missing = [id_ for id_ in ids if not is_since(self.lotus.events.get(id_), since)]
        self._answer(200, {"status": "success", "ids_not_found": missing})

    def _plan(self, body: bytes) -> None:
        try:
            planned = msgspec.json.decode(body, type=list[_PlannedDocument])
        except msgspec.DecodeError as error:
            self._answer(400, {"message": str(error)})
            return
        self.lotus.faults.plan(PlannedFault(document.fault, document.share, document.left) for document in planned)
        self._answer(200, {})

    def _note(self, events: int, status: int) -> None:
        with self.lotus.lock:
            self.lotus.requests.append((events, status))

    def _answer(self, status: int, document: object, events: int | None = None, **headers: str) -> None:
        if self.path == TRACK:
            self._note(events or 0, status)
        self._send(status, msgspec.json.encode(document), headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        lines = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        # In one write: a head and a body sent separately wait 40 ms for each other.
        self.wfile.write(f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{head}\r\n".encode() + body)

    def _run_on(self) -> None:
        self.wfile.write(b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n\r\n")
        for _ in range(_ENDLESS_STEPS):
            self.wfile.write(b"x" * 10_000)
            time.sleep(0.01)
        self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Reuse a port that was just closed: tests stop and start the server.
    allow_reuse_address = True

    def handle_error(self, _request: object, _address: object) -> None:
        """Log nothing: senders that are killed are part of the tests."""


def make_server(lotus: FakeLotus, host: str = "127.0.0.1", port: int = 0) -> ThreadingHTTPServer:
    """Return a listening server; `serve_forever` serves. Raises OSError if the port is taken."""
    handler = type("Handler", (_Handler,), {"lotus": lotus})
    return _Server((host, port), handler)


@contextlib.contextmanager
def running(lotus: FakeLotus, port: int = 0) -> Iterator[str]:
    """Serve on this machine until the end of the block; yields the address."""
    server = make_server(lotus, port=port)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="fake-lotus", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
