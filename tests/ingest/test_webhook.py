"""The webhook over a real service: what it takes, what it answers, and what is then there."""

import base64
import gzip
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import Client

from app.core.signature import sign
from app.errors import WrongPath
from app.service.telemetry import REFUSAL_CODES
from app.store.schema import calls, events, requests
from app.web.drain import EXTENSION
from tests.builders import SECRET, a_document, to_raw
from tests.served import WEBHOOK, signed
from tests.sites import Site, counts

CAPTURED = Path(__file__).parent.parent / "fixtures" / "requests"
CAPTURED_SECRET = "s3cret-ünï"

METHODS = ("POST", "PUT", "PATCH")
PATHS = (WEBHOOK, f"{WEBHOOK}/")

REFUSED_STATUSES = {
    "unparsable_json": 400,
    "too_large": 413,
    "signature_missing": 401,
    "signature_mismatch": 401,
    "unauthorized": 401,
    "batch_not_fully_authenticated": 401,
    "unavailable": 503,
}
"""As docs/responses.md lists them."""


def basic(pair: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def an_array(*ids: str) -> bytes:
    return b"[" + b",".join(to_raw(a_document(messageId=one)) for one in ids) + b"]"


def test_a_signed_call_is_stored_with_its_own_bytes_its_request_and_its_event(site: Site) -> None:
    body = b'  {"type": "track",  "messageId":"m-1", "userId":7, "event":"E", "timestamp":"2026-11-01", "x": 1.0}\n'
    assert counts(site.send(body)) == {"received": 1, "stored": 1}
    assert site.rows(calls, calls.c.raw, calls.c.outcome, calls.c.message_id, calls.c.route, calls.c.position) == [
        (body.strip(), "stored", "m-1", "webhook", 0)
    ]
    assert site.rows(requests, requests.c.auth, requests.c.shape) == [("signature", "single")]
    assert site.rows(events, events.c.idempotency_id, events.c.customer_id, events.c.event_name) == [("m-1", "7", "E")]


@pytest.mark.parametrize("draining", [False, True])
@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        *((method, path, signed) for method in METHODS for path in PATHS),
        pytest.param("POST", WEBHOOK, lambda _body: {}, id="no signature"),
        pytest.param("POST", WEBHOOK, lambda _body: {"X-Signature": "0" * 40}, id="a wrong signature"),
        pytest.param("POST", WEBHOOK, lambda _body: {"Authorization": "Bearer wrong"}, id="a wrong token"),
        pytest.param("POST", WEBHOOK, lambda body: {**signed(body), "Content-Encoding": "gzip"}, id="not gzip"),
        pytest.param("POST", WEBHOOK, lambda body: {**signed(body), "Content-Encoding": "br"}, id="brotli"),
        *((method, WEBHOOK, signed) for method in ("GET", "HEAD", "DELETE", "OPTIONS")),
        # Signed, the answer says where the webhook is.
        pytest.param("POST", f"{WEBHOOK}//", lambda _body: {}, id="two slashes at the end"),
        pytest.param("POST", "/webhooks//segment", lambda _body: {}, id="two slashes in between"),
    ],
)
def test_the_shortcut_answers_as_the_route_does(
    site: Site, method: str, path: str, sent: Callable[[bytes], dict[str, str]], *, draining: bool
) -> None:
    if draining:
        site.app.extensions[EXTENSION].start()
    answers = []
    doors: Sequence[Any] = (site.app.wsgi_app, partial(Flask.wsgi_app, site.app))
    for number, application in enumerate(doors):
        body = to_raw(a_document(messageId=f"m-{number}"))
        client = Client(application)
        answer = client.open(path, method=method, data=body, headers=sent(body))
        answers.append((answer.status, sorted(answer.headers), answer.get_data()))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", METHODS)
def test_each_method_and_both_spellings_take_a_call(site: Site, method: str, path: str) -> None:
    assert counts(site.send(to_raw(a_document()), method=method, path=path)) == {"received": 1, "stored": 1}
    assert counts(site.send(to_raw(a_document()), method=method, path=path)) == {"received": 1, "duplicate": 1}


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize("path", PATHS)
def test_other_methods_are_405_and_say_which_are_taken(site: Site, method: str, path: str) -> None:
    answer = site.client.open(path, method=method)
    assert answer.status_code == 405
    assert set(METHODS) <= set(answer.headers["Allow"].split(", "))
    if method != "HEAD":
        assert answer.get_json()["code"] == "method_not_allowed"


BODIES: dict[str, tuple[bytes, dict[str, int]]] = {
    "one object": (to_raw(a_document()), {"received": 1, "stored": 1}),
    "an array": (an_array("1", "2", "1"), {"received": 3, "stored": 2, "duplicate": 1}),
    "an array of one": (an_array("1"), {"received": 1, "stored": 1}),
    "an array of wrapped calls": (
        to_raw([{"json": a_document(messageId="1")}, {"json": a_document(messageId="2")}]),
        {"received": 2, "stored": 2},
    ),
    "a batch": (
        to_raw({"batch": [a_document(messageId="1"), a_document(messageId="2")], "sentAt": "2026-11-01T10:00:00Z"}),
        {"received": 2, "stored": 2},
    ),
    "another type": (to_raw(a_document(type="identify")), {"received": 1, "ignored": 1}),
    "calls that are none": (b'[null, 1, "x", [], {}]', {"received": 5, "rejected": 5}),
    "a bad call among good ones": (
        to_raw([a_document(messageId="1"), a_document(messageId="2", event=None), a_document(messageId="3")]),
        {"received": 3, "stored": 2, "rejected": 1},
    ),
    "one message twice with other content": (
        to_raw([a_document(), a_document(properties={"tokens": 11})]),
        {"received": 2, "stored": 1, "conflict": 1},
    ),
    "an empty array": (b"[]", {}),
    "an empty batch": (b'{"batch":[]}', {}),
    "nothing": (b"", {}),
    "white space": (b" \r\n\t ", {}),
}


@pytest.mark.parametrize("name", BODIES)
def test_every_form_of_a_body_is_taken(site: Site, name: str) -> None:
    body, expected = BODIES[name]
    assert counts(site.send(body)) == expected
    assert len(site.rows(calls)) == expected.get("received", 0)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/octet-stream",
        "nonsense",
        "",
    ],
)
def test_the_content_type_does_not_matter(site: Site, content_type: str) -> None:
    body = to_raw(a_document())
    headers = {**signed(body), "Content-Type": content_type}
    assert counts(site.send(body, headers)) == {"received": 1, "stored": 1}


# What Segment sent, byte for byte, and what becomes of it.
REPLAYED: dict[str, dict[str, int]] = {
    "single-track": {"received": 1, "stored": 1},
    "single-order": {"received": 1, "stored": 1},
    "single-identify": {"received": 1, "ignored": 1},
    "array-batch": {"received": 3, "stored": 2, "ignored": 1},
    "extensible-array": {"received": 3, "stored": 2, "ignored": 1},
    "numbers": {"received": 1, "stored": 1},
    "extensible-put-bearer": {"received": 1, "stored": 1},
    # Among them a call without a userId: nobody to bill.
    "sdk-node-batch": {"received": 8, "stored": 2, "ignored": 5, "rejected": 1},
    "sdk-python-batch-gzip": {"received": 9, "stored": 3, "ignored": 5, "rejected": 1},
}


def replay(name: str) -> tuple[str, dict[str, str], bytes]:
    head, _, body = (CAPTURED / f"{name}.http").read_bytes().partition(b"\r\n\r\n")
    request, *lines = head.decode().split("\r\n")
    return request.split()[0], dict(line.split(": ", 1) for line in lines), body


def test_every_captured_request_has_its_expectation() -> None:
    assert {file.stem for file in CAPTURED.glob("*.http")} == REPLAYED.keys()


@pytest.mark.parametrize("name", REPLAYED)
def test_captured_requests_are_taken_byte_for_byte(make_site: Callable[..., Site], name: str) -> None:
    site = make_site(
        segment_shared_secrets=("another", CAPTURED_SECRET),
        segment_bearer_tokens=("tok-1",),
        segment_basic_auth=("WRITEKEY123:",),
    )
    method, headers, body = replay(name)
    assert counts(site.send(body, headers, method=method)) == REPLAYED[name]
    plain = gzip.decompress(body) if "gzip" in name else body
    kept = [raw for (raw,) in site.rows(calls, calls.c.raw)]
    assert len(kept) == REPLAYED[name]["received"]
    assert all(raw in plain for raw in kept)
    assert set(counts(site.send(body, headers, method=method))) <= {"received", "duplicate", "ignored", "rejected"}


def test_any_of_several_secrets_signs(make_site: Callable[..., Site]) -> None:
    site = make_site(segment_shared_secrets=("old", "new-ünï", SECRET))
    for number, secret in enumerate(("old", "new-ünï", SECRET)):
        body = to_raw(a_document(messageId=str(number)))
        assert counts(site.send(body, signed(body, secret=secret))) == {"received": 1, "stored": 1}
    body = to_raw(a_document())
    assert site.send(body, signed(body, secret="older")).status_code == 401


def test_a_bearer_token_or_a_basic_pair_vouches_for_the_whole_batch(make_site: Callable[..., Site]) -> None:
    site = make_site(
        segment_bearer_tokens=("tok-1", "tok-2"),
        segment_basic_auth=("user:pass:with:colons", "schlüssel:wört"),
        segment_require_full_auth=True,
    )
    ways = [
        {"Authorization": "Bearer tok-1"},
        {"Authorization": "bearer  tok-2 "},
        basic("user:pass:with:colons"),
        basic("schlüssel:wört"),
        # One valid credential is enough.
        {"Authorization": "Bearer tok-1", "X-Signature": "0" * 40},
    ]
    for number, headers in enumerate(ways):
        assert counts(site.send(an_array(f"{number}a", f"{number}b"), headers)) == {"received": 2, "stored": 2}
    assert [auth for (auth,) in site.rows(requests, requests.c.auth)] == [
        "bearer",
        "bearer",
        "basic",
        "basic",
        "bearer",
    ]


def test_a_valid_signature_is_enough_beside_an_unknown_authorization(site: Site) -> None:
    body = to_raw(a_document())
    assert counts(site.send(body, {**signed(body), "Authorization": "Basic !!!"})) == {"received": 1, "stored": 1}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "signature_missing"),
        ({"X-Signature": ""}, "signature_missing"),
        ({"X-Signature": "0" * 40}, "signature_mismatch"),
        ({"X-Signature": "not hex"}, "signature_mismatch"),
        ({"X-Signature": "é" * 40}, "signature_mismatch"),
        ({"X-Signature": sign(b"{}", "")}, "signature_mismatch"),
        ({"Authorization": "Bearer tok-2"}, "unauthorized"),
        ({"Authorization": "Bearer"}, "unauthorized"),
        ({"Authorization": "Bearer "}, "unauthorized"),
        ({"Authorization": "Basic"}, "unauthorized"),
        ({"Authorization": "Basic %%%"}, "unauthorized"),
        (basic("user:wrong"), "unauthorized"),
        (basic("user:"), "unauthorized"),
        ({"Authorization": "Digest tok-1"}, "unauthorized"),
        ({"Authorization": "tok-1"}, "unauthorized"),
        ({"Authorization": "Bearer tok-2", "X-Signature": "0" * 40}, "signature_mismatch"),
    ],
)
def test_what_is_not_authentic_is_401_with_its_reason(
    make_site: Callable[..., Site], headers: dict[str, str], code: str
) -> None:
    site = make_site(segment_bearer_tokens=("tok-1",), segment_basic_auth=("user:pass",))
    answer = site.send(b"{}", headers)
    assert answer.status_code == REFUSED_STATUSES[code] == 401
    assert answer.content_type == "application/json"
    assert answer.get_json().keys() == {"code", "message"}
    assert answer.get_json()["code"] == code
    assert answer.headers["WWW-Authenticate"]
    assert site.rows(calls) == []


def test_a_signed_array_vouches_for_its_first_call_only_and_that_is_kept(site: Site) -> None:
    first = to_raw(a_document(messageId="1"))
    body = b"[" + first + b"," + to_raw(a_document(messageId="2", userId="somebody else")) + b"]"
    assert counts(site.send(body, signed(body, over=first))) == {"received": 2, "stored": 2}
    assert site.rows(requests, requests.c.auth) == [("first_call",)]


def test_where_full_authentication_is_demanded_a_batch_signed_on_its_first_call_is_refused(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(segment_require_full_auth=True)
    first = to_raw(a_document(messageId="1"))
    body = b"[" + first + b"," + to_raw(a_document(messageId="2")) + b"]"
    answer = site.send(body, signed(body, over=first))
    assert answer.status_code == 401
    assert answer.get_json()["code"] == "batch_not_fully_authenticated"
    assert site.rows(calls) == []
    # Signed as a whole, or only one call long: nothing is left uncovered.
    assert counts(site.send(body)) == {"received": 2, "stored": 2}
    alone = b"[" + to_raw(a_document(messageId="3")) + b"]"
    assert counts(site.send(alone, signed(alone, over=alone[1:-1]))) == {"received": 1, "stored": 1}


@pytest.mark.parametrize(
    "body",
    [b"{", b"}", b"[1,]", b'{"a" 1}', b"nonsense", b"\xff\xfe", b"{}{}", b"NaN", b"\0", b'{"batch":[}', b"[" * 100_000],
)
def test_what_is_no_json_is_400(site: Site, body: bytes) -> None:
    answer = site.send(body)
    assert (answer.status_code, answer.get_json()["code"]) == (400, "unparsable_json")
    assert site.rows(calls) == []


def test_every_code_of_a_refusal_has_its_status() -> None:
    assert set(REFUSAL_CODES) - {WrongPath.code} == REFUSED_STATUSES.keys()


def test_a_body_of_exactly_the_limit_is_taken_and_one_byte_more_is_413(make_site: Callable[..., Site]) -> None:
    site = make_site(max_body_bytes=2000)
    body = to_raw(a_document())
    assert counts(site.send(body.ljust(2000))) == {"received": 1, "stored": 1}
    answer = site.send(body.ljust(2001))
    assert (answer.status_code, answer.get_json()["code"]) == (413, "too_large")


def test_a_call_that_is_too_large_is_rejected_and_its_batch_is_not(site: Site) -> None:
    body = to_raw([a_document(messageId="1", properties={"x": "y" * (1 << 20)}), a_document(messageId="2")])
    assert counts(site.send(body)) == {"received": 2, "stored": 1, "rejected": 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = ["type", "messageId", "userId", "event", "properties", "timestamp", "context", "batch", "json"]
CALLS = st.dictionaries(st.sampled_from(MEMBERS), JSON).map(lambda more: {**a_document(), **more})
BODY = st.one_of(
    st.binary(max_size=200),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.lists(CALLS, max_size=4).map(lambda value: json.dumps(value).encode()),
    CALLS.map(lambda value: json.dumps(value).encode()),
    st.lists(CALLS, max_size=3).map(lambda value: json.dumps({"batch": value}).encode()),
    st.builds(
        lambda opening, depth: opening * depth, st.sampled_from([b"[", b'{"a":', b'[{"json":']), st.integers(1, 3000)
    ),
    st.binary(max_size=100).map(gzip.compress),
)
# What a header line can hold on its way through a server.
HEADER = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=60)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Authorization": HEADER | HEADER.map(lambda text: f"Basic {text}") | HEADER.map(lambda text: f"Bearer {text}"),
        "Content-Encoding": HEADER | st.sampled_from(["gzip", "deflate", "GZIP", "br", "identity"]),
        "Content-Type": HEADER,
        "X-Forwarded-For": HEADER,
        "Cookie": HEADER,
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(body=BODY, headers=HEADERS, signature=st.none() | HEADER | st.just("right"), method=st.sampled_from(METHODS))
def test_whatever_comes_gets_a_listed_status_and_code(
    site: Site, body: bytes, headers: dict[str, str], signature: str | None, method: str
) -> None:
    given_headers = dict(headers)
    if signature is not None:
        given_headers["X-Signature"] = sign(body, SECRET) if signature == "right" else signature
    answer = site.send(body, given_headers, method=method)
    if answer.status_code == 200:
        assert signature == "right"
        counts(answer)
    else:
        code = answer.get_json()["code"]
        assert answer.status_code == REFUSED_STATUSES[code]
        assert code != "unavailable", answer.get_json()
        assert answer.get_json().keys() == {"code", "message"}
