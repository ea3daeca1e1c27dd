"""Corrections over HTTP: the same numbers, the same errors, and who did it on the page of the call."""

import csv
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import TestResponse

from app.corrections import api, corrector
from app.metrics.effect import measure_effect
from app.store.schema import corrections
from tests.builders import a_document, to_raw
from tests.corrections.correcting import METRICS, check
from tests.metrics.conftest import publish
from tests.served import ADMIN_TOKEN
from tests.sites import Site

Post = Callable[..., TestResponse]


@pytest.fixture
def post(site: Site) -> Post:
    """Post JSON below /api/v1/corrections."""

    def send(path: str = "", **members: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        return site.client.post(f"/api/v1/corrections{path}", json=members, headers=headers)

    publish(site.service.database, *METRICS)
    for number in (1, 2, 3):
        site.send(to_raw(a_document(event="api_call", messageId=f"m-{number}", properties={"tokens": number})))
    return send


VOID = {"kind": "void", "customer": "customer-1", "reason": "internal traffic"}


def test_a_dry_run_the_run_and_its_undo(site: Site, post: Post) -> None:
    foreseen = post(**VOID, dry_run=True)
    assert (foreseen.status_code, site.rows(corrections)) == (200, [])
    done = post(**VOID, author="ann")
    assert done.status_code == 200
    document = done.get_json()
    same = ("events", "already_void", "delivered", "withdrawn", "customers", "event_names", "metrics", "selection")
    assert {name: document[name] for name in same} == {name: foreseen.get_json()[name] for name in same}
    changes = {row["metric"]: row["change"] for row in document["metrics"]}
    assert (changes["api_calls"], changes["longest"], changes["tokens"]) == ("-3", "-3", "-6")
    assert site.ask(f"/api/v1/corrections/{document['id']}", ADMIN_TOKEN).get_json() == document
    again = post(**VOID).get_json()
    assert (again["id"], again["events"], again["already_void"]) == (None, 0, 3)
    check(site.service.database)
    undone = post(f"/{document['id']}/undo", reason="they were not", author="bob")
    assert (undone.status_code, undone.get_json()["revived"]) == (200, 3)
    assert undone.get_json()["undo"]["author"] == "bob"
    twice = post(f"/{document['id']}/undo", reason="they were not")
    assert (twice.status_code, twice.get_json()["code"]) == (409, "edit_conflict")
    listed = site.ask("/api/v1/corrections?limit=1", ADMIN_TOKEN).get_json()
    assert listed == {"corrections": [undone.get_json()], "next": None}
    check(site.service.database)


def test_an_amendment_says_of_each_event_who_changed_what_and_its_events_are_paged_and_exported(
    visited: Site, post: Post
) -> None:
    values = {"properties.tokens": 9, "properties.note": "=1+1"}
    amend = {
        "kind": "amend",
        "ids": ["m-1", "m-2"],
        "set": values,
        "unset": ["properties.none"],
        "reason": "a <b> typo",
    }
    foreseen = post(**amend, dry_run=True).get_json()
    done = post(**amend, author="ann", name="typo").get_json()
    same = foreseen.keys() - {"id", "dry_run"}
    assert {name: done[name] for name in same} == {name: foreseen[name] for name in same}
    assert (done["set"], done["unset"], done["kind"], done["name"]) == (values, ["properties.none"], "amend", "typo")
    check(visited.service.database)
    listed = visited.ask("/api/v1/events?idempotency_id=m-1", ADMIN_TOKEN).get_json()["events"]
    [new, old] = listed
    assert (new["idempotency_id"], old["replaces"], old["void_author"]) == ("m-1~2", None, "ann")
    assert new["replaces"] == {
        "idempotency_id": "m-1",
        "correction_id": done["id"],
        "kind": "amend",
        "author": "ann",
        "reason": "a <b> typo",
        "at": old["voided_at"],
        "changes": [
            {"path": "properties.note", "after": "=1+1"},
            {"path": "properties.tokens", "before": 1, "after": 9},
        ],
    }
    page = visited.client.get(f"/calls/{new['call_id']}").get_data(as_text=True)
    assert "1 of its 2 events counts" in page
    assert "properties.tokens: 1 became 9" in page
    assert "a &lt;b&gt; typo" in page
    whole = visited.ask(f"/api/v1/calls/{new['call_id']}", ADMIN_TOKEN).get_json()
    assert sorted(whole["events"], key=lambda event: event["id"]) == sorted(listed, key=lambda event: event["id"])

    path = f"/api/v1/corrections/{done['id']}/events"
    first = visited.ask(f"{path}?limit=1", ADMIN_TOKEN).get_json()
    second = visited.ask(f"{path}?limit=1&after={first['next']}", ADMIN_TOKEN).get_json()
    assert ([row["old"]["idempotency_id"] for page in (first, second) for row in page["events"]], second["next"]) == (
        ["m-1", "m-2"],
        None,
    )
    file = visited.ask(f"{path}.csv", ADMIN_TOKEN)
    assert file.headers["Content-Disposition"] == f'attachment; filename="correction_{done["id"]}.csv"'
    rows = list(csv.DictReader(file.get_data(as_text=True).splitlines()))
    assert [(row["idempotency_id"], row["new_properties"]) for row in rows] == [
        ("m-1", '{"note":"=1+1","tokens":9}'),
        ("m-2", '{"note":"=1+1","tokens":9}'),
    ]
    undone = post(f"/{done['id']}/undo", reason="it was none", author="bob").get_json()
    assert (undone["revived"], undone["removed"]) == (2, 2)
    [new, old] = visited.ask("/api/v1/events?idempotency_id=m-1", ADMIN_TOKEN).get_json()["events"]
    assert (new["void_author"], new["void_reason"], new["correction_id"]) == ("bob", "it was none", done["id"])
    assert old["voided_at"] is None


def test_the_call_and_its_events_say_who_when_and_why(visited: Site, post: Post) -> None:
    number = post(kind="void", ids=["m-2"], reason="<b>internal</b>", author="<i>ann</i>").get_json()["id"]
    [event] = visited.ask("/api/v1/events?idempotency_id=m-2", ADMIN_TOKEN).get_json()["events"]
    assert (event["void_author"], event["void_reason"], event["correction_id"]) == (
        "<i>ann</i>",
        "<b>internal</b>",
        number,
    )
    assert event["voided_at"] is not None
    call = visited.ask(f"/api/v1/calls/{event['call_id']}", ADMIN_TOKEN).get_json()
    assert call["events"] == [event]
    page = visited.client.get(f"/calls/{event['call_id']}").get_data(as_text=True)
    batch = f'<a href="/corrections/{number}">correction {number}</a>'
    assert f", by <bdi>&lt;i&gt;ann&lt;/i&gt;</bdi> ({batch}): <bdi>&lt;b&gt;internal&lt;/b&gt;</bdi>" in page
    [other] = visited.ask("/api/v1/events?idempotency_id=m-1", ADMIN_TOKEN).get_json()["events"]
    assert (other["void_author"], other["correction_id"]) == (None, None)


def test_a_request_works_for_a_while_and_the_next_one_goes_on(
    site: Site, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corrector, "STEP_EVENTS", 1)
    monkeypatch.setattr(api, "RUN_SECONDS", 0)
    begun = post(**VOID)
    assert (begun.status_code, begun.get_json()["state"], begun.get_json()["events"]) == (202, "running", 1)
    number = begun.get_json()["id"]
    for events in (2, 3):
        assert post(f"/{number}/resume").get_json()["events"] == events
    assert post(f"/{number}/resume").get_json()["state"] == "finished"
    assert post(f"/{number}/undo", reason="no").status_code == 202
    assert post(f"/{number}/resume").status_code == 202
    check(site.service.database)


@pytest.mark.parametrize(
    ("members", "status", "sentence"),
    [
        ({}, 400, "kind must be void or amend"),
        ({"kind": "replay"}, 400, "kind must be void or amend"),
        ({"kind": "void", "reason": "r"}, 400, "name the events"),
        ({"kind": "void", "ids": ["m-1"]}, 400, "reason must be"),
        ({"kind": "void", "ids": ["m-1"], "reason": "r" * 501}, 400, "reason must be"),
        ({"kind": "void", "ids": ["m-1"], "reason": "r", "author": 7}, 400, "author must be"),
        ({"kind": "void", "ids": ["m-1"], "reason": "r", "dry_run": "yes"}, 400, "dry_run must be true or false"),
        ({"kind": "void", "ids": ["m-1"], "reason": "r", "why": "x"}, 400, "there is no member 'why'"),
        ({"kind": "void", "ids": ["nobody"], "reason": "r"}, 404, "no event with the id"),
        ({"kind": "void", "ids": ["m-1"], "reason": "r", "set": {"customer_id": "x"}}, 400, "belong to the kind amend"),
        ({"kind": "void", "ids": ["m-1"], "reason": "r", "lotus": "x"}, 400, "lotus must be hold, send, difference"),
        ({"kind": "void", "ids": ["m-1"], "reason": "r", "name": ""}, 400, "name must be a text"),
        ({"kind": "amend", "ids": ["m-1"], "reason": "r"}, 400, "set 1 to 50 values"),
        ({"kind": "amend", "ids": ["m-1"], "reason": "r", "set": []}, 400, "set must be a JSON object"),
        ({"kind": "amend", "ids": ["m-1"], "reason": "r", "set": {"customer_id": {}}}, 400, "must be text or a number"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_void(
    site: Site, post: Post, members: dict[str, Any], status: int, sentence: str
) -> None:
    answer = post(**members)
    assert (answer.status_code, sentence in answer.get_json()["message"]) == (status, True)
    assert site.rows(corrections) == []


@pytest.mark.parametrize("path", ["/7", "/x", "/7/events", "/7/events.csv", "/7/undo", "/x/resume"])
def test_a_correction_that_is_not_there_is_not_found(site: Site, post: Post, path: str) -> None:
    is_read = path.count("/") == 1 or "events" in path
    answer = site.ask(f"/api/v1/corrections{path}", ADMIN_TOKEN) if is_read else post(path, reason="r")
    assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")


def test_an_event_of_no_metric_has_no_effect(site: Site, post: Post) -> None:
    site.send(to_raw(a_document(event="Other", messageId="other")))
    assert post(kind="void", ids=["other"], reason="r").get_json()["metrics"] == []
    with site.service.database.reading() as conn:
        assert measure_effect(conn, []) == {}
