"""How trouble is said: one shape, a status that Segment does the right thing with, and nothing of ours leaked."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from app.errors import (
    CallRejected,
    EditConflict,
    Forbidden,
    NotFound,
    SegmentLotusError,
    SettingInvalid,
    TooManyAttempts,
    TransformInvalid,
    Unavailable,
)
from app.service.telemetry import Telemetry
from app.store.record import Request
from app.store.schema import calls
from app.store.writer import Writer
from app.web import errors
from app.web.drain import EXTENSION
from tests.builders import a_document, to_raw
from tests.served import ADMIN_TOKEN
from tests.sites import Site, counts, with_writer

INNERMOST = "the-innermost-secret-of-this-program"


class FailingWriter(Writer):
    """A writer that always fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def append(self, request: Request) -> None:  # noqa: ARG002
        raise self._error


def failing(site: Site, error: Exception) -> Site:
    return with_writer(site, FailingWriter(error))


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


FAULTS = [
    RuntimeError(INNERMOST),
    KeyError(INNERMOST),
    MemoryError(INNERMOST),
    RecursionError(INNERMOST),
    OSError(28, INNERMOST),
    AssertionError(INNERMOST),
    UnicodeEncodeError("utf-8", INNERMOST, 0, 1, INNERMOST),
    # Ours, but nothing that a sender should ever see.
    SegmentLotusError(INNERMOST),
    SettingInvalid(INNERMOST),
    TransformInvalid(INNERMOST),
    CallRejected("type_missing", INNERMOST),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_fault_of_ours_is_503_in_the_log_and_not_in_the_answer(
    site: Site, fault: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = failing(site, fault)
    answer = broken.send(to_raw(a_document()))
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.content_type == "application/json"
    assert answer.get_json().keys() == {"code", "message"}
    assert answer.get_json()["code"] == "unavailable"
    assert INNERMOST not in answer.get_data(as_text=True)
    assert "Traceback" not in answer.get_data(as_text=True)
    assert INNERMOST in capsys.readouterr().out
    assert site.rows(calls) == []


def test_a_fault_of_ours_is_counted_and_kept_as_a_refused_request(site: Site) -> None:
    broken = failing(site, RuntimeError(INNERMOST))
    broken.send(to_raw(a_document()))
    assert 'segment_lotus_requests_refused_total{code="unavailable"} 1.0' in broken.ask("/metrics", ADMIN_TOKEN).text
    (refusal,) = broken.refusals(1)
    assert refusal.code == "unavailable"
    assert INNERMOST not in refusal.message


def test_after_a_fault_the_next_call_is_taken(make_site: Callable[..., Site]) -> None:
    """What was in flight is given back."""
    body = to_raw(a_document())
    site = make_site(max_inflight_bytes=len(body))
    broken = failing(site, RuntimeError())
    for _ in range(3):
        assert broken.send(body).get_json()["message"].startswith("something went wrong")
    assert counts(site.send(body)) == {"received": 1, "stored": 1}


def test_what_cannot_be_stored_now_is_503_with_a_moment_to_wait(site: Site) -> None:
    answer = failing(site, Unavailable("the database is away")).send(to_raw(a_document()))
    assert (answer.status_code, answer.get_json()) == (
        503,
        {"code": "unavailable", "message": "the database is away"},
    )
    assert int(answer.headers["Retry-After"]) >= 1


def test_while_draining_calls_are_503_and_connections_are_closed(site: Site) -> None:
    assert "Connection" not in site.send(to_raw(a_document())).headers
    site.app.extensions[EXTENSION].start()
    answer = site.send(to_raw(a_document(messageId="2")))
    assert (answer.status_code, answer.get_json()["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"]
    assert answer.headers["Connection"] == "close"
    assert site.ask("/healthz").headers["Connection"] == "close"
    assert len(site.rows(calls)) == 1


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/api/v1/calls/1", 404, "not_found"),
        ("DELETE", "/healthz", 405, "method_not_allowed"),
        ("GET", "/webhooks/segment", 405, "method_not_allowed"),
    ],
)
def test_every_error_has_one_shape(site: Site, method: str, path: str, status: int, code: str) -> None:
    answer = site.client.open(path, method=method, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
    assert answer.status_code == status
    assert answer.content_type == "application/json"
    assert answer.get_json().keys() == {"code", "message"}
    assert answer.get_json()["code"] == code


def test_no_error_has_a_status_that_makes_segment_drop_what_could_be_stored_later() -> None:
    # These three are for people who sign in and edit; the webhook never says them.
    edits = {Forbidden: 403, EditConflict: 409, TooManyAttempts: 429}
    for kind, status in errors.STATUS_OF.items():
        assert status in {400, 401, 404, 413, 503} or edits[kind] == status, kind
    assert errors.STATUS_OF[NotFound] == 404


class FailingTelemetry(Telemetry):
    """Numbers that cannot be noted, as where the memory that they are kept in is full."""

    def time_request(self, seconds: float) -> None:
        raise ValueError(seconds)

    def count_refused(self, code: str) -> None:
        raise KeyError(code)


def test_numbers_that_cannot_be_noted_change_no_answer(site: Site) -> None:
    broken = Site(dataclasses.replace(site.service, telemetry=FailingTelemetry(shared=False)))
    for number in range(2):
        assert counts(broken.send(to_raw(a_document(messageId=str(number))))) == {"received": 1, "stored": 1}
    assert broken.send(b"{}", {}).status_code == 401
    assert broken.send(b"no JSON").status_code == 400
    assert len(site.rows(calls)) == 2
    # What was refused is kept all the same.
    assert [refusal.code for refusal in site.refusals(2)] == ["unparsable_json", "signature_missing"]
