"""Makes whole requests with calls: a body in one of the senders' shapes, its compression, its credential."""

import base64
import gzip
import random
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from app.core.signature import sign
from app.core.tracking import TYPE_OF
from tests.builders import SECRET
from tools.fuzz.grammar import SPACES, Grammar
from tools.fuzz.mutation import mutate

FIXTURES = Path(__file__).parents[2] / "tests" / "fixtures" / "requests"
WEBHOOK = "/webhooks/segment"
NATIVE = "/api/track"
BEARER, BASIC, WRITE_KEY, INGEST_KEY = "a-bearer-token-of-fuzz", "user:a-password", "a-write-key", "an-ingest-key"

_TRACKING = sorted(TYPE_OF)
_MUTATED, _FROM_CAPTURES = 0.35, 0.25
_WHITE = (
    b"",
    b" ",
    b"\n\n",
    b"\xef\xbb\xbf",
    b"null",
    b"[]",
    b"{}",
    b"[[]]",
    b"[null]",
    b'""',
    b"0",
    b"true",
    b"[,]",
    b"[",
)


class Request(NamedTuple):
    """One request."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    """As it is sent: compressed where a header says so."""


class _Body(NamedTuple):
    text: bytes
    first: bytes
    """What Segment signs of it."""


def read_captures() -> list[bytes]:
    """Return the bodies of the captured requests, inflated."""
    bodies = []
    for file in sorted(FIXTURES.glob("*.http")):
        head, _, body = file.read_bytes().partition(b"\r\n\r\n")
        bodies.append(gzip.decompress(body) if b"content-encoding: gzip" in head.lower() else body)
    return bodies


def make_request(seed: int, number: int, captures: Sequence[bytes]) -> Request:
    """Return request `number` of a run: the same for the same seed, whatever was made before."""
    rng = random.Random(f"{seed}:{number}")
    door = rng.randrange(10)
    if door < 6:
        return _webhook(rng, captures)
    return _tracking(rng, captures) if door < 8 else _native(rng, captures)


def _webhook(rng: random.Random, captures: Sequence[bytes]) -> Request:
    grammar = Grammar(rng)
    body = _spoiled(rng, _shape(rng, grammar, grammar.call), captures)
    kind = rng.randrange(20)
    headers = [("Content-Type", rng.choice(("application/json", "text/plain", "application/json; charset=utf-8")))]
    if kind < 15:
        headers.append(("X-Signature", sign(body.first if rng.random() < 0.5 else body.text, SECRET)))
    elif kind == 15:
        headers.append(("Authorization", f"Bearer {BEARER}"))
    elif kind == 16:
        headers.append(("Authorization", "Basic " + base64.b64encode(BASIC.encode()).decode()))
    elif kind == 17:
        odd = ("0" * 40, "", "sha1=00", "\xff\xfe", "g" * 40, "0" * 10_000)
        headers.append(("X-Signature", rng.choice(odd)))
    elif kind == 18:
        unknown = ("Bearer ", "Basic ====", "Basic \xff", f"bearer {BEARER[:-1]}", "Negotiate x", ":", "Basic OjpAOg==")
        headers.append(("Authorization", rng.choice(unknown)))
    method = rng.choice(("POST", "POST", "PUT", "PATCH"))
    return _finish(rng, Request(method, WEBHOOK + rng.choice(("", "/")), tuple(headers), body.text))


def _tracking(rng: random.Random, captures: Sequence[bytes]) -> Request:
    grammar = Grammar(rng)
    path = rng.choice(_TRACKING)
    if TYPE_OF[path] is None or rng.random() < 0.1:
        body = _spoiled(rng, _batch(rng, grammar, grammar.call), captures)
    else:
        call = grammar.call()
        body = _spoiled(rng, _Body(call, call), captures)
    key = "Basic " + base64.b64encode(f"{WRITE_KEY}:".encode()).decode()
    headers = [("Content-Type", "text/plain")]
    if rng.random() < 0.9:
        headers.append(("Authorization", key if rng.random() < 0.9 else key[:-6]))
    return _finish(rng, Request("POST", path + rng.choice(("", "/")), tuple(headers), body.text))


def _native(rng: random.Random, captures: Sequence[bytes]) -> Request:
    grammar = Grammar(rng)
    body = _spoiled(rng, _shape(rng, grammar, grammar.lotus_event), captures)
    headers = (("Content-Type", "application/json"), ("X-API-KEY", INGEST_KEY if rng.random() < 0.95 else "another"))
    return _finish(rng, Request("POST", NATIVE + rng.choice(("", "/")), headers, body.text))


def _shape(rng: random.Random, grammar: Grammar, call: Callable[[], bytes]) -> _Body:
    kind = rng.randrange(20)
    if kind < 7:
        text = call()
        return _Body(text, text)
    if kind < 12:
        items = [call() for _ in range(rng.choice((0, 1, 2, 3, 5, 40)))]
        if rng.random() < 0.2:
            items.append(grammar.value())
        return _array(rng, items, items)
    if kind < 16:
        calls = [call() for _ in range(rng.choice((1, 2, 4)))]
        items = [grammar.join([(b'"json"', one), *_more(rng, grammar)]) for one in calls]
        return _array(rng, items, calls) if rng.random() < 0.7 else _Body(items[0], calls[0])
    if kind < 19:
        return _batch(rng, grammar, call)
    text = rng.choice(_WHITE) if rng.random() < 0.5 else grammar.value()
    return _Body(text, text)


def _more(rng: random.Random, grammar: Grammar) -> list[tuple[bytes, bytes]]:
    return [(grammar.key(), grammar.value())] if rng.random() < 0.1 else []


def _array(rng: random.Random, items: Sequence[bytes], calls: Sequence[bytes]) -> _Body:
    comma = rng.choice(SPACES) + b"," + rng.choice(SPACES)
    text = rng.choice(SPACES) + b"[" + rng.choice(SPACES) + comma.join(items) + rng.choice(SPACES) + b"]"
    return _Body(text, calls[0] if calls else text)


def _batch(rng: random.Random, grammar: Grammar, call: Callable[[], bytes]) -> _Body:
    items = [call() for _ in range(rng.choice((0, 1, 2, 5, 20)))]
    members = [(b'"batch"', b"[" + b",".join(items) + b"]")]
    if rng.random() < 0.5:
        members.append((b'"sentAt"', grammar.time()))
    if rng.random() < 0.5:
        members.append((b'"context"', grammar.object()))
    if rng.random() < 0.3:
        members.append((b'"writeKey"', b'"%s"' % WRITE_KEY.encode()))
    members += _more(rng, grammar)
    rng.shuffle(members)
    text = grammar.join(members)
    return _Body(text, text)


def _spoiled(rng: random.Random, body: _Body, captures: Sequence[bytes]) -> _Body:
    """Return a body, or in its place a captured one, mutated or not. What is signed is mostly what is sent."""
    if rng.random() >= _MUTATED:
        return body
    text = rng.choice(captures) if rng.random() < _FROM_CAPTURES else body.text
    text = mutate(rng, text, [*captures, body.text])
    return _Body(text, text if rng.random() < 0.9 else body.first)


def _finish(rng: random.Random, request: Request) -> Request:
    """Compress it, now and then; break the compression, now and then."""
    kind = rng.randrange(40)
    if kind > 5:
        return request
    body, encoding = request.body, "gzip"
    if kind < 3:
        body = gzip.compress(body, 1, mtime=0)
    elif kind == 3:
        body, encoding = zlib.compress(body, 1), "deflate"
    elif kind == 4:
        body = mutate(rng, gzip.compress(body, 1, mtime=0), [body])
    else:
        encoding = rng.choice(("gzip", "br", "identity", "GZIP ", "gzip, gzip", "\xff"))
    return request._replace(body=body, headers=(*request.headers, ("Content-Encoding", encoding)))


def to_plain(request: Request) -> Request:
    """Return a request without its compression, where that is whole."""
    if ("Content-Encoding", "gzip") not in request.headers:
        return request
    try:
        body = gzip.decompress(request.body)
    except (OSError, EOFError, zlib.error):
        return request
    return request._replace(body=body, headers=tuple(pair for pair in request.headers if pair[0] != "Content-Encoding"))


def with_body(request: Request, body: bytes) -> Request:
    """Return a request with another body, signed anew where the first was signed."""
    headers = tuple((name, sign(body, SECRET) if name == "X-Signature" else value) for name, value in request.headers)
    return request._replace(body=body, headers=headers)


def to_text(request: Request) -> bytes:
    """Return a request as it goes over a connection."""
    headers = [*request.headers, ("Host", "127.0.0.1"), ("Content-Length", str(len(request.body)))]
    lines = [f"{request.method} {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1") + request.body
