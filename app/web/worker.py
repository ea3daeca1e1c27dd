"""gunicorn's gevent worker with strict parsing, deadlines for clients, and a graceful end."""

import json
import time
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_to_bytes

import structlog
from gevent.pywsgi import WSGIHandler, format_date_time
from gunicorn.workers.ggevent import GeventPyWSGIWorker, PyWSGIServer

from app.web.body_stream import BodyStream
from app.web.connection import ClientConnection, ConnectionLost, Phase
from app.web.deadlines import CHECK_SECONDS, GAUGE, Connections
from app.web.drain import EXTENSION
from app.web.head import Head, HeadInvalid, read_head

_SHORT_ANSWER_BYTES = 64 * 1024
_INVALID_LOGGED_PER_SECOND = 10
_UNEXPECTED = "something went wrong here; it is in the log of the service"

_LOG = structlog.get_logger("web")


class Handler(WSGIHandler):  # type: ignore[misc]
    """Serves the requests of a connection, one after another. Running the application is left to gevent."""

    # Attributes of gevent's, which has no types.
    close_connection: bool
    provided_date: bytes | None
    response_headers: list[tuple[bytes, bytes]]
    status: Any

    def __init__(self, connection: ClientConnection, server: "Server") -> None:
        # Without gevent's __init__, which reads the socket as a file.
        self.connection = connection
        self.server = server
        self.application = server.application
        self._body = BodyStream(connection, None, chunked=False, owes_continue=False)
        self._refused = False

    def handle(self) -> None:
        """Serve the connection until either side ends it."""
        connection = self.connection
        try:
            while self._serve_next():
                pass
            connection.end(used_up=self._body.ended and not self._refused and not connection.has_bytes())
        except ConnectionLost:
            pass
        finally:
            connection.close()

    def _serve_next(self) -> bool:
        """Answer one request; return whether another may follow on the connection."""
        connection = self.connection
        try:
            head = read_head(connection)
        except HeadInvalid as error:
            self.server.invalid_requests.note(str(connection.address), str(error))
            self._refuse(error.status, f"this is no HTTP request that can be answered: {error}")
            return False
        if head is None:
            return False
        connection.phase = Phase.SERVING
        self.request_version = head.version
        self.close_connection = head.closes
        # The header `Upgrade` is ignored: there is no other protocol.
        self._body = BodyStream(connection, head.length, chunked=head.chunked, owes_continue=head.expects_continue)
        self.environ = self._to_environ(head)
        self._answer()
        return not self.close_connection

    def _to_environ(self, head: Head) -> dict[str, Any]:
        environ: dict[str, Any] = self.server.get_environ()
        path, _, query = head.target.partition("?")
        host, port = self.connection.address[:2] or ("", "")
        environ |= {
            "REQUEST_METHOD": head.method,
            "SCRIPT_NAME": "",
            "RAW_URI": head.target,
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1") if "%" in path else path,
            "QUERY_STRING": query,
            "SERVER_PROTOCOL": head.version,
            "REMOTE_ADDR": host,
            "REMOTE_PORT": str(port),
            "wsgi.input": self._body,
            # The stream ends with the body, whether that has a length or comes in chunks.
            "wsgi.input_terminated": True,
            **head.environ,
        }
        return environ

    def _answer(self) -> None:
        self.status = None
        self.headers_sent = False
        self.response_use_chunked = False
        self.response_length = 0
        try:
            self.run_application()
        except ConnectionLost:
            raise
        except Exception as error:  # noqa: BLE001  no error of the application may end the worker
            _LOG.error("unexpected error", exc_info=error)
            self.close_connection = True
            if not self.headers_sent:
                # 503, since the fault is ours: Segment retries after a 503, and drops calls after many others.
                self._refuse("503 Service Unavailable", _UNEXPECTED, "unavailable", "Retry-After: 2")

    def _refuse(self, status: str, message: str, code: str = "", *lines: str) -> None:
        """Answer without the application, in the format of its errors, and end the connection."""
        self._refused = True
        code = code or status[4:].lower().replace(" ", "_")
        body = json.dumps({"code": code, "message": message})
        head = [
            f"HTTP/1.1 {status}",
            f"Date: {_date(int(time.time())).decode()}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *lines,
        ]
        self.connection.send("\r\n".join([*head, "", body]).encode())

    def _write_with_headers(self, data: bytes) -> None:
        """Write the head and the first piece of the body together: gevent sends them separately, 20 us a request."""
        self.headers_sent = True
        if self.provided_date is None:
            date = _date(int(time.time()))
            self.response_headers.append((b"Date", date))
            # Otherwise gevent adds another.
            self.provided_date = date
        self.finalize_headers()
        self._decide_end()
        lines = [b"HTTP/1.1 " + self.status, *(name + b": " + value for name, value in self.response_headers)]
        head = b"\r\n".join([*lines, b"", b""])
        if self.response_use_chunked or len(data) > _SHORT_ANSWER_BYTES:
            self._sendall(head)
            self._write(data)
        else:
            self._sendall(head + data)

    def _decide_end(self) -> None:
        """End the connection with this answer if the next request cannot be read, or others need its place."""
        if not self.close_connection:
            # To an HTTP/1.0 client, an answer without a length is complete when the connection ends.
            endless = self.request_version == "HTTP/1.0" and not self._has_length()
            self.close_connection = endless or self.server.connections.full or not self._body.discard()
        if self.close_connection:
            headers = [(name, value) for name, value in self.response_headers if name.lower() != b"connection"]
            self.response_headers = [*headers, (b"Connection", b"close")]

    def _has_length(self) -> bool:
        return any(name.lower() == b"content-length" for name, _ in self.response_headers)

    def _sendall(self, data: bytes) -> None:
        self.connection.send(data)
        self.response_length += len(data)


class InvalidRequestLog:
    """Logs invalid requests, at a limited rate: strangers must not fill the disk."""

    def __init__(self) -> None:
        self._second = 0
        self._count = 0

    def note(self, client: str, why: str) -> None:
        """Log one, or only count it if there were many in this second. `why` quotes nothing that the client sent."""
        second = int(time.monotonic())
        if second != self._second:
            if self._count > _INVALID_LOGGED_PER_SECOND:
                _LOG.info("what came is no HTTP request", more=self._count - _INVALID_LOGGED_PER_SECOND)
            self._second, self._count = second, 0
        self._count += 1
        if self._count <= _INVALID_LOGGED_PER_SECOND:
            _LOG.info("what came is no HTTP request", client=client, why=why)


class Server(PyWSGIServer):  # type: ignore[misc]
    """The connections of one worker."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        extensions = getattr(self.application, "extensions", {})
        self.connections = Connections(self.pool.size, extensions.get(GAUGE, lambda _count: None))
        self.invalid_requests = InvalidRequestLog()
        self._deadlines = self.loop.timer(CHECK_SECONDS, CHECK_SECONDS, ref=False)

    def start(self) -> None:
        """Begin to accept connections and to check their deadlines."""
        super().start()
        self._deadlines.start(self.connections.check)

    def handle(self, client: Any, address: Any) -> None:
        """Serve one connection."""
        connection = ClientConnection(client, address)
        self.connections.add(connection)
        try:
            self.handler_class(connection, self).handle()
        finally:
            self.connections.remove(connection)

    def close(self) -> None:
        """Stop accepting connections, and close those without a request in progress."""
        super().close()
        self.loop.run_callback(self.connections.end_idle)


class Worker(GeventPyWSGIWorker):  # type: ignore[misc]
    """A gunicorn worker."""

    server_class = Server
    wsgi_handler = Handler

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin to drain: new requests get 503."""
        # The signal may come before the application exists; there is nothing to drain then.
        application = getattr(self, "wsgi", None)
        if application is not None:
            application.extensions[EXTENSION].start()
        super().handle_exit(sig, frame)


@lru_cache(1)
def _date(second: int) -> bytes:
    date: bytes = format_date_time(second)
    return date
