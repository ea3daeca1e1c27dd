"""The API of transforms over a real service and its real sandboxes, on both databases."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.service.build import Service, build
from app.service.flask_app import create_app
from app.settings import Settings
from app.store.schema import drafts, publications
from app.transforms.sandboxes import SANDBOXES
from tests.builders import DEFAULT_TEXT, SECRET, a_document, rows_of, to_raw
from tests.served import ADMIN_TOKEN, signed

HEADERS = {"Authorization": f"Bearer {ADMIN_TOKEN}"}

TEXT = """\
description: API calls
match: {event: API Call}
event:
  event_name: {const: api_call}
  properties: {tokens: properties.tokens}
examples:
  - name: a usual call
    given: {properties: {tokens: 3}}
    expect: {properties: {tokens: 3}}
"""

TWICE = TEXT.replace("tokens: properties.tokens", "tokens: 'multiply(properties.tokens, `2`)'").replace(
    "expect: {properties: {tokens: 3}}", "expect: {properties: {tokens: 6}}"
)


class Desk:
    """A service, and somebody who edits."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.service = service
        self.folder = folder
        self.app = create_app(service)
        self.client: FlaskClient = self.app.test_client()

    def send(self, **members: Any) -> None:
        raw = to_raw(a_document(**members))
        assert self.client.post("/webhooks/segment", data=raw, headers=signed(raw)).status_code == 200

    def ask(self, method: str, path: str, body: Any = None) -> TestResponse:
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        answer = self.client.open(f"/api/v1/transforms{path}", method=method, data=data, headers=HEADERS)
        assert answer.content_type == "application/json", answer.get_data()
        return answer

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status_code == 200, answer.get_data()
        return json.loads(answer.get_data())

    def do(self, method: str, path: str, **body: Any) -> Any:
        answer = self.ask(method, path, body)
        assert answer.status_code == 200, answer.get_data()
        return json.loads(answer.get_data())

    def refused(self, method: str, path: str, status: int, **body: Any) -> Any:
        answer = self.ask(method, path, body)
        assert answer.status_code == status, answer.get_data()
        return json.loads(answer.get_data())

    def live(self, name: str = "api_call") -> Any:
        return self.get(f"/{name}")["live"]

    def close(self) -> None:
        self.app.extensions[SANDBOXES].close()
        self.service.database.close()


@pytest.fixture
def make_desk(tmp_path: Path, forked_sandboxes: None) -> Iterator[Callable[[str], Desk]]:
    """Makes a desk on a migrated database, with two files."""
    folder = tmp_path / "transforms"
    folder.mkdir()
    (folder / "_default.yaml").write_text(DEFAULT_TEXT)
    (folder / "api_call.yaml").write_text(TEXT)
    made: list[Desk] = []

    def make(url: str) -> Desk:
        settings = Settings(
            database_url=url,
            segment_shared_secrets=(SECRET,),
            admin_token=ADMIN_TOKEN,
            transforms_dir=folder,
            log_level="error",
        )
        made.append(Desk(build(settings), folder))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def desk(make_desk: Callable[[str], Desk], migrated_url: str) -> Desk:
    """A desk on each kind of database."""
    return make_desk(migrated_url)


@pytest.fixture
def lite(make_desk: Callable[[str], Desk], migrated_sqlite_url: str) -> Desk:
    """A desk on SQLite, for what does not depend on the database."""
    return make_desk(migrated_sqlite_url)


# --- What is there


def test_the_list_says_how_each_transform_stands_and_what_it_had_to_do(desk: Desk) -> None:
    desk.send(messageId="1")
    desk.send(messageId="2")
    desk.send(messageId="3", userId="")
    desk.send(messageId="4", event="Other")
    desk.do("PUT", "/tokens", text="half a", revision=0)
    found = desk.get("")
    assert (found["estimated"], found["received"]) == (False, 4)
    by_name = {one["name"]: one for one in found["transforms"]}
    assert list(by_name) == ["_default", "api_call", "tokens"]
    listed = by_name["api_call"]
    assert listed["published_at"].endswith("Z")
    assert len(listed["version"]) == 32
    del listed["published_at"], listed["version"]
    assert listed == {
        "name": "api_call",
        "state": "same",
        "description": "API calls",
        "match": "API Call",
        "origin": "file",
        "enabled": True,
        "calls_24h": 3,
        "failed_24h": 1,
        "examples": 1,
        "examples_passed": 1,
        "has_draft": False,
        "problems": [],
    }
    assert (by_name["_default"]["calls_24h"], by_name["_default"]["match"]) == (
        1,
        "every track call that no other takes",
    )
    assert (by_name["tokens"]["state"], by_name["tokens"]["has_draft"]) == ("draft", True)


def test_a_broken_file_is_told_with_its_sentence_and_the_live_version_stays(lite: Desk) -> None:
    (lite.folder / "api_call.yaml").write_text("match: [")
    listed = next(one for one in lite.get("")["transforms"] if one["name"] == "api_call")
    assert listed["state"] == "broken"
    assert listed["problems"][0].startswith("api_call.yaml:1:")
    assert listed["examples_passed"] == listed["examples"] == 1
    assert lite.live()["text"] == TEXT


def test_one_transform_comes_with_all_that_an_editor_begins_with(desk: Desk) -> None:
    found = desk.get("/api_call")
    assert found["state"] == "same"
    assert found["live"]["text"] == found["file"]["text"] == TEXT
    assert found["draft"] is None
    assert found["problems"] == []
    example = found["examples"][0]
    assert (example["name"], example["given"]) == ("a usual call", {"properties": {"tokens": 3}})
    assert (example["call"]["event"], example["call"]["properties"]) == ("API Call", {"tokens": 3})
    assert [one["version"] for one in found["history"]] == [found["live"]["version"]]
    assert {"coalesce", "sort_by"} <= {one["name"] for one in found["functions"]}
    version = desk.get(f"/api_call/versions/{found['live']['version']}")
    assert (version["text"], version["inherits"]) == (TEXT, desk.live("_default")["version"])


def test_a_name_that_nobody_knows_yet_can_be_begun(lite: Desk) -> None:
    found = lite.get("/export_finished")
    assert (found["live"], found["file"], found["draft"], found["examples"], found["history"]) == (
        None,
        None,
        None,
        [],
        [],
    )
    assert found["state"] == "draft"
    assert lite.refused("GET", "/no.name", 400)["code"] == "transform_invalid"
    assert lite.refused("PUT", "/no.name", 400, text="", revision=0)["code"] == "transform_invalid"
    assert lite.refused("POST", "/no.name/preview", 400, text="")["code"] == "transform_invalid"


@pytest.mark.parametrize("version", ["0" * 32, "zz", "0" * 31, "", "é" * 32])
def test_a_version_that_is_not_there_is_not_found(lite: Desk, version: str) -> None:
    assert lite.ask("GET", f"/api_call/versions/{version}").status_code == 404
    other = lite.live("_default")["version"]
    assert lite.ask("GET", f"/api_call/versions/{other}").status_code == 404


def test_calls_and_paths_are_those_that_the_transform_takes(desk: Desk) -> None:
    for number in range(3):
        desk.send(messageId=f"m-{number}", properties={"tokens": number, "items": [{"a key": "x" * 100}], "at": None})
    desk.send(messageId="other", event="Other", properties={"elsewhere": True})
    calls = desk.get("/api_call/calls?limit=2")["calls"]
    assert [sorted(one) for one in calls] == [
        ["customer_id", "event", "id", "outcome", "reason", "received_at"] for _ in range(2)
    ]
    assert {one["event"] for one in calls} == {"API Call"}
    assert calls[0]["id"] > calls[1]["id"]
    paths = {one["path"]: one["sample"] for one in desk.get("/api_call/paths")["paths"]}
    assert paths["properties.tokens"] == "2"
    assert paths["properties.at"] == "null"
    assert paths['properties.items[]."a key"'].startswith("xxx")
    assert len(paths['properties.items[]."a key"']) == 60
    assert "properties.elsewhere" not in paths
    # Of one that is not live yet, by the event that it is begun for.
    assert desk.get("/new_one/calls")["calls"] == []
    assert [one["event"] for one in desk.get("/new_one/calls?event=Other")["calls"]] == ["Other"]
    assert [one["event"] for one in desk.get("/new_one/calls?event=Oth*")["calls"]] == ["Other"]
    assert {"properties.elsewhere"} <= {one["path"] for one in desk.get("/new_one/paths?event=Other")["paths"]}
    assert [one["event"] for one in desk.get("/_default/calls")["calls"]] == ["Other"]


def test_paths_are_bounded_whatever_the_calls_hold(lite: Desk) -> None:
    lite.send(messageId="wide", properties={f"k{number}": number for number in range(2000)})
    deep: Any = "end"
    for _ in range(50):
        deep = {"a": deep}
    lite.send(messageId="deep", properties=deep)
    lite.send(messageId="odd", properties={"half \ud83d": 1, "": {"\0": "\ud83d"}})
    found = lite.get("/api_call/paths")["paths"]
    assert len(found) == 300
    assert all(len(one["path"]) < 200 for one in found)


# --- Drafts


def test_a_draft_is_saved_without_going_live_even_where_it_is_broken(desk: Desk) -> None:
    before = desk.live()
    saved = desk.do("PUT", "/api_call", text="match: [", revision=0)
    assert (saved["revision"], saved["base"]) == (1, before["version"])
    found = desk.get("/api_call")
    assert found["draft"]["text"] == "match: ["
    assert (found["draft"]["revision"], found["draft"]["base"]) == (1, before["version"])
    assert found["live"] == before
    assert desk.do("PUT", "/api_call", text="match: {", revision=1)["revision"] == 2


def test_of_two_who_edit_the_second_to_save_is_shown_the_others_text_and_nothing_is_lost(desk: Desk) -> None:
    desk.do("PUT", "/api_call", text="the first", revision=0)
    told = desk.refused("PUT", "/api_call", 409, text="the second", revision=0)
    assert told["code"] == "edit_conflict"
    assert told["message"] == "somebody else saved this draft meanwhile; nothing was overwritten"
    assert (told["draft"]["text"], told["draft"]["revision"]) == ("the first", 1)
    # Having seen it, they decide.
    assert desk.do("PUT", "/api_call", text="both", revision=told["draft"]["revision"])["revision"] == 2
    assert desk.refused("DELETE", "/api_call/draft", 409, revision=1)["draft"]["text"] == "both"
    assert desk.do("DELETE", "/api_call/draft", revision=2) == {}
    assert desk.get("/api_call")["draft"] is None
    # Somebody who still has the discarded one open is told that it is gone.
    assert desk.refused("PUT", "/api_call", 409, text="late", revision=2)["draft"] is None


def test_what_a_draft_was_begun_from_can_be_said(lite: Desk) -> None:
    version = lite.live("_default")["version"]
    assert lite.do("PUT", "/new_one", text="a", revision=0, base=None)["base"] is None
    assert lite.do("PUT", "/api_call", text="a", revision=0, base=version)["base"] == version
    assert lite.refused("PUT", "/x", 400, text="a", revision=0, base="no digits")["code"] == "bad_query"


def test_a_text_that_cannot_be_stored_is_refused_with_a_sentence(desk: Desk) -> None:
    told = desk.refused("PUT", "/api_call", 400, text="a\0b", revision=0)
    assert told["message"] == "the text holds a NUL character, which cannot be stored"
    assert desk.ask("PUT", "/api_call", b'{"text": "\\ud83d", "revision": 0}').status_code == 400


# --- Trying


def test_a_preview_shows_both_events_and_where_they_differ(desk: Desk) -> None:
    desk.send(messageId="m-1", properties={"tokens": 4})
    call_id = desk.get("/api_call/calls")["calls"][0]["id"]
    found = desk.do("POST", "/api_call/preview", text=TWICE, call_id=call_id)
    assert found["problems"] == []
    assert found["draft"]["events"] == [
        {
            "event_name": "api_call",
            "idempotency_id": "m-1",
            "customer_id": "customer-1",
            "time_created": "2026-11-01T10:00:00.123000Z",
            "properties": {"tokens": 8},
            "lane": "main",
        }
    ]
    assert (found["draft"]["outcome"], found["draft"]["reason"]) == ("stored", None)
    assert [step["name"] for step in found["draft"]["steps"]] == ["parsed", "transform", "mapped", "checked"]
    assert found["active"]["events"][0]["properties"] == {"tokens": 4}
    assert found["differences"] == [{"path": "properties.tokens", "before": 4, "after": 8}]
    assert [(one["name"], one["passed"], one["message"]) for one in found["examples"]] == [("a usual call", True, None)]
    # Nothing was stored or published by it.
    assert [one["outcome"] for one in desk.get("/api_call/calls")["calls"]] == ["stored"]
    assert desk.live()["text"] == TEXT


def test_a_pasted_call_is_tried_whatever_it_is(lite: Desk) -> None:
    pasted = json.dumps(a_document(properties={"tokens": 1}))
    assert lite.do("POST", "/api_call/preview", text=TEXT, call=pasted)["draft"]["events"]
    for call, reason in (("", "unstorable"), ("[1]", "not_an_object"), ("{}", "type_missing")):
        assert lite.do("POST", "/api_call/preview", text=TEXT, call=call)["draft"]["reason"] == reason
    half = '{"type": "track", "event": "API Call", "userId": "u", "messageId": "m", "timestamp": "2026-01-01T00:00:00Z"'
    odd = half + ', "properties": {"tokens": "\\ud83d", "n": 123456789012345678901234567890}}'
    assert lite.do("POST", "/api_call/preview", text=TEXT, call=odd)["draft"]["steps"]


def test_without_a_call_the_text_is_checked_and_its_examples_run(lite: Desk) -> None:
    found = lite.do(
        "POST", "/api_call/preview", text=TEXT.replace("tokens: 3}}\n    expect", "tokens: 4}}\n    expect")
    )
    assert (found["draft"], found["active"]) == (None, None)
    example = found["examples"][0]
    assert (example["passed"], example["call"]["properties"]) == (False, {"tokens": 4})
    assert "and it is {" in example["message"]
    problem = found["problems"][0]
    assert (problem["line"], problem["column"], problem["blocking"], problem["grave"]) == (7, 5, True, True)


PROBLEMS = {
    "no YAML": ("match: [\n", 2, 1, "expected the node content"),
    "an expression": ("event:\n  customer_id: foo[\n", 2, 20, "event.customer_id: "),
    "a key": ("mtach: {}\n", 1, 1, "mtach: there is no such key; did you mean match?"),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_a_problem_says_where_it_is_and_what_to_do(lite: Desk, case: str) -> None:
    text, line, column, message = PROBLEMS[case]
    found = lite.do("POST", "/api_call/preview", text=text, call="{}")
    problem = found["problems"][0]
    assert (problem["line"], problem["column"], problem["blocking"]) == (line, column, True)
    assert message in problem["message"]
    assert "\n" not in problem["message"]
    assert found["draft"] is None
    assert found["active"]["reason"] == "type_missing"


def test_a_hint_does_not_block_and_what_is_never_reached_does(lite: Desk) -> None:
    hint = lite.do("POST", "/new_one/preview", text="match: {event: New}\n")["problems"]
    assert [one["blocking"] for one in hint] == [False]
    blocking = lite.do("POST", "/zzz/preview", text=TEXT)["problems"]
    assert [one["blocking"] for one in blocking] == [True]
    assert "is taken by api_call before it" in blocking[0]["message"]


def test_a_new_default_that_would_break_an_heir_is_told(lite: Desk) -> None:
    found = lite.do("POST", "/_default/preview", text=DEFAULT_TEXT.replace("userId", "missing"))
    assert any("api_call, which is live and inherits from it" in one["message"] for one in found["problems"])


def test_a_kept_call_that_is_not_there_is_not_found(lite: Desk) -> None:
    for call_id in ("1", "nonsense", "9" * 40, "-1"):
        assert lite.refused("POST", "/api_call/preview", 404, text=TEXT, call_id=call_id)["code"] == "not_found"


def test_the_impact_counts_what_changes_among_the_newest_calls_of_the_transform(desk: Desk) -> None:
    for number in range(4):
        desk.send(messageId=f"m-{number}", properties={"tokens": number})
    desk.send(messageId="text", properties={"tokens": "many"})
    desk.send(messageId="nobody", userId="", properties={"tokens": 1})
    for number in range(3):
        desk.send(messageId=f"other-{number}", event="Other")
    found = desk.do("POST", "/api_call/impact", text=TWICE)
    # 0 doubled is 0; one fails anew, and one failed before and still does.
    assert (found["calls"], found["same"], found["changed"]) == (6, 2, 3)
    assert [(one["kind"], one["count"]) for one in found["changes"]] == [("properties.tokens", 3)]
    assert [(one["kind"], one["count"]) for one in found["newly_failing"]] == [("rejected (transform_error)", 1)]
    assert "multiply()" in found["newly_failing"][0]["detail"]
    assert desk.do("POST", "/api_call/impact", text=TWICE, last=2)["calls"] == 2
    # A new one takes calls from the default: those are what it is about.
    new = TEXT.replace("API Call", "Other")
    assert desk.do("POST", "/other/impact", text=new)["changed"] == 3
    assert desk.refused("POST", "/api_call/impact", 400, text="match: [")["code"] == "transform_invalid"
    assert desk.refused("POST", "/api_call/impact", 400, text=TEXT, last=0)["code"] == "bad_query"


# --- Publishing


def test_a_published_text_is_live_comes_from_the_editor_and_its_draft_is_gone(desk: Desk) -> None:
    before = desk.live()
    draft = desk.do("PUT", "/api_call", text=TWICE, revision=0)
    done = desk.do("POST", "/api_call/publish", text=TWICE, live=before["version"], revision=draft["revision"])
    assert (done["inheriting"], done["draft_kept"]) == ([], False)
    found = desk.get("/api_call")
    assert (found["live"]["version"], found["live"]["origin"]) == (done["version"], "editor")
    assert (found["draft"], found["state"]) == (None, "drift")
    # The process that maps sees it with its next look.
    desk.service.watcher.look()
    desk.send(messageId="m-1", properties={"tokens": 4})
    assert desk.client.get("/api/v1/events", headers=HEADERS).get_json()["events"][0]["properties"] == {"tokens": 8}


def test_a_draft_that_somebody_else_saved_outlives_a_publish(lite: Desk) -> None:
    lite.do("PUT", "/api_call", text="theirs", revision=0)
    done = lite.do("POST", "/api_call/publish", text=TWICE, live=lite.live()["version"])
    assert done["draft_kept"] is True
    assert lite.get("/api_call")["draft"]["text"] == "theirs"


def test_who_believes_that_another_version_is_live_publishes_nothing(desk: Desk) -> None:
    before = desk.live()
    desk.do("POST", "/api_call/publish", text=TWICE, live=before["version"])
    for seen in (before["version"], None):
        told = desk.refused("POST", "/api_call/publish", 409, text=TEXT + "# mine\n", live=seen)
        assert told == {
            "code": "edit_conflict",
            "message": "another version went live meanwhile; nothing was published",
        }
    assert desk.live()["text"] == TWICE


def test_a_new_name_is_published_where_nothing_is_live(desk: Desk) -> None:
    done = desk.do("POST", "/other/publish", text=TEXT.replace("API Call", "Other"), live=None)
    found = desk.get("/other")
    assert (found["live"]["version"], found["state"], found["file"]) == (done["version"], "no_file", None)
    # Nothing is unpublished by a click: there is no file to take.
    assert desk.refused("POST", "/other/resolve", 404, take="file")["code"] == "not_found"
    assert desk.live("other") is not None
    # It can be kept as a file.
    desk.do("POST", "/other/resolve", take="live")
    assert (desk.folder / "other.yaml").read_text() == TEXT.replace("API Call", "Other")
    assert desk.get("/other")["state"] == "same"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("api_call", "match: [", "api_call.yaml:1:9"),
        ("api_call", TEXT.replace("expect: {properties: {tokens: 3}}", "expect: filtered"), "expected filtered"),
        ("zzz", TEXT, "is taken by api_call before it"),
        ("_default", DEFAULT_TEXT.replace("userId", "missing"), "api_call, which is live and inherits from it"),
    ],
)
def test_what_does_not_pass_check_is_not_published(lite: Desk, name: str, text: str, said: str) -> None:
    live = lite.live(name)
    rows = len(rows_of(lite.service.database, publications))
    told = lite.refused("POST", f"/{name}/publish", 400, text=text, live=live["version"] if live else None)
    assert told["code"] == "transform_invalid"
    assert said in told["message"]
    assert len(rows_of(lite.service.database, publications)) == rows


def test_a_new_default_names_the_inheriting_transforms_that_are_live_anew_with_it(desk: Desk) -> None:
    done = desk.do("POST", "/_default/publish", text=DEFAULT_TEXT + "# more\n", live=desk.live("_default")["version"])
    assert done["inheriting"] == done["heirs"] == ["api_call"]
    assert desk.get(f"/api_call/versions/{desk.live()['version']}")["inherits"] == done["version"]


def test_an_earlier_version_is_live_again_after_a_rollback_and_drift_is_resolved_either_way(desk: Desk) -> None:
    first = desk.live()["version"]
    second = desk.do("POST", "/api_call/publish", text=TWICE, live=first)["version"]
    assert desk.do("POST", "/api_call/rollback", version=first) == {"version": first}
    assert [one["version"] for one in desk.get("/api_call")["history"]] == [first, second, first]
    assert desk.refused("POST", "/api_call/rollback", 404, version="0" * 32)["code"] == "not_found"
    desk.do("POST", "/api_call/rollback", version=second)
    assert desk.get("/api_call")["state"] == "drift"
    assert desk.do("POST", "/api_call/resolve", take="file") == {"version": first}
    assert desk.get("/api_call")["state"] == "same"
    desk.do("POST", "/api_call/rollback", version=second)
    assert desk.do("POST", "/api_call/resolve", take="live") == {"version": second}
    assert (desk.folder / "api_call.yaml").read_text() == TWICE
    assert desk.get("/api_call")["state"] == "same"


def test_what_was_published_from_the_editor_is_unpublished_and_its_calls_go_to_the_default(desk: Desk) -> None:
    version = desk.do("POST", "/made_here/publish", text=TEXT.replace("API Call", "Made Here"), live=None)["version"]
    assert desk.live("made_here")["origin"] == "editor"
    assert desk.refused("POST", "/made_here/unpublish", 409, live="0" * 32)["code"] == "edit_conflict"
    assert desk.refused("POST", "/made_here/unpublish", 404, live="what")["code"] == "not_found"
    assert desk.do("POST", "/made_here/unpublish", live=version) == {"version": None}
    document = desk.get("/made_here")
    assert document["live"] is None
    assert [(one["version"], one["origin"]) for one in document["history"]] == [(None, "editor"), (version, "editor")]
    assert desk.refused("POST", "/made_here/unpublish", 404, live=version)["code"] == "not_found"
    desk.service.watcher.look()
    desk.send(event="Made Here", properties={"tokens": 1})
    answer = desk.client.get("/api/v1/calls?event=Made%20Here", headers=HEADERS)
    assert [call["transform"] for call in json.loads(answer.get_data())["calls"]] == ["_default"]
    # It can be brought back.
    assert desk.do("POST", "/made_here/rollback", version=version) == {"version": version}


def test_what_its_file_keeps_live_is_unpublished_after_the_file_is_gone_and_stays_so(desk: Desk) -> None:
    version = desk.live()["version"]
    told = desk.refused("POST", "/api_call/unpublish", 400, live=version)
    assert (told["code"], "api_call.yaml: delete that file" in told["message"]) == ("transform_invalid", True)
    (desk.folder / "api_call.yaml").unlink()
    assert desk.do("POST", "/api_call/unpublish", live=version) == {"version": None}
    (desk.folder / "api_call.yaml").write_text(TWICE)
    assert desk.get("/api_call")["state"] == "drift"


def test_the_default_is_not_unpublished(desk: Desk) -> None:
    version = desk.live("_default")["version"]
    (desk.folder / "_default.yaml").unlink()
    told = desk.refused("POST", "/_default/unpublish", 400, live=version)
    assert told["message"] == "_default cannot be unpublished: all others inherit from it"


# --- Limits and guards


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/api_call"),
        ("DELETE", "/api_call/draft"),
        ("POST", "/api_call/preview"),
        ("POST", "/api_call/impact"),
        ("POST", "/api_call/publish"),
        ("POST", "/api_call/rollback"),
        ("POST", "/api_call/unpublish"),
        ("POST", "/api_call/resolve"),
    ],
)
def test_a_body_that_cannot_be_used_is_refused_with_a_sentence(lite: Desk, method: str, path: str) -> None:
    for body in (b"", b"nonsense", b"[]", b'{"surprise": 1}', b"{}", b"\xff", b"[" * 60_000):
        answer = lite.ask(method, path, body)
        assert (answer.status_code, answer.get_json()["code"]) == (400, "bad_query"), body[:20]
        assert answer.get_json()["message"].startswith("the body cannot be used: ")
    assert rows_of(lite.service.database, drafts) == []


def test_texts_calls_and_bodies_have_a_largest_size(lite: Desk) -> None:
    big = "#" * (256 * 1024 + 1)
    for path, more in (("/preview", {}), ("/impact", {}), ("/publish", {"live": None})):
        told = lite.refused("POST", f"/api_call{path}", 400, text=big, **more)
        assert "larger than the limit of 256 KiB" in told["message"]
    assert "larger than the limit of 256 KiB" in lite.refused("PUT", "/api_call", 400, text=big, revision=0)["message"]
    told = lite.refused("POST", "/api_call/preview", 400, text=TEXT, call=" " * ((1 << 20) + 1))
    assert "the call is larger than" in told["message"]
    answer = lite.ask("POST", "/api_call/preview", b" " * (4 << 20))
    assert (answer.status_code, answer.get_json()["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    "path",
    [
        *("?x=1", "/api_call?x=1", "/api_call/calls?x=1", "/api_call/paths?limit=1"),
        *("/api_call/calls?limit=", "/api_call/calls?event=", "/api_call/paths?event="),
        *("/api_call/calls?limit=1&limit=2", "/api_call/calls?event=a&event=b", "/api_call/paths?event=a&event=a"),
    ],
)
def test_unknown_empty_and_doubled_parameters_are_refused(lite: Desk, path: str) -> None:
    answer = lite.ask("GET", path)
    assert (answer.status_code, answer.get_json()["code"]) == (400, "bad_query")


def test_a_session_changes_something_only_with_its_csrf_token(lite: Desk) -> None:
    client = lite.client
    client.post("/sign-in", data={"token": ADMIN_TOKEN, "next": "/"})
    path = "/api/v1/transforms/api_call"
    body = json.dumps({"text": "a", "revision": 0}).encode()
    assert client.get(path).status_code == 200
    for headers in ({}, {"X-CSRF-Token": "wrong"}):
        assert client.put(path, data=body, headers=headers).status_code == 403
        assert client.post(f"{path}/publish", data=body, headers=headers).status_code == 403
    assert rows_of(lite.service.database, drafts) == []
    with client.session_transaction() as session:
        token = session["csrf"]
    assert client.put(path, data=body, headers={"X-CSRF-Token": token}).status_code == 200


QUERIES = {"": 10, "/api_call": 10, "/api_call/calls": 9, "/api_call/paths": 8}


@pytest.mark.parametrize("path", QUERIES)
def test_the_queries_of_an_answer_do_not_grow_with_what_is_kept(lite: Desk, path: str) -> None:
    lite.send(messageId="first")
    lite.get(path)

    def count() -> int:
        asked: list[str] = []

        def note(_conn: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            asked.append(statement)

        sa.event.listen(lite.service.database.engine, "before_cursor_execute", note)
        try:
            lite.get(path)
        finally:
            sa.event.remove(lite.service.database.engine, "before_cursor_execute", note)
        return len([one for one in asked if not one.startswith(("BEGIN", "PRAGMA"))])

    before = count()
    for number in range(30):
        lite.send(messageId=f"m-{number}")
    lite.do("POST", "/other/publish", text=TEXT.replace("API Call", "Other"), live=None)
    lite.do("PUT", "/api_call", text="a draft", revision=0)
    assert count() == before <= QUERIES[path]
