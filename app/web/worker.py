"""gunicorn's gevent worker, taught to stop well: finish what came, say 503 to what comes, hang up on the idle."""

from collections.abc import Iterable
from typing import Any

import gevent
import structlog
from gunicorn.workers.ggevent import GeventPyWSGIWorker, PyWSGIHandler, PyWSGIServer

from app.web.draining import EXTENSION
from app.web.head import Head, HeadInvalid

# A body that stops coming holds memory; a connection that stays silent holds a socket.
_SILENT_SECONDS = 60

_SHORT_ANSWER_BYTES = 64 * 1024

_LOG = structlog.get_logger("web")


class Handler(PyWSGIHandler):  # type: ignore[misc]
    """One connection."""

    def read_requestline(self) -> str:
        """Wait for the next request; while it waits, the connection may be hung up on."""
        waiting = gevent.getcurrent()
        self.server.idle.add(waiting)
        try:
            line: str = super().read_requestline()
        finally:
            self.server.idle.discard(waiting)
        return line

    def MessageClass(self, rfile: Any, _seekable: int) -> Head:  # noqa: N802  gevent's name
        """Read the header lines."""
        return Head(rfile)

    def _headers(self) -> Iterable[tuple[str, str]]:
        environ: Iterable[tuple[str, str]] = self.headers.environ()
        return environ

    def _write_with_headers(self, data: bytes) -> None:
        """Write the head and the first piece of the body: gevent sends them one by one, which costs 20 us a request."""
        self.headers_sent = True
        self.finalize_headers()
        lines = [b"HTTP/1.1 " + self.status, *(name + b": " + value for name, value in self.response_headers)]
        head = b"\r\n".join([*lines, b"", b""])
        if self.response_use_chunked or len(data) > _SHORT_ANSWER_BYTES:
            self._sendall(head)
            self._write(data)
        else:
            self._sendall(head + data)

    def log_request(self) -> None:
        """Log nothing: a call has its line in app.logs."""

    def log_error(self, msg: str, *args: Any) -> None:  # noqa: ARG002
        """Say that it was no request, and not what came instead: it may be a part of a body."""
        _LOG.info("what came is no HTTP request", client=str(self.client_address), why=args[1] if args[1:] else None)

    def _handle_client_error(self, ex: Exception) -> Any:
        # With another kind of exception it would print a traceback.
        return super()._handle_client_error(ValueError(str(ex) if isinstance(ex, HeadInvalid) else type(ex).__name__))


class Server(PyWSGIServer):  # type: ignore[misc]
    """The connections of one worker."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.idle: set[Any] = set()

    def handle(self, sock: Any, address: Any) -> None:
        """Serve one connection."""
        sock.settimeout(_SILENT_SECONDS)
        super().handle(sock, address)

    def close(self) -> None:
        """Accept no more, and hang up on connections that have no request under way."""
        super().close()
        for waiting in list(self.idle):
            waiting.kill(block=False)


class Worker(GeventPyWSGIWorker):  # type: ignore[misc]
    """The worker."""

    server_class = Server
    wsgi_handler = Handler

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin to stop: requests that still come are told to come back."""
        # It may come before the application is made; there is nothing to drain then.
        application = getattr(self, "wsgi", None)
        if application is not None:
            application.extensions[EXTENSION].start()
        super().handle_exit(sig, frame)
