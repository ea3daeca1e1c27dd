"""The head of an HTTP request: its header lines, read strictly and quickly.

gevent reads them through Python's parser for e-mail, which takes a fifth of the time of a whole webhook request and
lets pass what two servers in a row may understand differently. Here whatever is not plainly right is refused: where a
body ends is never a guess (RFC 9112, sections 5 and 6).
"""

import re
from collections.abc import ItemsView
from functools import lru_cache
from typing import BinaryIO

MAX_HEADERS = 100
MAX_HEAD_BYTES = 64 * 1024

# A name is a token and stands at the very beginning; a value holds no control character but the tab.
_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)\r\n").fullmatch
_LENGTH = re.compile(r"[0-9]{1,18}").fullmatch

_FRAMING = ("content-length", "transfer-encoding")


class HeadInvalid(ValueError):
    """The header lines are not right. Says what is wrong, and none of the values."""


class Head:
    """Header lines as gevent asks for them, and as WSGI names them."""

    __slots__ = ("_environ", "_values", "status", "typeheader")

    def __init__(self, lines: BinaryIO) -> None:
        """Read the lines up to the empty one. Raises HeadInvalid."""
        self._values = values = dict[str, str]()
        self._environ = environ = dict[str, str]()
        left = MAX_HEAD_BYTES
        for _ in range(MAX_HEADERS + 1):
            line = lines.readline(left + 2)
            if line == b"\r\n":
                break
            left -= len(line)
            if left < 0:
                raise HeadInvalid(f"it has more than {MAX_HEAD_BYTES} bytes of headers")
            found = _LINE(line)
            if found is None:
                raise HeadInvalid("a line is no header")
            name, key = _names(found[1])
            value = found[2].rstrip(b" \t").decode("latin-1")
            if name not in values:
                values[name] = value
            elif name in _FRAMING:
                raise HeadInvalid(f"{name} is there twice")
            else:
                values[name] += ("; " if name == "cookie" else ",") + value
            if key:
                environ[key] = values[name]
        else:
            raise HeadInvalid(f"it has more than {MAX_HEADERS} headers")
        _check_framing(values)
        self.status = ""
        """gevent looks here for what is wrong."""
        self.typeheader = values.get("content-type")

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the value of a header, whatever the case of its name."""
        return self._values.get(name.lower(), default)

    getheader = get

    def __delitem__(self, name: str) -> None:
        del self._values[name.lower()]

    def environ(self) -> ItemsView[str, str]:
        """Return what goes into the WSGI environment as `HTTP_...`."""
        return self._environ.items()


@lru_cache(256)
def _names(name: bytes) -> tuple[str, str]:
    """Return a header's name in lower case, and as WSGI names it.

    The latter is empty for what WSGI passes on in another way, and for a name with `_`: in WSGI nobody could tell
    `X_Signature` from `X-Signature`.
    """
    lower = name.decode().lower()
    hidden = lower in {"content-length", "content-type"} or "_" in lower
    return lower, "" if hidden else "HTTP_" + lower.upper().replace("-", "_")


def _check_framing(values: dict[str, str]) -> None:
    """Refuse a request of which two servers could see the end in two places."""
    length, coding = values.get("content-length"), values.get("transfer-encoding")
    if coding is not None:
        if length is not None:
            raise HeadInvalid("content-length and transfer-encoding exclude each other")
        if coding.lower() != "chunked":
            raise HeadInvalid("transfer-encoding must be chunked")
    if length is not None and not _LENGTH(length):
        raise HeadInvalid("content-length is no number")
