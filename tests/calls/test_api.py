"""The JSON API over a real service, on both databases."""

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from app.catalog.backend import Backend
from app.ingest.http_tracking import Tracking
from app.service.build import Service, build
from app.service.flask_app import create_app
from app.settings import Settings
from app.store.schema import calls, requests
from tests.builders import DEFAULT_TEXT, NOW, SECRET, a_document, to_raw
from tests.served import ADMIN_TOKEN, signed, wait_until
from tests.sites import wait_for_refusals

HEADERS = {"Authorization": f"Bearer {ADMIN_TOKEN}"}

# Everything else shows what is kept, and needs the token.
OPEN_ROUTES = {
    ("/webhooks/segment", "POST"),
    ("/webhooks/segment", "PUT"),
    ("/webhooks/segment", "PATCH"),
    ("/webhooks/segment", "OPTIONS"),
    *((path, method) for path in ("/healthz", "/readyz") for method in ("GET", "HEAD", "OPTIONS")),
    ("/metrics", "OPTIONS"),
    # Flask's own answer, which names the methods.
    *((path, "OPTIONS") for path in ("/", "/sign-in", "/sign-in/link", "/sign-out", "/static/<path:filename>")),
    ("/api/track/", "OPTIONS"),
    # What a browser asks before it sends.
    *((path, "OPTIONS") for path in Tracking.paths),
    *((path, method) for path in ("/sign-in", "/sign-in/link") for method in ("GET", "HEAD")),
    *(("/static/<path:filename>", method) for method in ("GET", "HEAD")),
}


class Api:
    """A service, and somebody who asks it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.client: FlaskClient = create_app(service).test_client()

    def send(self, document: object, body: bytes | None = None) -> dict[str, int]:
        raw = to_raw(document) if body is None else body
        answer = self.client.post("/webhooks/segment", data=raw, headers=signed(raw))
        assert answer.status_code == 200, answer.json
        receipt: dict[str, int] = json.loads(answer.get_data())
        return receipt

    def ask(self, path: str, query: Mapping[str, str] | str = "") -> tuple[int, bytes]:
        """What is answered: the status and the bytes."""
        answer = self.client.get(f"/api/v1{path}", query_string=query, headers=HEADERS)
        assert answer.content_type == "application/json"
        return answer.status_code, answer.get_data()

    def get(self, path: str, **query: str) -> Any:
        status, answer = self.ask(path, query)
        assert status == 200, answer
        return json.loads(answer)

    def newest(self) -> Any:
        """The newest call, whole."""
        return self.get("/calls/" + self.get("/calls", limit="1")["calls"][0]["id"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "transforms"
    folder.mkdir()
    (folder / "_default.yaml").write_text(DEFAULT_TEXT)
    return folder


def build_api(database_url: str, folder: Path) -> Api:
    settings = Settings(
        database_url=database_url,
        segment_shared_secrets=(SECRET,),
        admin_token=ADMIN_TOKEN,
        transforms_dir=folder,
        log_level="error",
    )
    return Api(build(settings))


@pytest.fixture
def api(migrated_url: str, folder: Path) -> Iterator[Api]:
    api = build_api(migrated_url, folder)
    yield api
    wait_for_refusals()
    api.service.database.close()


def test_nothing_that_is_kept_is_shown_without_the_admin_token(api: Api) -> None:
    app = api.client.application
    asked = 0
    for rule in app.url_map.iter_rules():
        for method in rule.methods or ():
            if (rule.rule, method) in OPEN_ROUTES:
                continue
            path = re.sub(r"<(string:|int:)?\w+>", "1", rule.rule)
            assert "<" not in path, f"say what stands for the parameter of {rule.rule}"
            for headers in ({}, {"Authorization": "Bearer no"}, {"Authorization": f"Basic {ADMIN_TOKEN}"}):
                answer = api.client.open(path, method=method, headers=headers)
                assert answer.status_code == 401, (rule.rule, method, headers)
            asked += 1
    assert asked >= 15


def test_a_call_is_listed_with_its_outcome(api: Api) -> None:
    api.send(a_document(messageId="m-1", userId="ann"))
    listed = api.get("/calls")
    call = listed["calls"][0]
    assert listed["next"] is None
    assert call["id"] == str(int(call["id"]))
    assert call["received_at"].endswith("Z")
    del call["id"], call["received_at"]
    assert len(call.pop("transform_digest")) == 32
    assert call == {
        "route": "webhook",
        "outcome": "stored",
        "reason": None,
        "detail": None,
        "type": "track",
        "event": "API Call",
        "message_id": "m-1",
        "customer_id": "ann",
        "transform": "_default",
        "problem": None,
        "idempotency_ids": ["m-1"],
    }


def test_a_call_is_shown_whole(api: Api) -> None:
    document = a_document(messageId="m-1", userId="ann")
    api.send(document)
    api.send(a_document(messageId="m-1", userId="ann", properties={"tokens": 11}))
    conflict = api.newest()
    stored = api.get("/calls/" + conflict["same_message"][0]["id"])
    assert stored["raw"] == to_raw(document).decode()
    assert stored["raw_base64"] is None
    assert [step["name"] for step in stored["steps"]] == ["parsed", "transform", "mapped", "checked", "stored"]
    assert all(step["passed"] for step in stored["steps"])
    event = stored["events"][0]
    assert event["call_id"] == stored["id"]
    assert (event["event_name"], event["idempotency_id"], event["customer_id"]) == ("API Call", "m-1", "ann")
    assert (event["time_created"], event["properties"]) == ("2026-11-01T10:00:00.123000Z", {"tokens": 10})
    assert (stored["auth"], stored["shape"], stored["envelope"], stored["results"]) == ("signature", "single", None, [])
    assert conflict["events"] == []
    assert conflict["results"][0]["rival_call_id"] == stored["id"]
    assert conflict["results"][0]["event"]["properties"] == {"tokens": 11}
    last = conflict["steps"][-1]
    assert (last["name"], last["passed"]) == ("stored", False)
    assert stored["id"] in last["sentence"]


@pytest.mark.parametrize(
    ("document", "outcome", "steps"),
    [
        (a_document(userId=""), "rejected", ["parsed", "transform", "mapped", "checked"]),
        (a_document(event=""), "rejected", ["parsed"]),
        ({"type": "identify", "userId": "ann"}, "ignored", ["parsed", "transform"]),
        ([1], "rejected", ["parsed"]),
    ],
)
def test_the_last_step_is_where_a_call_stopped(api: Api, document: object, outcome: str, steps: list[str]) -> None:
    api.send(document)
    call = api.newest()
    assert call["outcome"] == outcome
    assert [step["name"] for step in call["steps"]] == steps
    assert [step["passed"] for step in call["steps"]] == [True] * (len(steps) - 1) + [False]
    assert call["steps"][-1]["sentence"] == call["detail"]


def test_each_step_of_a_call_has_its_time(api: Api) -> None:
    api.send(a_document())
    with api.service.database.writing() as conn:
        conn.execute(sa.update(calls).values(received_at=NOW, mapped_after=300))
        conn.execute(sa.update(requests).values(verified_after=100, parsed_after=200, stored_after=4_000_000))
    call = api.newest()
    assert (call["received_at"], call["verified_at"]) == ("2026-11-01T10:00:00.000000Z", "2026-11-01T10:00:00.000100Z")
    assert [(step["name"], step["at"][17:]) for step in call["steps"]] == [
        ("parsed", "00.000200Z"),
        ("transform", "00.000300Z"),
        ("mapped", "00.000300Z"),
        ("checked", "00.000300Z"),
        ("stored", "04.000000Z"),
    ]


def test_a_call_from_before_such_times_were_kept_has_none(api: Api) -> None:
    api.send(a_document())
    with api.service.database.writing() as conn:
        conn.execute(sa.update(calls).values(mapped_after=None))
        conn.execute(sa.update(requests).values(verified_after=None, parsed_after=None, stored_after=None))
    call = api.newest()
    assert call["verified_at"] is None
    assert {step["at"] for step in call["steps"]} == {None}


def test_a_batch_shows_what_stood_beside_it(api: Api) -> None:
    body = b'{"batch": [%b], "context": {"n": 1e400, "ip": "\\ud83d"}, "writeKey": "k"}' % to_raw(a_document())
    api.send(None, body)
    _, answer = api.ask("/calls/" + api.get("/calls")["calls"][0]["id"])
    # As it came: a number that nobody can hold stays what was written.
    assert b'"envelope":{"context":{"n": 1e400, "ip": "\\ud83d"}}' in answer
    assert b'"shape":"batch"' in answer


def test_bytes_that_are_no_text_are_shown_in_base64(api: Api) -> None:
    raw = b'{"type": "track", "event": "\xff"}'
    body = b"[%b,%b]" % (to_raw(a_document()), raw)
    answer = api.client.post("/webhooks/segment", data=body, headers=signed(body))
    assert answer.json == {"received": 2, "stored": 1, "duplicate": 0, "conflict": 0, "ignored": 0, "rejected": 1}
    call = api.newest()
    assert call["raw"] is None
    assert base64.b64decode(call["raw_base64"]) == raw


def test_whatever_a_sender_wrote_the_answer_is_json(api: Api) -> None:
    nasty = 'half \ud83d and \0 and "\\'
    for document in (
        a_document(messageId=nasty, event=nasty, properties={nasty: nasty.replace("\0", "")}),
        a_document(messageId="m", userId=nasty),
        {"type": nasty, "userId": nasty},
        {"type": "track", "event": [nasty]},
    ):
        api.send(document)
    for call in api.get("/calls")["calls"]:
        assert api.get("/calls/" + call["id"])["raw"]
        assert api.get("/calls", id=call["message_id"] or call["id"])["calls"]
    api.get("/events")


def test_pages_hold_every_call_once(api: Api) -> None:
    for at in range(7):
        api.send(a_document(messageId=f"m-{at}"))
    for path in ("calls", "events"):
        found: list[str] = []
        following: str | None = ""
        while following is not None:
            page = api.get(f"/{path}", limit="3", **({"before": following} if following else {}))
            found += [row["id"] for row in page[path]]
            following = page["next"]
        assert len(found) == len(set(found)) == 7
        assert found == sorted(found, key=int, reverse=True)


def test_a_page_that_is_just_full_has_no_next(api: Api) -> None:
    for at in range(3):
        api.send(a_document(messageId=f"m-{at}"))
    assert api.get("/calls", limit="3")["next"] is None
    assert api.get("/calls", limit="2")["next"] is not None


def test_calls_and_events_are_filtered(api: Api) -> None:
    api.send(a_document(messageId="m-1", userId="ann"))
    api.send(a_document(messageId="m-2", userId="bob", event="Seats"))
    api.send(a_document(messageId="m-2", userId="bob", event="Seats"))
    queries: list[tuple[dict[str, str], list[str]]] = [
        ({"customer": "ann"}, ["m-1"]),
        ({"event": "Seats"}, ["m-2", "m-2"]),
        ({"outcome": "duplicate"}, ["m-2"]),
        ({"outcome": "duplicate,stored", "customer": "bob"}, ["m-2", "m-2"]),
        ({"reason": "duplicate"}, ["m-2"]),
        ({"id": "m-1"}, ["m-1"]),
        ({"transform": "none"}, []),
        ({"since": "1h"}, ["m-2", "m-2", "m-1"]),
        ({"until": "1h"}, []),
        ({"since": "2020-01-01", "until": "2020-01-02T00:00:00+05:30"}, []),
    ]
    for query, messages in queries:
        assert [call["message_id"] for call in api.get("/calls", **query)["calls"]] == messages, query
    several = json.loads(api.ask("/calls", "outcome=duplicate&outcome=ignored")[1])
    assert [call["outcome"] for call in several["calls"]] == ["duplicate"]
    call_id = api.get("/calls", id="m-1")["calls"][0]["id"]
    for query, ids in (
        ({"customer": "ann"}, ["m-1"]),
        ({"event_name": "Seats"}, ["m-2"]),
        ({"idempotency_id": "m-1"}, ["m-1"]),
        ({"call_id": call_id}, ["m-1"]),
        ({"voided": "true"}, []),
        ({"voided": "false"}, ["m-2", "m-1"]),
    ):
        assert [event["idempotency_id"] for event in api.get("/events", **query)["events"]] == ids, query


@pytest.mark.parametrize(
    ("path", "query", "named"),
    [
        ("/calls", "outcome=lost", "outcome must be one of stored, duplicate, conflict, ignored, rejected"),
        ("/calls", "reason=why", "no_transform"),
        ("/calls", "reason=no_transform&outcome=stored", "ignored"),
        ("/calls", "limit=0", "from 1 to 500"),
        ("/calls", "limit=501", "from 1 to 500"),
        ("/calls", "limit=many", "from 1 to 500"),
        ("/calls", "before=x", "before"),
        ("/calls", "before=9223372036854775808", "before"),
        ("/calls", "since=yesterday", "since"),
        ("/calls", "until=20260101", "until"),
        ("/calls", "customer=", "customer is empty"),
        ("/calls", "customer=a&customer=b", "2 times"),
        ("/calls", "sort=id", "'sort'"),
        ("/calls", "%22%0a=1", "no parameter"),
        ("/calls/1", "raw=1", "this takes none"),
        ("/events", "before=1", "before"),
        ("/events", "before=1.9223372036854775808", "before"),
        ("/events", "voided=maybe", "true or false"),
        ("/events", "call_id=one", "call_id"),
        ("/events", "outcome=stored", "idempotency_id"),
        ("/ledger", "since=x", "since"),
        ("/ledger", "limit=1", "since, until"),
        ("/refused", "before=-1", "before"),
    ],
)
def test_a_wrong_parameter_is_named_and_never_ignored(
    migrated_sqlite_url: str, folder: Path, path: str, query: str, named: str
) -> None:
    api = build_api(migrated_sqlite_url, folder)
    status, answer = api.ask(path, query)
    api.service.database.close()
    assert status == 400
    assert json.loads(answer)["code"] == "bad_query"
    assert named in json.loads(answer)["message"]


@pytest.mark.parametrize("call_id", ["1", "message-1", "9" * 400, "-1", "1.0", "%D9%A1"])
def test_a_call_that_is_not_there_is_not_found(api: Api, call_id: str) -> None:
    status, answer = api.ask(f"/calls/{call_id}")
    assert (status, json.loads(answer)["code"]) == (404, "not_found")


def test_the_ledger_balances_and_tells_the_reasons(api: Api) -> None:
    api.send(a_document())
    api.send(a_document())
    api.send({"type": "identify"})
    ledger = api.get("/ledger")
    assert ledger["calls"] == {
        "received": 3,
        "stored": 1,
        "duplicate": 1,
        "conflict": 0,
        "ignored": 1,
        "rejected": 0,
        "by_reason": {"duplicate": 1, "no_transform": 1},
    }
    assert ledger["events"] == {"stored": 1, "duplicate": 1, "conflict": 0, "voided": 0}
    assert ledger["balances"] is True
    hour = api.get("/ledger", since="1h")
    assert (hour["calls"], hour["balances"], hour["until"]) == (ledger["calls"], None, None)
    assert hour["since"].endswith(":00.000000Z")
    assert api.get("/ledger", until="1h")["calls"]["received"] == 0
    with api.service.database.writing() as conn:
        conn.execute(sa.delete(calls).where(calls.c.outcome == "duplicate"))
    assert api.get("/ledger")["balances"] is False


def test_a_refused_request_is_shown_without_its_credentials(api: Api) -> None:
    for _ in range(2):
        headers = {"X-Signature": "0" * 40, "Authorization": "Bearer s3cret", "User-Agent": "test"}
        assert api.client.post("/webhooks/segment", data=b"\xff{}", headers=headers).status_code == 401
    wait_until(lambda: len(api.get("/refused")["refused"]) == 2)
    page = api.get("/refused", limit="1")
    refused = page["refused"][0]
    assert (refused["code"], refused["method"], refused["path"]) == ("signature_mismatch", "POST", "/webhooks/segment")
    assert refused["body_start"] == "\\xff{}"
    assert refused["headers"]["user-agent"] == "test"
    assert "s3cret" not in json.dumps(page)
    rest = api.get("/refused", before=page["next"])
    assert len(rest["refused"]) == 1
    assert rest["next"] is None


def test_steps_are_told_by_the_version_that_was_used(migrated_url: str, folder: Path) -> None:
    first = build_api(migrated_url, folder)
    first.send(a_document(messageId="m-1"))
    before = first.newest()
    first.service.database.close()
    (folder / "_default.yaml").write_text(DEFAULT_TEXT.replace("customer_id: userId", "customer_id: nothing"))
    second = build_api(migrated_url, folder)
    second.send(a_document(messageId="m-2"))
    assert second.newest()["outcome"] == "rejected"
    assert second.get("/calls/" + before["id"]) == before
    second.service.database.close()


def test_a_version_that_nobody_knows_any_more_is_said(api: Api) -> None:
    api.send(a_document())
    with api.service.database.writing() as conn:
        conn.execute(sa.update(calls).values(transform_digest=b"gone"))
    names = [(step["name"], step["sentence"]) for step in api.newest()["steps"]]
    assert [name for name, _ in names] == ["parsed", "transform", "stored"]
    assert "can no longer read" in names[1][1]


def test_after_retention_a_call_still_says_how_it_ended(api: Api) -> None:
    api.send(a_document())
    api.send(a_document())
    with api.service.database.writing() as conn:
        conn.execute(sa.update(calls).values(raw=None))
    call = api.newest()
    assert (call["raw"], call["raw_base64"]) == (None, None)
    assert "retention" in call["steps"][0]["sentence"]
    assert (call["steps"][-1]["name"], call["steps"][-1]["passed"]) == ("stored", False)


def test_every_read_goes_where_it_was_told_to(api: Api) -> None:
    works: list[object] = []
    backend = Backend(database=api.service.database, catalog=api.service.catalog)

    class Noting:
        def __call__(self, work: Callable[[Backend], Any]) -> Any:
            works.append(work)
            return work(backend)

    client = create_app(api.service, Noting()).test_client()
    for path in ("calls", "calls/1", "events", "ledger", "refused"):
        before = len(works)
        client.get(f"/api/v1/{path}", headers=HEADERS)
        assert len(works) == before + 1, path
