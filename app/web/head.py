"""The head of an HTTP request: a strict and fast parser of the request line and the headers.

gevent splits the request line at any white space, and parses headers with Python's parser for e-mail. That takes a
fifth of the time of a whole webhook request, and accepts what two servers in a row may interpret differently. Here
whatever is not clearly valid is refused: the target and the end of the body are never guessed (RFC 9112, sections 3, 5
and 6).
"""

import re
from functools import lru_cache

from app.web.connection import ClientConnection, DeadlineMissed, Phase

MAX_HEADERS = 100
MAX_HEAD_BYTES = 64 * 1024
MAX_REQUEST_LINE_BYTES = 8 * 1024

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_REQUEST_LINE = re.compile(rb"([A-Za-z]" + _TOKEN + rb'*) ([!"$-~]+) HTTP/1\.([01])').fullmatch
FIELD_LINE = re.compile(rb"(" + _TOKEN + rb"+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)").fullmatch
"""The name is a token at the very beginning; the value has no control characters except tabs."""
_LENGTH = re.compile(r"[0-9]{1,18}").fullmatch
_HOST = re.compile(r"[0-9A-Za-z._~!$&'()*+,;=%:\[\]-]*").fullmatch
_LONE_LF = re.compile(rb"(?<!\r)\n").search

_ONLY_ONCE = ("content-length", "transfer-encoding", "host")


class HeadInvalid(ValueError):
    """The client sent no valid request. The message says what is wrong, and quotes no values."""

    def __init__(self, message: str, status: str = "400 Bad Request") -> None:
        super().__init__(message)
        self.status = status


class Head:
    """The request line, and the headers by their WSGI names."""

    __slots__ = ("_values", "environ", "length", "method", "target", "version")

    def __init__(self, block: bytes) -> None:
        """Parse all lines up to the empty one. Raises HeadInvalid."""
        lines = block.split(b"\r\n")
        first = _REQUEST_LINE(lines[0])
        if first is None or len(lines[0]) > MAX_REQUEST_LINE_BYTES:
            raise _no_request_line(lines[0])
        self.method, self.target = first[1].decode(), first[2].decode()
        self.version = "HTTP/1.1" if first[3] == b"1" else "HTTP/1.0"
        if len(lines) - 1 > MAX_HEADERS:
            raise _too_large(f"it has more than {MAX_HEADERS} headers")
        if len(block) - len(lines[0]) > MAX_HEAD_BYTES:
            raise _too_large(f"it has more than {MAX_HEAD_BYTES} bytes of headers")
        self._values = values = dict[str, str]()
        self.environ = environ = dict[str, str]()
        """The headers as entries of the WSGI environment."""
        for line in lines[1:]:
            field = FIELD_LINE(line)
            if field is None:
                raise HeadInvalid("a line is no header")
            name, key = _names(field[1])
            value = field[2].rstrip(b" \t").decode("latin-1")
            if name not in values:
                values[name] = value
            elif name in _ONLY_ONCE:
                raise HeadInvalid(f"{name} is there twice")
            else:
                values[name] += ("; " if name == "cookie" else ",") + value
            if key:
                environ[key] = values[name]
        self._check_framing()

    @property
    def chunked(self) -> bool:
        """Whether the body is chunked."""
        return "transfer-encoding" in self._values

    @property
    def closes(self) -> bool:
        """Whether the connection is to be closed after the answer."""
        connection = self._values.get("connection")
        if connection is None:
            return self.version == "HTTP/1.0"
        options = [option.strip() for option in connection.lower().split(",")]
        return "close" in options or (self.version == "HTTP/1.0" and "keep-alive" not in options)

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for 100 Continue before it sends the body."""
        return self._values.get("expect", "").lower() == "100-continue" and self.version == "HTTP/1.1"

    def _check_framing(self) -> None:
        """Refuse a request whose host or end two servers could interpret differently."""
        values = self._values
        host, length, coding = values.get("host"), values.get("content-length"), values.get("transfer-encoding")
        if host is None:
            if self.version == "HTTP/1.1":
                raise HeadInvalid("host is missing")
        elif not _HOST(host):
            raise HeadInvalid("host is none")
        if coding is not None:
            if length is not None:
                raise HeadInvalid("content-length and transfer-encoding exclude each other")
            if self.version == "HTTP/1.0":
                raise HeadInvalid("HTTP/1.0 has no transfer-encoding")
            if coding.lower() != "chunked":
                raise HeadInvalid("transfer-encoding must be chunked")
        if length is not None and not _LENGTH(length):
            raise HeadInvalid("content-length is no number")
        self.length = None if length is None else int(length)


def read_head(connection: ClientConnection) -> Head | None:
    """Read the head of the next request; None at the end of the stream.

    Raises:
        HeadInvalid: it is invalid, larger than the limits, ends too early or did not arrive in time.
        ConnectionLost: the client is gone, or was disconnected between two requests.

    """
    first = connection.phase is Phase.NEW
    if connection.position < len(connection.buffer):
        # The client sends requests without waiting: let others run in between.
        connection.yield_now()
    elif not connection.fill(Phase.NEW if first else Phase.KEPT):
        return None
    elif not (first or connection.had_to_wait):
        connection.yield_now()
    scanned = 0
    while (end := connection.buffer.find(b"\r\n\r\n", connection.position + max(scanned - 3, 0))) < 0:
        beginning = connection.buffer[connection.position :]
        _check_beginning(beginning, scanned)
        scanned = len(beginning)
        try:
            more = connection.fill(Phase.HEAD)
        except DeadlineMissed as error:
            raise HeadInvalid("its head did not come in time", "408 Request Timeout") from error
        if not more:
            raise HeadInvalid("it ends within the head")
    return Head(connection.take(end + 4 - connection.position)[:-4])


def _check_beginning(text: bytes, scanned: int) -> None:
    """Raise HeadInvalid if no continuation can make this a valid head. `scanned` bytes were checked before."""
    lf = text.find(b"\n")
    if lf < 0:
        if len(text) > MAX_REQUEST_LINE_BYTES or not text[:1].isalpha():
            raise _no_request_line(text)
    elif lf >= scanned and not (text[lf - 1 : lf] == b"\r" and _REQUEST_LINE(text, 0, lf - 1)):
        raise _no_request_line(text[:lf])
    elif len(text) - lf > MAX_HEAD_BYTES:
        raise _too_large(f"it has more than {MAX_HEAD_BYTES} bytes of headers")
    elif _LONE_LF(text, max(scanned - 1, 0)):
        raise HeadInvalid("a line is no header")


def _no_request_line(line: bytes) -> HeadInvalid:
    if len(line) > MAX_REQUEST_LINE_BYTES:
        return HeadInvalid(f"its first line has more than {MAX_REQUEST_LINE_BYTES} bytes", "414 URI Too Long")
    return HeadInvalid("its first line is none of HTTP/1.1 or HTTP/1.0")


def _too_large(message: str) -> HeadInvalid:
    return HeadInvalid(message, "431 Request Header Fields Too Large")


@lru_cache(256)
def _names(name: bytes) -> tuple[str, str]:
    """Return a header's name in lower case, and its WSGI name.

    The latter is empty for a name with `_`: WSGI does not distinguish `X_Signature` from `X-Signature`.
    """
    lower = name.decode().lower()
    if "_" in lower:
        return lower, ""
    key = lower.upper().replace("-", "_")
    return lower, key if lower in {"content-length", "content-type"} else f"HTTP_{key}"
