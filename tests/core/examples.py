"""Inputs for the tests of this folder: captured requests, and JSON text of every kind that can be written."""

import gzip
import json
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st

from app.core.json_text import decode
from app.errors import UnparsableJson

SECRET = "s3cret-ünï"

often = settings(max_examples=max(100, settings.default.max_examples if settings.default else 0))
"""For tests of pure functions, which are quick enough for more examples than the run's profile has."""

_FOLDER = Path(__file__).parent.parent / "fixtures" / "requests"


class Request(NamedTuple):
    """A captured request."""

    headers: dict[str, str]
    body: bytes


def a_request(name: str) -> Request:
    """Read one of tests/fixtures/requests, its body inflated."""
    head, body = (_FOLDER / f"{name}.http").read_bytes().split(b"\r\n\r\n", 1)
    pairs = (line.split(": ", 1) for line in head.decode("ascii").split("\r\n")[1:])
    headers = {name.lower(): value for name, value in pairs}
    return Request(headers, gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body)


WRITTEN_OVER_BODY = ("single-track", "single-order", "single-identify", "numbers", "extensible-put-bearer")
WRITTEN_OVER_FIRST = ("array-batch", "extensible-array")
SDK_BATCHES = ("sdk-node-batch", "sdk-python-batch-gzip")

_SPACES = st.sampled_from(["", "", "", " ", "\n\t", "\r\n "])
# fmt: off
_STRING_PARTS = st.sampled_from([
    "a", "ü", "日", "🎉", "\\ud83d", "\\uD83D", "\\uDC00", "\\ud83d\\ude00", "\\u0000", "\\\\", '\\"', "\\/", "\\n",
    "\\\\u0000", "\\\\ud83d", "]", "}", ",", ":", "{", "[", "null", "\u2028", "json", "\\u006a",
])
# fmt: on
_STRINGS = st.lists(_STRING_PARTS, max_size=6).map(lambda parts: f'"{"".join(parts)}"')
_KEYS = st.one_of(
    st.sampled_from(["type", "event", "batch", "json", "properties", "messageId", "userId", "context"]).map(json.dumps),
    _STRINGS,
)
_NUMBERS = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["-0", "-0.0", "1e400", "-1e999", "9" * 400, "9" * 401, "1" * 5000, "1E+2", "0.1", "1e-7"]),
    st.sampled_from([str(2**64), str(-(2**63)), str(2**53 + 1), "1e21"]),
)
_SCALARS = st.one_of(_STRINGS, _NUMBERS, st.sampled_from(["null", "true", "false", '"track"']))


@st.composite
def _arrays(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    elements = draw(st.lists(inner, max_size=4))
    return "[" + ",".join(draw(_SPACES) + element + draw(_SPACES) for element in elements) + "]"


@st.composite
def _objects(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    members = draw(st.lists(st.tuples(_KEYS, inner), max_size=4))
    written = [f"{draw(_SPACES)}{key}{draw(_SPACES)}:{draw(_SPACES)}{value}{draw(_SPACES)}" for key, value in members]
    return "{" + ",".join(written) + "}"


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    deep = st.tuples(inner, st.sampled_from([150, 199, 200, 201, 300, 2000])).map(
        lambda pair: "[" * pair[1] + pair[0] + "]" * pair[1]
    )
    return st.one_of(_arrays(inner), _objects(inner), _arrays(inner), _objects(inner), deep)


JSON_VALUES = st.recursive(_SCALARS, _nested, max_leaves=12)
"""One JSON text without white space around it, as str."""

JSON_ARRAYS = _arrays(JSON_VALUES)
JSON_OBJECTS = _objects(JSON_VALUES)

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)
"""Decoded JSON; its text has NUL and lone surrogates too."""

LONE = '"\\ud83d"'


def deep(levels: int, core: str = "") -> bytes:
    return f"{'[' * levels}{core}{']' * levels}".encode()


def read_or_none(raw: bytes) -> Any:
    """What `decode` gives, as text so that NaN and 1.0 against 1 are told apart; None when it refuses."""
    try:
        return repr(decode(raw))
    except UnparsableJson:
        return None
