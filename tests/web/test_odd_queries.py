"""What an admin may type by mistake, or a tool of theirs: every page and route answers it, and never with a fault.

All routes are walked, with values that have broken other services: on both databases, since each refuses others.
"""

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import pytest
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from app.corrections.lookalikes import MEMBERS as LOOKALIKES
from app.corrections.pages_form import SELECTION
from app.corrections.selection import MEMBERS
from app.forward.outbox import DELIVERY_PARAMETERS
from app.metrics.pages_query import EVENTS_PARAMETERS, PAGE_PARAMETERS
from app.metrics.parameters import USAGE_PARAMETERS
from app.replay.parameters import PARAMETERS
from app.store.query import CALL_PARAMETERS, EVENT_PARAMETERS
from tests.builders import a_document, to_raw
from tests.served import ADMIN_TOKEN
from tests.sites import Site
from tests.web.test_sign_in import csrf_of, sign_in

BEARER = {"Authorization": f"Bearer {ADMIN_TOKEN}"}

# As they stand in an address; they are no text, and refused wherever one is read.
NO_TEXT = ("%00", "a%00b", "%", "%zz", "%ff", "%ed%a0%80", "%c0%80", "\xff")
NUMBERS = ("9223372036854775807", "9223372036854775808", "-1", "-9223372036854775809", "9" * 400, "1e400", "NaN", "1.5")
OTHERS = (
    *(
        "+1",
        "1_0",
        " 1",
        "\u0663",
        "\u00b2",
        "0x10",
        "true",
        "null",
        "\\",
        "%",
        "_",
        "'",
        "x" * 3000,
        "../../etc/passwd",
    ),
    *("0000-01-01", "0001-01-01", "9999-12-31T23:59:59.999999Z", "10000-01-01", "2026-02-30", "2026-10-25T02:30:00"),
    *("999999999w", "-5d", "99999999999999999999", "[" * 3000, '{"a":' * 500, '{"a":1e999}', '"\\ud800"', "\u202e"),
    *("9223372036854775807.9223372036854775807", "9223372036854775808.1", "999999999999999999.1", "-1.-1"),
    *("\U0001f600", "\r\nX-A: b", "${x}{{7*7}}", "<script>", "x" * 3000),
)
ODD = (*NO_TEXT, *(quote(text) for text in (*NUMBERS, *OTHERS)))
# Each parameter meets these, and a part of the others: not each of them meets each, which takes minutes.
_ALWAYS = (NO_TEXT[0], NO_TEXT[3], *NUMBERS[:2])
_SHARE = 1 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 12

# Where one odd thing alone is harmless.
TOGETHER = (
    "/api/v1/metrics/tokens/usage?start=0001-01-01&end=0001-02-01&tz=Asia/Tokyo&window=day",
    "/api/v1/metrics/tokens/usage?start=9999-12-31&end=9999-12-31T23:59:59&tz=America/New_York",
    "/usage?metric=tokens&start=0001-01-01&end=0001-02-01&tz=Asia/Tokyo&window=day",
    "/usage/events?metric=tokens&start=9999-12-31&end=9999-12-31T23:59:59&tz=America/New_York",
    "/api/v1/metrics/tokens/events?group_by=model&group=%7B%22model%22:%22%5Cu0000%22%7D",
    "/api/v1/calls?since=9999-12-31&until=0001-01-01&before=9223372036854775807&limit=500",
)

_RANGE = ("range",)
_FURTHER = ("before", "limit")

# What each route reads from its address. Whoever adds one says it here.
GET = {
    "/": ("range",),
    "/calls": (*CALL_PARAMETERS, "q", "before"),
    "/calls/newer": (*CALL_PARAMETERS, "q", "newest"),
    "/calls/<call_id>": (),
    "/calls/<call_id>/raw": (),
    "/calls/<call_id>/curl": (),
    "/problems": _RANGE,
    "/deliveries": (*DELIVERY_PARAMETERS, "before"),
    "/deliveries/<event_id>": (),
    "/corrections": SELECTION,
    "/corrections/<correction_id>": (),
    "/lookalikes": LOOKALIKES,
    "/months": ("metric",),
    "/months/<month_id>": ("customer_id", "verify"),
    "/months/<month_id>/events": ("customer_id", "group", "after"),
    "/evidence": (),
    "/replays": ("before",),
    "/replays/<replay_id>": (),
    "/transforms": ("done", "took"),
    "/transforms/new": ("call",),
    "/transforms/<name>": ("call", "event", "example"),
    "/usage": PAGE_PARAMETERS,
    "/usage/events": EVENTS_PARAMETERS,
    "/help": (),
    "/help/<page>": (),
    "/setup": (),
    "/setup/arrivals": (),
    "/sign-in": ("next",),
    "/sign-in/link": ("key",),
    "/healthz": (),
    "/readyz": (),
    "/metrics": (),
    "/static/<path:filename>": ("v",),
    "/api/v1/calls": (*CALL_PARAMETERS, *_FURTHER),
    "/api/v1/calls.csv": (*CALL_PARAMETERS, "q", "tz"),
    "/api/v1/refused.csv": ("tz",),
    "/api/v1/deliveries.csv": (*DELIVERY_PARAMETERS, "tz"),
    "/api/v1/lookalikes": (*LOOKALIKES, "after", "limit"),
    "/api/v1/months": ("metric", *_FURTHER),
    "/api/v1/months/<month_id>": ("customer_id", "format"),
    "/api/v1/months/<month_id>/events": ("customer_id", "group", "after", "limit"),
    "/api/v1/months/<month_id>/verify": (),
    "/api/v1/evidence": _FURTHER,
    "/api/v1/evidence/keys": (),
    "/api/v1/metrics/<metric_name>/events.csv": (*USAGE_PARAMETERS, "group"),
    "/api/v1/calls/<call_id>": (),
    "/api/v1/calls/<call_id>/metrics": (),
    "/api/v1/events": (*EVENT_PARAMETERS, *_FURTHER),
    "/api/v1/ledger": ("since", "until"),
    "/api/v1/refused": _FURTHER,
    "/api/v1/problems": _RANGE,
    "/api/v1/deliveries": (*DELIVERY_PARAMETERS, *_FURTHER),
    "/api/v1/deliveries/export": (*DELIVERY_PARAMETERS, "format"),
    "/api/v1/deliveries/groups": ("since", "until"),
    "/api/v1/deliveries/<event_id>": (),
    "/api/v1/corrections": _FURTHER,
    "/api/v1/corrections/<correction_id>": (),
    "/api/v1/corrections/<correction_id>/events": ("after", "limit"),
    "/api/v1/corrections/<correction_id>/events.csv": (),
    "/api/v1/replays": _FURTHER,
    "/api/v1/replays/<replay_id>": (),
    "/api/v1/transforms": (),
    "/api/v1/transforms/<name>": (),
    "/api/v1/transforms/<name>/versions/<version>": (),
    "/api/v1/transforms/<name>/calls": ("limit", "event"),
    "/api/v1/transforms/<name>/paths": ("event",),
    "/api/v1/metrics": (),
    "/api/v1/metrics/<metric_name>/usage": (*USAGE_PARAMETERS, "format", "verify"),
    "/api/v1/metrics/<metric_name>/events": (*USAGE_PARAMETERS, "group", "after", "limit"),
}
# What there is, for the variables of a path.
_THERE = {"<name>": "_default", "<metric_name>": "tokens", "<path:filename>": "base.css", "<page>": "index"}


@pytest.fixture
def filled(migrated_url: str, make_site: Callable[..., Site]) -> Site:
    """A service on either database, with calls of several outcomes, and somebody signed in."""
    site = make_site(database_url=migrated_url)
    sign_in(site.client)
    for document in (a_document(), a_document(), a_document(messageId="m-2", userId=None), a_document(type="identify")):
        site.send(to_raw(document))
    return site


def addresses() -> Iterator[str]:
    """Every GET route with odd values in the place of each variable and each parameter."""
    turns = itertools.count()

    def values() -> Iterator[str]:
        turn = next(turns)
        yield from (value for place, value in enumerate(ODD) if value in _ALWAYS or (place + turn) % _SHARE == 0)

    for rule, names in GET.items():
        for variable in (part for part in rule.split("/") if part.startswith("<")):
            yield from (_concrete(rule.replace(variable, value)) for value in values())
        path = _concrete(rule)
        metric = "metric=tokens&" if rule.startswith("/usage") else ""
        for name in names:
            yield from (f"{path}?{metric if name != 'metric' else ''}{name}={value}" for value in values())
        yield f"{path}?%00=x"
        yield f"{path}?&&==&;%25"
    yield from TOGETHER


def _concrete(rule: str) -> str:
    for variable, value in _THERE.items():
        rule = rule.replace(variable, value)
    return "/".join("1" if part.startswith("<") else part for part in rule.split("/"))


def get(site: Site, address: str) -> TestResponse:
    """Ask for an address as a server hands it on."""
    path, _, query = address.partition("?")
    environ = {"PATH_INFO": unquote_to_bytes(path).decode("latin-1"), "QUERY_STRING": query}
    headers = BEARER if path.startswith(("/api", "/metrics", "/readyz")) else {"Accept": "text/html"}
    return site.client.open(method="GET", headers=headers, environ_overrides=environ)


def test_every_route_is_walked(site: Site) -> None:
    rules = {rule.rule for rule in site.app.url_map.iter_rules() if rule.methods and "GET" in rule.methods}
    assert rules == set(GET)


def faults(logs: Iterable[Any]) -> list[Any]:
    """Return what was logged as a fault of ours."""
    return [line for line in logs if line.get("exc_info") or line["log_level"] == "error"]


def test_an_odd_address_is_answered_on_every_route_and_never_with_a_fault(filled: Site) -> None:
    wrong = []
    with capture_logs() as logs:
        for address in addresses():
            with get(filled, address) as answer:
                is_fine = answer.status_code < 500
                if address.endswith(tuple(f"={text}" for text in NO_TEXT)):
                    is_fine = answer.status_code == 400
                if address.startswith("/api/v1"):
                    is_fine &= answer.headers["Cache-Control"] == "no-store"
                    is_fine &= answer.headers["X-Content-Type-Options"] == "nosniff"
            if not is_fine:
                wrong.append((address[:120], answer.status_code))
    assert wrong == []
    assert faults(logs) == []


def test_an_odd_address_of_a_stranger_is_no_fault_either(site: Site) -> None:
    with capture_logs() as logs:
        for rule in GET:
            for query in ("%00", "%zz", "\xff", "next=\xff", "x=%ff"):
                environ = {"PATH_INFO": _concrete(rule), "QUERY_STRING": query}
                for accept in ("text/html", "application/json"):
                    with site.client.get("/", headers={"Accept": accept}, environ_overrides=environ) as answer:
                        assert answer.status_code == 400, (rule, query)
    assert faults(logs) == []


# Members that go along with each odd one, where they are taken.
ALONG = {"state", "version", "text", "revision", "kind", "dry_run", "reason", "set", "customer"}
# Bodies that are no object of anything.
NO_OBJECTS = (
    *(b"", b"null", b"[]", b"1", b"\xff\xfe", b"{", b'{"\\u0000":1}', b'{"\\ud800":1}', "{}".encode("utf-16")),
    *(b"[" * 100_000, b'{"a":' * 100_000, b"[" * 500 + b"]" * 500, b"9" * 5000),
)
# Members as they stand in JSON.
ODD_MEMBERS = (
    *('"\\u0000"', '"a\\ud800b"', "9223372036854775808", "-9223372036854775809", '"9223372036854775808"', "9" * 400),
    *("1e999", "NaN", "1.5", "[]", "[" * 20_000, '{"a":' * 900 + "1" + "}" * 900, '"\xff"', '"999999999w"', '""', "-1"),
    f'"{"x" * 3000}"',
)
# What each takes, and one value that alone would be well. What needs a sandbox or a process refuses these before it.
BODIES: dict[tuple[str, str], dict[str, object]] = {
    ("POST", "/api/v1/deliveries/retry"): {**dict.fromkeys(DELIVERY_PARAMETERS, "x"), "state": "failed", "before": "1"},
    ("POST", "/api/v1/deliveries/credit"): {**dict.fromkeys(DELIVERY_PARAMETERS, "x"), "note": "x", "author": "x"},
    ("POST", "/api/v1/deliveries/1/credit"): {"note": "x", "author": "x"},
    ("POST", "/api/v1/deliveries/release"): {**dict.fromkeys(DELIVERY_PARAMETERS, "x"), "before": "1"},
    ("POST", "/api/v1/deliveries/queue"): {"after": "1"},
    ("POST", "/api/v1/corrections"): {
        **dict.fromkeys((*MEMBERS, "author", "name", "lotus", "unset"), "x"),
        "kind": "amend",
        "set": {"properties.x": 1},
        "reason": "x",
        "dry_run": True,
    },
    ("POST", "/api/v1/corrections/1/undo"): {"reason": "x", "author": "x"},
    ("POST", "/api/v1/replays"): dict.fromkeys((*PARAMETERS, "version"), "x"),
    ("PUT", "/api/v1/transforms/x"): {"text": "x", "revision": 7, "base": "zz"},
    ("DELETE", "/api/v1/transforms/x/draft"): {"revision": 1},
    ("POST", "/api/v1/transforms/x/preview"): {},
    ("POST", "/api/v1/transforms/x/impact"): {},
    ("POST", "/api/v1/transforms/x/publish"): {},
    ("POST", "/api/v1/transforms/x/rollback"): {},
    ("POST", "/api/v1/transforms/x/resolve"): {},
}


def test_an_odd_body_of_the_api_is_answered_and_never_with_a_fault(filled: Site) -> None:
    wrong = []
    with capture_logs() as logs:
        for (method, path), members in BODIES.items():
            bodies = [*NO_OBJECTS]
            for name in members:
                others = {key: text for key, text in members.items() if key in ALONG}
                texts = {key: json.dumps(text) for key, text in others.items()}
                for odd in ODD_MEMBERS:
                    together = ",".join(f'"{key}":{text}' for key, text in {**texts, name: odd}.items())
                    bodies.append(f"{{{together}}}".encode("latin-1"))
            for body in bodies:
                status = filled.client.open(path, method=method, data=body, headers=BEARER).status_code
                # 413: the body is longer than anything that is taken there.
                if status >= 500 or (body in NO_OBJECTS and status not in {400, 413}):
                    wrong.append((path, body[:60], status))
    assert wrong == []
    assert faults(logs) == []


@pytest.mark.parametrize("path", ["/deliveries/retry", "/replays"])
def test_an_odd_form_is_answered_and_never_with_a_fault(filled: Site, path: str) -> None:
    csrf = csrf_of(filled.client)
    with capture_logs() as logs:
        for name in ("reason", "since", "until", "id", "customer", "event"):
            for value in (*_ALWAYS, "9999-12-31T23:59:59.999999Z", "999999999w", "%ed%a0%80"):
                body = f"csrf={csrf}&{name}={value}".encode("latin-1")
                headers = {"Content-Type": "application/x-www-form-urlencoded"}
                assert filled.client.post(path, data=body, headers=headers).status_code < 500, (name, value[:60])
    assert faults(logs) == []
