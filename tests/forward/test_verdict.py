"""What an answer of Lotus means for the events that were sent."""

import json
from typing import Any

import pytest

from app.forward.fake_lotus.rules import BROKER, INVALID_JSON, NO_CUSTOMER, OUTSIDE, WHOLE
from app.forward.verdict import LotusAnswer, read_verdict
from tests.builders import NOW


def read(status: int | None, document: object, **headers: str) -> Any:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return read_verdict(
        LotusAnswer(status, body, {name.replace("_", "-"): text for name, text in headers.items()}), "ab", NOW
    )


@pytest.mark.parametrize("status", [200, 201])
def test_all_is_all(status: int) -> None:
    verdict = read(status, {"success": "all", "failed_events": None})
    assert verdict.delivered == {"a", "b"}
    assert (verdict.failed, verdict.later, verdict.trouble) == ({}, {}, None)


@pytest.mark.parametrize("reason", [NO_CUSTOMER, OUTSIDE])
@pytest.mark.parametrize(("status", "success"), [(201, "some"), (400, "none")])
def test_a_permanent_reason_is_that_events_end(reason: str, status: int, success: str) -> None:
    verdict = read(status, {"success": success, "failed_events": {"a": reason}})
    assert verdict.failed == {"a": reason}
    assert verdict.delivered == ({"b"} if success == "some" else set())
    assert verdict.trouble is None


def test_a_broker_that_is_down_is_no_events_fault() -> None:
    verdict = read(400, {"success": "none", "failed_events": {"a": BROKER, "b": BROKER}})
    assert (set(verdict.later), verdict.failed, verdict.trouble.word) == ({"a", "b"}, {}, "broker")
    verdict = read(201, {"success": "some", "failed_events": {"a": BROKER}})
    assert (verdict.delivered, set(verdict.later), verdict.trouble.word) == ({"b"}, {"a"}, "broker")


def test_an_unknown_reason_passes() -> None:
    verdict = read(201, {"success": "some", "failed_events": {"a": "who knows"}})
    assert (verdict.delivered, verdict.later, verdict.trouble) == ({"b"}, {"a": "who knows"}, None)


def test_what_names_none_of_the_events_sent_delivers_none() -> None:
    for document in ({"success": "some", "failed_events": {"z": NO_CUSTOMER}}, {"success": "some"}):
        verdict = read(201, document)
        assert (verdict.delivered, set(verdict.later), verdict.trouble.word) == (set(), {"a", "b"}, "answer")


@pytest.mark.parametrize(
    ("status", "document", "final"),
    [
        (400, {"success": "none", "failed_events": {WHOLE: INVALID_JSON}}, True),
        (413, b"too large", True),
        (400, b"<html>", False),
    ],
)
def test_what_is_refused_whole_is_split(status: int, document: object, final: bool) -> None:
    verdict = read(status, document)
    assert verdict.split
    assert verdict.split_is_final is final
    assert (verdict.delivered, verdict.failed, verdict.later) == (set(), {}, {})


@pytest.mark.parametrize(
    ("status", "document", "word"),
    [
        (400, {"message": "No API key found in request"}, "key"),
        (400, {"message": "Invalid API key"}, "key"),
        (401, {"detail": "no"}, "key"),
        (429, b"", "busy"),
        (500, {"message": "oh"}, "server"),
        (503, b"", "server"),
        (302, b"", "answer"),
        (404, b"", "answer"),
        (201, b"<html>", "answer"),
        (201, [], "answer"),
        (None, b"refused", "network"),
    ],
)
def test_what_is_about_no_event_is_a_trouble_of_the_destination(
    status: int | None, document: object, word: str
) -> None:
    verdict = read(status, document)
    assert verdict.trouble.word == word
    assert set(verdict.later) == {"a", "b"}
    assert (verdict.delivered, verdict.failed, verdict.split) == (set(), {}, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("999999", 600), ("Sun, 01 Nov 2026 10:00:30 GMT", 30), ("-1", 0), ("soon", 0), ("1" * 99, 0)],
)
def test_retry_after_is_honoured_within_reason(text: str, seconds: float) -> None:
    assert read(503, b"", retry_after=text).trouble.wait_seconds == seconds
