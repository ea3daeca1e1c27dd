"""Lotus's track API over a real service: what is taken, what its clients are told, and what is then there."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import Client, TestResponse

from app.core.outcome import Outcome
from app.store.schema import calls, events, requests
from app.web.drain import EXTENSION
from tests.builders import MISSING, a_document, to_raw
from tests.sites import Site

PATH = "/api/track/"
KEY = "ingest-key"
BY_KEY = {"X-API-KEY": KEY}
ALL = {"success": "all", "failed_events": None}
NATIVE = "built-in:lotus"


@pytest.fixture
def open_site(make_site: Callable[..., Site]) -> Site:
    """The application, with both tracking APIs open."""
    return make_site(lotus_ingest_keys=("another", KEY), segment_write_keys=("write-key",))


def an_event(**members: Any) -> dict[str, Any]:
    """Return an event as lotus-python sends it."""
    document = {
        "$type": "track_event",
        "event_name": "API Call",
        "idempotency_id": "id-1",
        "customer_id": "customer-1",
        "time_created": "2026-11-01T10:00:00.123Z",
        "properties": {"tokens": 10},
        **members,
    }
    return {key: value for key, value in document.items() if value is not MISSING}


def send(site: Site, body: Any, headers: dict[str, str] | None = None, path: str = PATH) -> TestResponse:
    raw = body if isinstance(body, bytes) else to_raw(body)
    return site.send(raw, BY_KEY if headers is None else headers, path=path)


def outcomes(site: Site) -> list[str]:
    return [outcome for (outcome,) in site.rows(calls, calls.c.outcome)]


def test_an_event_is_stored_with_its_own_bytes_and_as_it_is(open_site: Site) -> None:
    raw = b'{"idempotency_id": 7, "customer_id":42.0,  "event_name":"E","time_created":"2026-11-01 10:00:00+01:00"}'
    answer = send(open_site, b' {"batch": [' + raw + b'], "sentAt": "now"}')
    assert (answer.status_code, answer.get_json()) == (201, ALL)
    columns = calls.c
    assert open_site.rows(
        calls, columns.raw, columns.route, columns.type, columns.event, columns.customer_id, columns.transform
    ) == [(raw, PATH, "event", "E", "42", NATIVE)]
    assert open_site.rows(requests, requests.c.auth, requests.c.shape, requests.c.envelope) == [
        ("api_key", "batch", b'{"sentAt":"now"}')
    ]
    made = events.c
    assert open_site.rows(
        events, made.idempotency_id, made.customer_id, made.event_name, made.properties, made.time_created
    ) == [("7", "42", "E", "{}", 1_793_523_600_000_000)]


def test_a_batch_a_bare_event_and_an_array_are_taken_with_and_without_the_slash(open_site: Site) -> None:
    number = 0
    for path in (PATH, "/api/track"):
        for wrap in (lambda one: {"batch": [one]}, lambda one: one, lambda one: [one]):
            number += 1
            answer = send(open_site, wrap(an_event(idempotency_id=number)), path=path)
            assert (answer.status_code, answer.get_json()) == (201, ALL)
    assert outcomes(open_site) == ["stored"] * number


@pytest.mark.parametrize("headers", [{}, {"X-API-KEY": ""}, {"X-API-KEY": "wrong"}, {"X-API-KEY": "\xff"}])
def test_an_unknown_key_is_401_and_nothing_is_kept(open_site: Site, headers: dict[str, str]) -> None:
    answer = send(open_site, an_event(), headers)
    assert (answer.status_code, answer.get_json()["code"]) == (401, "unauthorized")
    assert outcomes(open_site) == []
    [refusal] = open_site.refusals(1)
    assert (refusal.path, refusal.code, refusal.message) == (PATH, "unauthorized", answer.get_json()["message"])
    assert "wrong" not in refusal.headers


def test_without_ingest_keys_the_track_api_is_closed(site: Site) -> None:
    for headers in (BY_KEY, {"X-API-KEY": ""}, {}):
        answer = send(site, an_event(), headers)
        assert answer.status_code == 401
        assert "LOTUS_INGEST_KEYS is not set" in answer.get_json()["message"]


BAD: tuple[tuple[dict[str, Any], str], ...] = (
    ({"idempotency_id": MISSING}, "No idempotency_id provided"),
    ({"idempotency_id": ""}, "No idempotency_id provided"),
    ({"customer_id": None}, "No customer_id provided"),
    ({"event_name": MISSING}, "No event_name provided"),
    ({"time_created": MISSING}, "Invalid time_created"),
    ({"time_created": "yesterday"}, "Invalid time_created"),
    ({"time_created": {}}, "Invalid time_created"),
    ({"time_created": ""}, "Invalid time_created"),
    ({"time_created": "0001-01-01T00:00:00Z"}, "Invalid time_created"),
    ({"time_created": "1970-01-01T00:00:00+00:00"}, "Invalid time_created"),
    ({"time_created": 0}, "Invalid time_created"),
    ({"properties": [1]}, "properties is an array; it must be an object"),
    ({"customer_id": "c" * 51}, "customer_id has 51 characters; Lotus takes at most 50"),
    ({"customer_id": True}, "customer_id is a boolean; it must be text or a number"),
    ({"event_name": 7}, "event_name is a number; it must be text"),
    ({"properties": {"a": "\0"}}, "properties.a holds a NUL character, which Lotus cannot store"),
)


def test_a_bad_event_fails_alone_with_the_reason_in_lotus_words(open_site: Site) -> None:
    bad = [an_event(**{"idempotency_id": f"bad-{number}", **members}) for number, (members, _) in enumerate(BAD)]
    answer = send(open_site, {"batch": [an_event(), *bad]})
    assert answer.status_code == 201
    expected = {one.get("idempotency_id") or "no_idempotency_id": why for one, (_, why) in zip(bad, BAD, strict=True)}
    assert answer.get_json() == {"success": "some", "failed_events": expected}
    rows = open_site.rows(calls, calls.c.outcome, calls.c.reason, calls.c.detail, calls.c.transform)
    assert rows == [
        ("stored", None, None, NATIVE),
        *(("rejected", "event_invalid", why, NATIVE) for _, why in BAD),
    ]


def test_where_none_is_taken_it_is_400(open_site: Site) -> None:
    answer = send(open_site, {"batch": [an_event(customer_id="")] * 2})
    assert answer.status_code == 400
    assert answer.get_json() == {"success": "none", "failed_events": {"id-1": "No customer_id provided"}}
    nothing: Sequence[Any] = ({"batch": []}, [], b"")
    for body in nothing:
        answer = send(open_site, body)
        assert (answer.status_code, answer.get_json()["success"]) == (400, "none")
    assert outcomes(open_site) == ["rejected", "rejected"]


def test_two_that_failed_with_one_id_are_two(open_site: Site) -> None:
    batch = [
        an_event(idempotency_id="twin", customer_id=""),
        an_event(idempotency_id="twin", customer_id=""),
        an_event(),
    ]
    answer = send(open_site, {"batch": batch})
    assert (answer.status_code, answer.get_json()["success"]) == (201, "some")


def test_what_is_no_object_fails_alone(open_site: Site) -> None:
    answer = send(open_site, [7, None, [], an_event()])
    assert answer.get_json() == {
        "success": "some",
        "failed_events": {"no_idempotency_id": "An event must be an object."},
    }


def test_a_duplicate_is_a_success_and_so_is_another_content_the_first_one_wins(open_site: Site) -> None:
    for body in (an_event(), an_event(), an_event(properties={"tokens": 11}), [an_event(), an_event()]):
        answer = send(open_site, body)
        assert (answer.status_code, answer.get_json()) == (201, ALL)
    assert outcomes(open_site) == ["stored", "duplicate", "conflict", "duplicate", "duplicate"]
    assert open_site.rows(events, events.c.properties) == [('{"tokens":10}',)]


@pytest.mark.parametrize("native_first", [False, True])
def test_the_same_usage_by_segment_and_natively_is_one_event(open_site: Site, *, native_first: bool) -> None:
    def natively() -> None:
        assert send(open_site, an_event(idempotency_id="message-1")).get_json() == ALL

    def by_segment() -> None:
        headers = {"Authorization": "Bearer write-key"}
        assert open_site.send(to_raw(a_document()), headers, path="/v1/track").status_code == 200

    for way in (natively, by_segment) if native_first else (by_segment, natively):
        way()
    assert outcomes(open_site) == ["stored", "duplicate"]
    assert len(open_site.rows(events)) == 1


def test_events_of_any_age_are_stored(open_site: Site) -> None:
    for year in (2001, 2050):
        send(open_site, an_event(idempotency_id=year, time_created=f"{year}-01-01T00:00:00Z"))
    assert outcomes(open_site) == ["stored", "stored"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [(b"{", 400, "unparsable_json"), (b"\xff", 400, "unparsable_json"), (b" " * 3000, 413, "too_large")],
)
def test_what_is_no_request_is_refused(make_site: Callable[..., Site], body: bytes, status: int, code: str) -> None:
    site = make_site(lotus_ingest_keys=(KEY,), max_body_bytes=2000)
    answer = send(site, body)
    assert (answer.status_code, answer.get_json()["code"]) == (status, code)


@pytest.mark.parametrize("draining", [False, True])
def test_the_shortcut_answers_as_the_route_does(open_site: Site, *, draining: bool) -> None:
    if draining:
        open_site.app.extensions[EXTENSION].start()
    doors: Sequence[Any] = (open_site.app.wsgi_app, partial(Flask.wsgi_app, open_site.app))
    for path in (PATH, "/api/track"):
        for body, headers in ((an_event(), BY_KEY), (an_event(customer_id=""), BY_KEY), ({}, {})):
            answers = [Client(door).post(path, data=to_raw(body), headers=headers) for door in doors]
            told = [(one.status, sorted(one.headers), one.get_data()) for one in answers]
            assert told[0] == told[1]
            assert (answers[0].status_code == 503) is draining


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = ("event_name", "idempotency_id", "customer_id", "time_created", "properties", "batch", "json", "type")
_EVENTS = st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=6)
_GOOD = st.builds(an_event, **dict.fromkeys(_FIELDS[:5], _JSON))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(_GOOD | _EVENTS | _JSON | st.just(an_event()), min_size=1, max_size=5))
def test_whatever_is_sent_is_answered_and_each_event_has_one_outcome(open_site: Site, batch: list[Any]) -> None:
    before = len(outcomes(open_site))
    answer = send(open_site, json.dumps({"batch": batch}).encode())
    assert answer.status_code in {201, 400}
    new = outcomes(open_site)[before:]
    assert len(new) == len(batch)
    failed = new.count(Outcome.REJECTED)
    expected = "all" if failed == 0 else "none" if failed == len(new) else "some"
    assert (answer.get_json()["success"], answer.status_code) == (expected, 400 if expected == "none" else 201)
