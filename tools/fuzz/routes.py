"""Asks every route of the application for what nobody should ask: queries, paths, headers, forms, JSON, tokens."""

import json
import random
from collections import Counter
from collections.abc import Callable
from urllib.parse import urlencode

from app.metrics.parameters import USAGE_PARAMETERS
from app.store.query import CALL_PARAMETERS, EVENT_PARAMETERS
from tests.served import ADMIN_TOKEN
from tools.fuzz.grammar import Grammar
from tools.fuzz.mutation import mutate
from tools.fuzz.requests import Request
from tools.fuzz.target import FORM, Answer, Fault, Target

# What answers without the admin token.
_OPEN = ("/webhooks/", "/v1/", "/api/track", "/healthz", "/readyz", "/sign-in", "/static/")

# They start processes, or run for up to 20 s what they are given: a few of them are enough.
_DEAR = ("/replays", "/preview", "/impact", "/publish", "/rollback", "/resolve", "/setup/test")
_DEAR_SHARE = 0.02

_PARAMETERS = (
    *CALL_PARAMETERS,
    *EVENT_PARAMETERS,
    *USAGE_PARAMETERS,
    *(
        "before",
        "after",
        "limit",
        "q",
        "newest",
        "range",
        "group",
        "metric",
        "call",
        "example",
        "next",
        "state",
        "kind",
    ),
    *(
        "problem",
        "by",
        "correct",
        "v",
        "csrf",
        "token",
        "revision",
        "text",
        "last",
        "name",
        "digest",
        "choice",
        "__proto__",
    ),
)
_WORDS = (
    *("", " ", "0", "-1", "1", "9223372036854775807", "9223372036854775808", "1" * 30, "1" * 5000, "1e400", "NaN"),
    *("stored", "rejected", "conflict", "ignored", "event_invalid", "true", "false", "yes", "1h", "7d", "999999999w"),
    *(
        "2026-11-01",
        "2026-11-01T10:00:00Z",
        "0001-01-01",
        "9999-12-31T23:59:59Z",
        "-0001-01-01",
        "now",
        "day",
        "minute",
    ),
    *("UTC", "Europe/Berlin", "GMT+03:00", "../../etc/passwd", "..", ".", "%", "%00", "\0", "a\0b", "\ud83d", "\x85"),
    *(
        "'",
        '"',
        "';--",
        "' OR 1=1 --",
        "<script>alert(1)</script>",
        "{{7*7}}",
        "${7*7}",
        "\\",
        "*",
        "_default",
        "calls",
    ),
    *(
        "[" * 1000,
        "{" * 500,
        '{"a":' * 300 + "1" + "}" * 300,
        '{"model": null}',
        "[]",
        "{}",
        "null",
        "x" * 300,
        "x" * 9000,
    ),
    *("\u202e", "\uffff", "\U0001f600", "a,b", ",", "a,a,a", "1.1", "-5.7", "99999999999999999999.1", "_default.yaml"),
    *(
        "//evil.example",
        "/\\evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        "\r\nX: y",
        "API Call",
        "sold",
    ),
)
_HEADERS = (
    *(("Accept", "text/html"), ("Accept", "*/*;q=x"), ("Accept", "\xff"), ("Accept-Language", "x" * 3000)),
    *(("X-Forwarded-For", "1.2.3.4, x"), ("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Proto", "javascript")),
    *(("Cookie", "segment_lotus=x.y.z"), ("Cookie", "\xff=;;==,"), ("Range", "bytes=5-1,-0"), ("If-None-Match", "*")),
    *(
        ("If-Modified-Since", "yesterday"),
        ("Origin", "null"),
        ("Referer", "http://[::1"),
        ("Host", "[::"),
        ("Host", ""),
    ),
    *(
        ("Content-Encoding", "gzip"),
        ("Transfer-Encoding", "chunked"),
        ("X-CSRF-Token", "\xff"),
        ("X-HTTP-Method-Override", "PUT"),
    ),
)
_CONTENT_TYPES = (
    *("application/json", FORM, "text/plain", "", "multipart/form-data", "multipart/form-data; boundary=b"),
    *("application/json; charset=utf-16", "multipart/form-data; boundary=" + "b" * 300, f"{FORM}; charset=\xff"),
)
_LOG_EVERY = 50
_METHODS = ("GET", "GET", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW")
_MULTIPART = (
    b'--b\r\nContent-Disposition: form-data; name="token"; filename="x"\r\n\r\n' + b"x" * 2000 + b"\r\n--b--\r\n"
)


class RouteFuzzer:
    """One run over one target, which should hold some calls."""

    def __init__(self, target: Target, *, seed: int, tell: Callable[[str], None]) -> None:
        self._target = target
        self._seed = seed
        self._tell = tell
        rules = target.app.url_map.iter_rules()
        # The parts of a rule, and which of them are variables, werkzeug keeps to itself.
        self._rules = sorted((rule.rule, tuple(rule._trace), tuple(sorted(rule.methods or ()))) for rule in rules)  # noqa: SLF001
        self._ids = [str(row[0]) for row in target.execute("SELECT id FROM calls ORDER BY id DESC LIMIT 50")]
        self._ids += [str(row[0]) for row in target.execute("SELECT id FROM events ORDER BY id DESC LIMIT 50")]
        self.statuses: Counter[int] = Counter()
        self.faults: dict[str, Fault] = {}
        """By kind, the first of each."""

    def run(self, first: int, count: int) -> None:
        """Send `count` requests from number `first` on. Faults are told and kept; it goes on after them."""
        for number in range(first, first + count):
            rng = random.Random(f"route {self._seed}:{number}")
            try:
                self._ask(rng)
            except Fault as fault:
                self._note(fault, number)
            if number % _LOG_EVERY == 0 or number == first + count - 1:
                for alarm in self._target.read_log():
                    self._note(alarm, None)

    def _note(self, fault: Fault, number: int | None) -> None:
        if self.faults.setdefault(fault.kind, fault) is fault:
            where = "in the log" if number is None else f"--seed {self._seed} --bodies 0 --first {number} --routes 1"
            self._tell(f"FAULT ({where}) {fault}")

    def _ask(self, rng: random.Random) -> None:
        rule, trace, methods = rng.choice(self._rules)
        if any(word in rule for word in _DEAR) and rng.random() > _DEAR_SHARE:
            return
        path = "".join(self._value(rng) if variable else part for variable, part in trace if part != "|") or "/"
        method = rng.choice(methods) if methods and rng.random() < 0.8 else rng.choice(_METHODS)
        headers = [rng.choice(_HEADERS) for _ in range(rng.choice((0, 0, 1, 3)))]
        kind = rng.randrange(10)
        if kind < 6:
            headers.append(("Authorization", f"Bearer {ADMIN_TOKEN}"))
        if kind < 4:
            headers.append(("Cookie", self._target.cookie))
        elif kind == 6:
            headers.append(
                ("Authorization", rng.choice(("Bearer", "Bearer \xff", "Basic x", f"Bearer {ADMIN_TOKEN}x")))
            )
        body, content_type = self._body(rng) if method not in {"GET", "HEAD"} or rng.random() < 0.1 else (b"", "")
        if content_type:
            headers.append(("Content-Type", content_type))
        environ = self._target.environ(Request(method, path, tuple(headers), body))
        environ["QUERY_STRING"] = self._query(rng)
        answer = self._target.ask(environ)
        self.statuses[answer.status] += 1
        self._check(path, method, answer, knows_token=kind < 6)

    def _check(self, path: str, method: str, answer: Answer, *, knows_token: bool) -> None:
        if not knows_token and answer.status < 400 and method != "OPTIONS" and not path.startswith(_OPEN):
            raise Fault(f"open: {method} {path!a} answers {answer.status} without the token")
        if answer.headers.get("location", "/").startswith(("//", "/\\", "http", "javascript")):
            raise Fault(f"leads away: {method} {path!a} to {answer.headers['location']!a}")
        if any("\n" in value or "\r" in value for value in answer.headers.values()):
            raise Fault(f"header split: {method} {path!a} {answer.headers!a}")
        kind = answer.headers.get("content-type", "")
        if kind.startswith("text/html") and b"<script>alert" in answer.body:
            raise Fault(f"script: {method} {path!a}")
        if kind == "application/json" and answer.body:
            try:
                json.loads(answer.body)
            except ValueError as error:
                raise Fault(f"no JSON: {method} {path!a} {answer.text[:300]!a}") from error

    def _value(self, rng: random.Random) -> str:
        """Return a value of a path, as a server hands it on: its bytes as Latin-1."""
        word = (
            rng.choice((*self._ids, "_default", "orders", "sold", "new")) if rng.random() < 0.6 else rng.choice(_WORDS)
        )
        return word.encode("utf-8", "surrogatepass").decode("latin-1")[:2000]

    def _word(self, rng: random.Random) -> str:
        return rng.choice(self._ids) if rng.random() < 0.2 else rng.choice(_WORDS)

    def _query(self, rng: random.Random) -> str:
        """Return a query in ASCII: other bytes in a request line are the wire's matter."""
        if rng.random() < 0.3:
            return ""
        pairs = [(rng.choice(_PARAMETERS), self._word(rng)) for _ in range(rng.choice((1, 1, 2, 4)))]
        text = urlencode(pairs, errors="surrogatepass")
        if rng.random() < 0.1:
            text = mutate(rng, text.encode(), [b"%ff%00&&=;%ed%a0%bd"]).decode("ascii", "ignore")
        return text

    def _body(self, rng: random.Random) -> tuple[bytes, str]:
        kind, grammar = rng.randrange(10), Grammar(rng)
        if kind < 4:
            return urlencode(
                [(rng.choice(_PARAMETERS), self._word(rng)) for _ in range(3)], errors="surrogatepass"
            ).encode(), FORM
        if kind < 8:
            members = [
                (json.dumps(rng.choice(_PARAMETERS)).encode(), _json_of(rng, grammar, self._word(rng)))
                for _ in range(3)
            ]
            body = grammar.join(members)
            return (mutate(rng, body, [body]) if rng.random() < 0.2 else body), "application/json"
        if kind == 8:
            return _MULTIPART, "multipart/form-data; boundary=b"
        return grammar.value(), rng.choice(_CONTENT_TYPES)


def _json_of(rng: random.Random, grammar: Grammar, word: str) -> bytes:
    return json.dumps(word).encode() if rng.random() < 0.5 else grammar.value()
