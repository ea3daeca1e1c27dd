"""Segment's tracking API over a real service: what its SDKs send, and what they are told."""

import base64
import gzip
import json
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import Client, TestResponse

from app.core.outcome import Outcome
from app.core.tracking import TYPE_OF
from app.store.schema import calls, events, requests
from app.web.drain import EXTENSION
from tests.builders import MISSING, a_document, to_raw
from tests.sites import Site

CAPTURED = Path(__file__).parent.parent / "fixtures" / "requests"
KEY = "WRITEKEY123"
SUCCESS = {"success": True}

SHORT = {"t": "track", "i": "identify", "p": "page", "s": "screen", "g": "group", "a": "alias"}
"""What analytics.js calls."""


def basic(pair: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


BY_KEY = basic(f"{KEY}:")


@pytest.fixture
def open_site(make_site: Callable[..., Site]) -> Site:
    """The application, with the tracking API open."""
    return make_site(segment_write_keys=("another", KEY))


def track(site: Site, body: Any, path: str = "/v1/track", headers: dict[str, str] | None = None) -> TestResponse:
    raw = body if isinstance(body, bytes) else to_raw(body)
    return site.send(raw, BY_KEY if headers is None else headers, path=path)


def outcomes(site: Site) -> list[str]:
    return [outcome for (outcome,) in site.rows(calls, calls.c.outcome)]


# --- What the SDKs send


def replay(name: str) -> tuple[str, dict[str, str], bytes]:
    head, _, body = (CAPTURED / f"{name}.http").read_bytes().partition(b"\r\n\r\n")
    request, *lines = head.decode().split("\r\n")
    return request.split()[1], dict(line.split(": ", 1) for line in lines), body


@pytest.mark.parametrize("name", ["sdk-node-batch", "sdk-python-batch-gzip"])
def test_what_segments_sdks_send_is_taken_byte_for_byte(open_site: Site, name: str) -> None:
    path, headers, body = replay(name)
    plain = gzip.decompress(body) if "gzip" in name else body
    sent = json.loads(plain)["batch"]
    for _ in range(2):
        answer = track(open_site, body, path, headers)
        assert (answer.status_code, answer.get_json()) == (200, SUCCESS)
    kept = open_site.rows(calls, calls.c.raw, calls.c.route, calls.c.outcome)
    assert [json.loads(raw) for raw, _, _ in kept] == sent * 2
    assert all(raw in plain for raw, _, _ in kept)
    assert {route for _, route, _ in kept} == {"/v1/batch"}
    first, again = [outcome for *_, outcome in kept[: len(sent)]], [outcome for *_, outcome in kept[len(sent) :]]
    assert "stored" in first
    assert again == ["duplicate" if one == "stored" else one for one in first]
    assert open_site.rows(requests, requests.c.auth, requests.c.shape) == [("write_key", "batch")] * 2
    assert KEY.encode() not in b"".join(raw for raw, _, _ in kept)


def test_a_call_without_a_type_has_that_of_its_path(open_site: Site) -> None:
    expected = []
    for name in (*SHORT, *SHORT.values()):
        kind = SHORT.get(name, name)
        for spelling in (f"/v1/{name}", f"/v1/{name}/"):
            assert track(open_site, a_document(type=MISSING, messageId=spelling), spelling).get_json() == SUCCESS
            expected.append((kind, f"/v1/{name}", "stored" if kind == "track" else "ignored"))
    assert open_site.rows(calls, calls.c.type, calls.c.route, calls.c.outcome) == expected


def test_the_items_of_a_batch_say_their_own_types(open_site: Site) -> None:
    for path in ("/v1/batch", "/v1/import", "/v1/b"):
        batch = [a_document(messageId=path), a_document(type=MISSING), a_document(type="page")]
        assert track(open_site, {"batch": batch}, path).get_json() == SUCCESS
    assert open_site.rows(calls, calls.c.outcome, calls.c.reason) == 3 * [
        ("stored", None),
        ("rejected", "type_missing"),
        ("ignored", "no_transform"),
    ]


def test_a_call_that_says_its_own_type_keeps_it(open_site: Site) -> None:
    track(open_site, a_document(type="page"), "/v1/track")
    assert open_site.rows(calls, calls.c.type) == [("page",)]


# --- Who may send


def test_one_valid_write_key_is_enough(open_site: Site) -> None:
    ways: list[tuple[dict[str, str], str | None]] = [
        (BY_KEY, None),
        (basic(KEY), None),
        ({"Authorization": f"Bearer {KEY}"}, None),
        ({}, KEY),
        (basic("wrong:"), KEY),
    ]
    for number, (headers, in_body) in enumerate(ways):
        more = {"writeKey": in_body} if in_body else {}
        one = a_document(messageId=f"single-{number}", **more)
        batch = {"batch": [a_document(messageId=f"batch-{number}")], **more}
        for path, body in (("/v1/track", one), ("/v1/batch", batch)):
            assert track(open_site, body, path, headers).get_json() == SUCCESS
    assert outcomes(open_site) == ["stored"] * 2 * len(ways)


def test_without_a_valid_write_key_nothing_is_kept(open_site: Site) -> None:
    attempts: list[tuple[dict[str, str], Any, str]] = [
        ({}, None, "there is no write key"),
        (basic("wrong:"), None, "none of SEGMENT_WRITE_KEYS"),
        (basic(f"{KEY}:x"), None, "none of SEGMENT_WRITE_KEYS"),
        ({"Authorization": KEY}, None, "none of SEGMENT_WRITE_KEYS"),
        ({"Authorization": "Basic \xff"}, None, "none of SEGMENT_WRITE_KEYS"),
        ({}, "wrong", "none of SEGMENT_WRITE_KEYS"),
        ({}, 7, "there is no write key"),
        ({}, "", "there is no write key"),
        ({}, "\ud83d", "none of SEGMENT_WRITE_KEYS"),
        ({}, {"a": KEY}, "there is no write key"),
    ]
    for headers, in_body, message in attempts:
        body = a_document(**({} if in_body is None else {"writeKey": in_body}))
        answer = track(open_site, body, headers=headers)
        assert (answer.status_code, answer.get_json()["code"]) == (401, "unauthorized")
        assert message in answer.get_json()["message"]
    assert outcomes(open_site) == []
    refusals = open_site.refusals(len(attempts))
    assert {(refusal.code, refusal.path) for refusal in refusals} == {("unauthorized", "/v1/track")}
    for refusal, (*_, message) in zip(reversed(refusals), attempts, strict=True):
        assert message in refusal.message


def test_without_write_keys_the_tracking_api_is_closed(site: Site) -> None:
    for path in (*TYPE_OF, "/v1/m"):
        for headers in (BY_KEY, basic(":"), {"Authorization": "Bearer "}, {}):
            answer = track(site, a_document(writeKey=""), path, headers)
            assert (answer.status_code, answer.get_json()["code"]) == (401, "unauthorized")
            assert "SEGMENT_WRITE_KEYS is not set" in answer.get_json()["message"]


def test_the_keys_of_one_door_open_no_other(make_site: Callable[..., Site]) -> None:
    site = make_site(segment_write_keys=(KEY,), segment_bearer_tokens=("tok",), segment_basic_auth=("user:pass",))
    assert site.send(to_raw(a_document()), BY_KEY).status_code == 401
    assert track(site, a_document(), headers={"Authorization": "Bearer tok"}).status_code == 401
    assert track(site, a_document(), headers=basic("user:pass")).status_code == 401
    assert track(site, a_document(), "/api/track/", {"X-API-KEY": KEY}).status_code == 401


def test_a_write_key_is_nowhere_kept_and_never_logged(open_site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    escaped = b"".join(b"\\u%04x" % byte for byte in b"writeKey")
    key = KEY.encode()
    item = b'{"type":"track",  "writeKey" : "%b" , "%b":"%b","x":1.0}' % (key, escaped, key)
    track(open_site, item, headers={})
    track(open_site, b'{"batch":[' + item + b',7],"writeKey":"' + KEY.encode() + b'"}', "/v1/batch", {})
    track(open_site, b'[{"writeKey":"' + KEY.encode() + b'"}, "', "/v1/track")
    track(open_site, b'{"writeKey":"wrong-' + KEY.encode() + b'"}', headers={})
    kept = [raw for (raw,) in open_site.rows(calls, calls.c.raw)]
    assert kept[0] == item.replace(b'"' + KEY.encode() + b'"', b'"(hidden)"') == kept[1]
    everything = b"".join(kept) + b"".join(row[0] or b"" for row in open_site.rows(requests, requests.c.envelope))
    for refusal in open_site.refusals(2):
        everything += refusal.body_start + refusal.headers.encode() + refusal.message.encode()
    assert KEY.encode() not in everything
    assert KEY not in caplog.text


# --- What browsers need


def test_a_browser_may_ask_first_and_read_the_answer(open_site: Site) -> None:
    for path in (*TYPE_OF, "/v1/m"):
        _check_cors(open_site, path)


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ("authorization,content-type,x-retry-count", "authorization,content-type,x-retry-count"),
        ("x-of-tomorrow, content-type", "x-of-tomorrow, content-type"),
        *(
            (odd, "Authorization, Content-Type, Content-Encoding, X-Retry-Count")
            for odd in ("", "a b", "a\u00fc", "x" * 1001)
        ),
        ("a:b", "Authorization, Content-Type, Content-Encoding, X-Retry-Count"),
    ],
)
def test_a_browser_may_send_whatever_header_it_asks_for(open_site: Site, asked: str, allowed: str) -> None:
    headers = {"Origin": "https://shop.example", "Access-Control-Request-Headers": asked}
    answer = open_site.client.open("/v1/t", method="OPTIONS", headers=headers)
    assert (answer.status_code, answer.headers["Access-Control-Allow-Headers"]) == (204, allowed)


def test_a_page_may_read_when_to_try_again(open_site: Site) -> None:
    open_site.app.extensions[EXTENSION].start()
    answer = track(open_site, a_document())
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["Access-Control-Expose-Headers"] == "Retry-After"


def _check_cors(open_site: Site, path: str) -> None:
    asked = open_site.client.open(
        path,
        method="OPTIONS",
        headers={
            "Origin": "https://shop.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        },
    )
    assert (asked.status_code, asked.get_data()) == (204, b"")
    assert asked.headers["Access-Control-Allow-Origin"] == "*"
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    assert asked.headers["Access-Control-Allow-Headers"] == "content-type"
    assert int(asked.headers["Access-Control-Max-Age"]) > 0
    body = to_raw(a_document(writeKey=KEY))
    told = track(open_site, body, path, {"Content-Type": "text/plain", "Origin": "https://shop.example"})
    assert (told.status_code, told.get_json()) == (200, SUCCESS)
    refused = track(open_site, b"{", path, {"Content-Type": "text/plain"})
    for answer in (asked, told, refused):
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Access-Control-Expose-Headers"] == "Retry-After"
    assert "Access-Control-Allow-Credentials" not in told.headers


def test_what_analytics_js_tells_about_itself_is_forgotten(open_site: Site) -> None:
    assert track(open_site, {"series": [{"type": "Counter"}]}, "/v1/m", {}).get_json() == SUCCESS
    assert outcomes(open_site) == []


# --- What cannot be taken


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "code"),
    [
        ("/v1/track", b"{", {}, 400, "unparsable_json"),
        ("/v1/batch", b'{"batch": [1, }', {}, 400, "unparsable_json"),
        ("/v1/track", b"\xff", {}, 400, "unparsable_json"),
        ("/v1/track", b"no gzip", {"Content-Encoding": "gzip"}, 400, "unparsable_json"),
        ("/v1/track", b" " * (32 * 1024 + 1), {}, 400, "too_large"),
        ("/v1/batch", b" " * (500 * 1024 + 1), {}, 400, "too_large"),
        ("/v1/track", gzip.compress(b" " * 10_000_000), {"Content-Encoding": "gzip"}, 400, "too_large"),
        ("/v1/batch", gzip.compress(b" " * 10_000_000), {"Content-Encoding": "gzip"}, 400, "too_large"),
        ("/v1/m", b" " * (32 * 1024 + 1), {}, 400, "too_large"),
    ],
)
def test_what_cannot_be_taken_is_refused_as_segment_does(
    open_site: Site, path: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = track(open_site, body, path, {**BY_KEY, **headers})
    assert (answer.status_code, answer.get_json()["code"]) == (status, code)
    assert set(answer.get_json()) == {"code", "message"}
    if code == "too_large":
        assert "Segment's limit for a" in answer.get_json()["message"]
    assert [refusal.code for refusal in open_site.refusals(1)] == [code]
    assert outcomes(open_site) == []


def test_max_body_bytes_rules_where_it_is_less_than_segments_limit(make_site: Callable[..., Site]) -> None:
    site = make_site(segment_write_keys=(KEY,), max_body_bytes=2000)
    answer = track(site, b" " * 2001, "/v1/batch")
    assert (answer.status_code, answer.get_json()["code"]) == (400, "too_large")
    assert "MAX_BODY_BYTES" in answer.get_json()["message"]


def test_a_call_above_segments_limit_fails_alone_and_is_kept(open_site: Site) -> None:
    large = a_document(messageId="large", properties={"x": "x" * 40_000})
    assert track(open_site, {"batch": [large, a_document()]}, "/v1/batch").get_json() == SUCCESS
    assert open_site.rows(calls, calls.c.outcome, calls.c.reason, calls.c.raw) == [
        ("rejected", "call_too_large", to_raw(large)),
        ("stored", None, to_raw(a_document())),
    ]


def test_an_empty_batch_is_a_success(open_site: Site) -> None:
    for body in (b'{"batch":[]}', b"", b"[]"):
        assert track(open_site, body, "/v1/batch").get_json() == SUCCESS


def test_other_methods_are_not_allowed(open_site: Site) -> None:
    for method in ("GET", "PUT", "DELETE"):
        answer = open_site.client.open("/v1/track", method=method, headers=BY_KEY)
        assert (answer.status_code, answer.get_json()["code"]) == (405, "method_not_allowed")


def test_a_node_that_stops_says_so_and_keeps_nothing(open_site: Site) -> None:
    open_site.app.extensions[EXTENSION].start()
    answer = track(open_site, a_document())
    assert (answer.status_code, answer.get_json()["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"]
    assert answer.headers["Connection"] == "close"
    assert outcomes(open_site) == []


@pytest.mark.parametrize("draining", [False, True])
def test_the_shortcut_answers_as_the_route_does(open_site: Site, *, draining: bool) -> None:
    if draining:
        open_site.app.extensions[EXTENSION].start()
    doors: Sequence[Any] = (open_site.app.wsgi_app, partial(Flask.wsgi_app, open_site.app))
    large = b" " * 600_000
    sent: Sequence[tuple[Any, dict[str, str]]] = ((a_document(), BY_KEY), (b"{", BY_KEY), ({}, {}), (large, BY_KEY))
    for path in ("/v1/track", "/v1/batch/", "/v1/t", "/v1/m"):
        for body, headers in sent:
            raw = body if isinstance(body, bytes) else to_raw(body)
            answers = [Client(door).post(path, data=raw, headers=headers) for door in doors]
            told = [(one.status, sorted(one.headers), one.get_data()) for one in answers]
            assert told[0] == told[1]


# --- Anything

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = ("type", "messageId", "userId", "event", "timestamp", "sentAt", "context", "integrations", "properties")
_CALLS = st.dictionaries(st.sampled_from((*_FIELDS, "writeKey", "receivedAt", "batch", "json")), _JSON, max_size=6)
_BATCHES = st.fixed_dictionaries(
    {"batch": st.lists(_CALLS | _JSON, max_size=5)},
    optional=dict.fromkeys(("context", "integrations", "sentAt", "writeKey", "type"), _JSON),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=_CALLS | _BATCHES | _JSON, path=st.sampled_from((*TYPE_OF, "/v1/m")))
def test_whatever_is_sent_is_answered_and_each_call_has_one_outcome(open_site: Site, body: Any, path: str) -> None:
    before = len(outcomes(open_site))
    answer = track(open_site, json.dumps(body).encode(), path)
    assert answer.status_code in {200, 400}
    new = open_site.rows(calls, calls.c.outcome, calls.c.type)[before:]
    if answer.status_code == 400 or path == "/v1/m":
        assert new == []
    elif isinstance(body, dict) and isinstance(body.get("batch"), list) and not isinstance(body.get("type"), str):
        assert len(new) == len(body["batch"])
    assert all(Outcome(outcome) for outcome, _ in new)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200), encoding=st.sampled_from(("", "gzip", "deflate", "br")))
def test_bytes_of_any_kind_are_answered(open_site: Site, body: bytes, encoding: str) -> None:
    answer = track(open_site, body, "/v1/batch", {**BY_KEY, "Content-Encoding": encoding})
    assert answer.status_code in {200, 400}


def test_nul_and_half_a_surrogate_pair_are_taken(open_site: Site) -> None:
    for text in ("\0", "\ud83d", "a\0b\udc00"):
        item = a_document(messageId=text, event=text, userId=text, properties={text: text})
        body = {"batch": [item], "context": {text: text}, "sentAt": text}
        assert track(open_site, body, "/v1/batch").get_json() == SUCCESS
    assert len(outcomes(open_site)) == 3
    assert len(open_site.rows(events)) == 0


def test_a_batch_of_ten_thousand_items_is_taken(open_site: Site) -> None:
    body = b'{"batch":[' + b",".join([b"{}"] * 10_000) + b'],"context":{"a":{"b":1}}}'
    assert track(open_site, body, "/v1/batch").get_json() == SUCCESS
    assert outcomes(open_site) == ["rejected"] * 10_000
