"""Lotus's HTTP client: one persistent connection, no redirects, and a total deadline for each request."""

import contextlib
import http.client
import select
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

import msgspec

from app.core.times import format_time
from app.forward.sql_claims import DueDelivery
from app.forward.verdict import LotusAnswer

TRACK = "/api/track/"
PING = "/api/ping/"
VERIFY = "/api/verify_idems_received/"

MAX_EVENTS = 100
MAX_BYTES = 475_000
TIMEOUT_SECONDS = 15.0

# Without the event's size, so that all such errors form one group.
TOO_LARGE = f"it is larger than the {MAX_BYTES:,} bytes that Lotus takes in a request"

_MOST_ANSWER_BYTES = 1_000_000
_STARTS, _ENDS = b'{"batch":[', b"]}"

# A reused connection that the other side had closed.
_STALE = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


def encode_event(delivery: DueDelivery) -> bytes:
    """Return the JSON of an event as Lotus expects it."""
    document = {
        "event_name": delivery.event_name,
        "idempotency_id": delivery.idempotency_id,
        "customer_id": delivery.customer_id,
        "time_created": format_time(delivery.time_created),
        "properties": msgspec.Raw(delivery.properties.encode()),
    }
    return msgspec.json.encode(document)


def encode_batch(encoded: Sequence[bytes]) -> bytes:
    """Return the body of a request with these encoded events."""
    return _STARTS + b",".join(encoded) + _ENDS


def fits(events: int, size: int) -> bool:
    """Whether this many events, of this many bytes in all, fit into one request."""
    return events <= MAX_EVENTS and size + max(0, events - 1) + len(_STARTS) + len(_ENDS) <= MAX_BYTES


class _Response(http.client.HTTPResponse):
    """A response that refuses a negative chunk size; the standard library would read to the end of the connection."""

    def _read_next_chunk_size(self) -> int:
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]
        if size < 0:
            raise http.client.HTTPException("a chunk with a negative size")
        return size


class Lotus:
    """Sends requests, one at a time. Not thread-safe."""

    def __init__(self, host: str, key: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """`host` is an address such as https://lotus.example.com; nothing is opened yet."""
        parts = urlsplit(host)
        self._base = parts.path.rstrip("/")
        self._timeout = timeout_seconds
        self._headers = {"X-API-KEY": key, "Content-Type": "application/json", "User-Agent": "segment-lotus"}
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context()
            self._connection = http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=timeout_seconds, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_seconds)
        self._connection.response_class = _Response

    def track(self, body: bytes) -> LotusAnswer:
        """Send a batch. A failure is returned as an answer without a status."""
        return self._ask("POST", TRACK, body)

    def ping(self) -> LotusAnswer:
        """Ask whether Lotus accepts the key."""
        return self._ask("GET", PING, None)

    def find_missing(self, ids: Sequence[str], days: int) -> LotusAnswer:
        """Ask which of these idempotency ids Lotus does not have, looking back so many days."""
        document = {"idempotency_ids": list(ids), "number_days_lookback": days}
        return self._ask("POST", VERIFY, msgspec.json.encode(document))

    def close(self) -> None:
        """Close the connection; the next request opens one."""
        self._connection.close()

    def _ask(self, method: str, path: str, body: bytes | None) -> LotusAnswer:
        is_reused = self._connection.sock is not None
        try:
            return self._ask_once(method, path, body)
        except _STALE as error:
            self.close()
            if not is_reused:
                return _failure(error)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return _failure(error)
        try:
            return self._ask_once(method, path, body)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return _failure(error)

    def _ask_once(self, method: str, path: str, body: bytes | None) -> LotusAnswer:
        with self._ended_in_time():
            if self._has_more():
                # Bytes that no request asked for: they must not be read as the answer to this one.
                self.close()
            self._connection.request(method, self._base + path, body, self._headers)
            response = self._connection.getresponse()
            read = response.read(_MOST_ANSWER_BYTES + 1)
            headers = {name.lower(): value for name, value in response.getheaders()}
            if len(read) > _MOST_ANSWER_BYTES:
                raise http.client.HTTPException(f"an answer of more than {_MOST_ANSWER_BYTES:,} bytes")
            if response.length:
                raise http.client.IncompleteRead(read, response.length)
        if response.status < HTTPStatus.OK:
            # The answer itself is still to come.
            self.close()
        return LotusAnswer(response.status, read, headers)

    def _has_more(self) -> bool:
        """Whether a reused connection has unread bytes, or was closed by the other side."""
        sock = self._connection.sock
        if sock is None:
            return False
        if isinstance(sock, ssl.SSLSocket) and sock.pending():
            return True
        readable = select.poll()
        readable.register(sock, select.POLLIN)
        return bool(readable.poll(0))

    @contextlib.contextmanager
    def _ended_in_time(self) -> Iterator[None]:
        """Shut the socket down once a request exceeds its total time: a socket timeout starts again with every byte."""
        late = threading.Event()

        def end() -> None:
            late.set()
            sock = self._connection.sock
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self._timeout, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (OSError, http.client.HTTPException, ValueError) as error:
            if late.is_set():
                raise TimeoutError(f"no whole answer within {self._timeout:g} s") from error
            # ValueError: a header that is not valid text. An untrusted certificate is an OSError.
            if not isinstance(error, (OSError, http.client.HTTPException)):
                raise http.client.HTTPException(str(error)) from error
            raise
        finally:
            timer.cancel()
        if late.is_set():
            raise TimeoutError(f"no whole answer within {self._timeout:g} s")


def _failure(error: Exception) -> LotusAnswer:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return LotusAnswer(None, f"{type(error).__name__}: {reason}".encode(errors="replace"))
