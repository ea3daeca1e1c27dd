"""The stand-in for Lotus answers as the contract says."""

import http.client
import json
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.core.times import format_time
from app.forward.fake_lotus.faults import InjectedFault, PlannedFault, parse_fault
from app.forward.fake_lotus.rules import BROKER, DAY, INVALID_JSON, INVALID_TIME, NO_CUSTOMER, NO_ID, OUTSIDE, WHOLE
from app.forward.fake_lotus.server import FAULTS, PING, RECEIVED, TRACK, VERIFY, FakeLotus
from tests.builders import NOW

KEY = "a-key"


@pytest.fixture
def lotus() -> FakeLotus:
    """A stand-in at a fixed moment."""
    return FakeLotus(KEY, clock=lambda: NOW, slow_seconds=0.05)


def ask(
    address: str, method: str, path: str, document: object = None, *, key: str | None = KEY, **headers: str
) -> tuple[int, Any]:
    """Send one request; return the status and the JSON of the answer."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    given = {"Content-Type": "application/json", **({"X-API-KEY": key} if key else {}), **headers}
    with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)) as connection:
        connection.request(method, path, body if method == "POST" else None, given)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")


def an_event(id_: str = "1", **members: Any) -> dict[str, Any]:
    """Return an event as it is sent."""
    event = {
        "event_name": "api_call",
        "idempotency_id": id_,
        "customer_id": "acme",
        "time_created": format_time(NOW),
        "properties": {"tokens": 1},
        **members,
    }
    return {name: value for name, value in event.items() if value is not None}


def track(address: str, *events: Any, **more: Any) -> tuple[int, Any]:
    """Send a batch."""
    return ask(address, "POST", TRACK, {"batch": list(events)}, **more)


def test_a_good_batch_is_taken_and_the_first_of_an_id_wins(address: str, lotus: FakeLotus) -> None:
    assert track(address, an_event("1"), an_event("2")) == (201, {"success": "all", "failed_events": None})
    assert track(address, an_event("1", customer_id="other")) == (201, {"success": "all", "failed_events": None})
    assert [event["customer_id"] for event in lotus.events.values()] == ["acme", "acme"]
    assert lotus.repeats == ["1"]
    status, shown = ask(address, "GET", RECEIVED)
    assert (status, shown["received"], shown["repeats"], shown["violations"]) == (200, 2, 1, [])
    assert ask(address, "DELETE", RECEIVED)[0] == 200
    assert ask(address, "GET", RECEIVED)[1]["received"] == 0


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (an_event("9", customer_id=None), {"9": NO_CUSTOMER}),
        (an_event("9", idempotency_id=None), {WHOLE: NO_ID}),
        (an_event("9", time_created=None), {"9": INVALID_TIME}),
        (an_event("9", time_created=format_time(NOW - 30 * DAY - 1)), {"9": OUTSIDE}),
        (an_event("9", time_created=format_time(NOW + DAY + 1)), {"9": OUTSIDE}),
    ],
)
def test_a_bad_event_fails_alone_inside_a_201(
    address: str, lotus: FakeLotus, event: object, reason: dict[str, str]
) -> None:
    assert track(address, an_event("1"), event) == (201, {"success": "some", "failed_events": reason})
    assert list(lotus.events) == ["1"]
    assert track(address, event) == (400, {"success": "none", "failed_events": reason})


@pytest.mark.parametrize(
    "event",
    [
        an_event("9", customer_id=42),
        an_event("9", time_created="yesterday"),
        an_event("9", time_created="2026-11-01 10:00:00"),
        an_event("9", properties=[1]),
        "text",
    ],
)
def test_one_wrong_type_or_time_rejects_the_whole_batch(address: str, lotus: FakeLotus, event: object) -> None:
    assert track(address, an_event("1"), event) == (400, {"success": "none", "failed_events": {WHOLE: INVALID_JSON}})
    assert lotus.events == {}


@pytest.mark.parametrize("document", [an_event(), [an_event()], {"batch": []}, {"batch": {}}, b"{", None])
def test_only_a_batch_that_holds_events_is_read(address: str, document: object) -> None:
    answer = {"success": "none", "failed_events": {WHOLE: INVALID_JSON}}
    assert ask(address, "POST", TRACK, document) == (400, answer)


def test_a_missing_and_an_unknown_key_are_400_and_a_ping_401(address: str) -> None:
    assert track(address, an_event(), key=None) == (400, {"message": "No API key found in request"})
    assert track(address, an_event(), key="other") == (400, {"message": "Invalid API key"})
    assert ask(address, "GET", PING)[0] == 200
    assert ask(address, "GET", PING, key="other")[0] == 401
    assert ask(address, "POST", VERIFY, {"idempotency_ids": []}, key=None)[0] == 401


def test_it_takes_a_hundred_events_and_475_kb_and_no_more(address: str) -> None:
    assert track(address, *(an_event(str(one)) for one in range(100)))[0] == 201
    assert track(address, *(an_event(str(one)) for one in range(101)))[0] == 413
    assert track(address, an_event(properties={"text": "x" * 474_000}))[0] == 201
    assert track(address, an_event(properties={"text": "x" * 475_000}))[0] == 413


def test_the_trailing_slash_is_required_and_gzip_is_not_read(address: str) -> None:
    assert ask(address, "POST", "/api/track", {"batch": [an_event()]})[0] == 301
    assert track(address, an_event(), **{"Content-Encoding": "gzip"})[0] == 400
    assert ask(address, "GET", "/nowhere")[0] == 404


def test_what_lotus_would_suffer_from_is_noted(address: str, lotus: FakeLotus) -> None:
    track(address, an_event("1", properties={"a": "\0"}), an_event("2", event_name=None), an_event("3"))
    assert len(lotus.violations) == 2


def test_it_says_which_ids_it_does_not_have(address: str) -> None:
    track(address, an_event("1"))
    asked = {"idempotency_ids": ["1", "2"], "number_days_lookback": 30}
    assert ask(address, "POST", VERIFY, asked) == (200, {"status": "success", "ids_not_found": ["2"]})
    assert ask(address, "POST", VERIFY, {})[0] == 400


@pytest.mark.parametrize(
    ("fault", "answer", "taken"),
    [
        (InjectedFault.SLOW, (201, {"success": "all", "failed_events": None}), 2),
        (InjectedFault.ERROR, (500, {"message": "something went wrong"}), 0),
        (InjectedFault.BROKER_DOWN, (400, {"success": "none", "failed_events": {"1": BROKER, "2": BROKER}}), 0),
        (InjectedFault.PARTIAL, (201, {"success": "some", "failed_events": {"1": BROKER}}), 1),
        (InjectedFault.WRONG_KEY, (400, {"message": "Invalid API key"}), 0),
        (InjectedFault.BUSY, (429, {"message": "slow down"}), 0),
        (InjectedFault.REDIRECT, (302, {}), 0),
    ],
)
def test_a_fault_is_answered_as_lotus_would(
    address: str, lotus: FakeLotus, fault: InjectedFault, answer: object, taken: int
) -> None:
    assert ask(address, "POST", FAULTS, [{"fault": fault, "left": 1}])[0] == 200
    assert track(address, an_event("1"), an_event("2")) == answer
    assert len(lotus.events) == taken
    assert track(address, an_event("1"), an_event("2"))[0] == 201
    assert len(lotus.events) == 2


@pytest.mark.parametrize(("fault", "taken"), [(InjectedFault.HANG_UP, 0), (InjectedFault.HANG_UP_AFTER, 1)])
def test_it_closes_the_connection_half_way(address: str, lotus: FakeLotus, fault: InjectedFault, taken: int) -> None:
    lotus.faults.plan([PlannedFault(fault)])
    with pytest.raises((OSError, http.client.HTTPException)):
        track(address, an_event())
    assert len(lotus.events) == taken


def test_faults_are_read_from_text_and_from_json(address: str) -> None:
    assert parse_fault("error") == PlannedFault(InjectedFault.ERROR, 1.0)
    assert parse_fault("slow:0.25") == PlannedFault(InjectedFault.SLOW, 0.25)
    for text in ("nothing", "error:2", "error:x"):
        with pytest.raises(ValueError, match=r"fault|share"):
            parse_fault(text)
    assert ask(address, "POST", FAULTS, [{"fault": "nothing"}])[0] == 400
