"""The page of one transform, and what a new one begins with."""

import html
import re

import pytest
from werkzeug.test import TestResponse

from tests.builders import a_document, to_raw
from tests.served import ADMIN_TOKEN
from tests.sites import Site
from tests.web.test_sign_in import sign_in


@pytest.fixture
def known(site: Site) -> Site:
    """A site, and somebody who is signed in."""
    sign_in(site.client)
    return site


def send(site: Site, **members: object) -> str:
    """Send a call; return its id."""
    site.send(to_raw(a_document(**members)))
    answer = site.ask("/api/v1/calls?limit=1", ADMIN_TOKEN)
    return str(answer.get_json()["calls"][0]["id"])


def starter_of(answer: TestResponse) -> str:
    """What the editor begins with where there is no text yet."""
    assert answer.status_code == 200
    found = re.search(r'<textarea id="starter"[^>]*>\n(.*?)</textarea>', answer.get_data(as_text=True), re.DOTALL)
    assert found
    return html.unescape(found[1])


def test_the_page_is_for_who_is_signed_in(site: Site) -> None:
    assert site.client.get("/transforms/api_call").status_code == 401
    sign_in(site.client)
    answer = site.client.get("/transforms/api_call")
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert "<script>" not in answer.get_data(as_text=True)


@pytest.mark.parametrize("name", ["..", "a b", "a.yaml", "a%2Fb", "<script>", "x" * 101, "ü"])
def test_what_is_no_name_of_a_file_has_no_page(known: Site, name: str) -> None:
    answer = known.client.get(f"/transforms/{name}")
    assert answer.status_code == 404
    assert "<script>" not in answer.get_data(as_text=True)


@pytest.mark.parametrize("call", ["x", "1", "-1", "9" * 19, "9" * 400, "1.5", "٣"])
def test_a_call_that_is_not_there_is_said(known: Site, call: str) -> None:
    for path in ("/transforms/api_call", "/transforms/new"):
        answer = known.client.get(path, query_string={"call": call})
        assert answer.status_code == 404


def test_a_transform_for_a_call_is_named_for_its_event_and_begins_with_its_properties(known: Site) -> None:
    send(known, messageId="m-0", event="Export Finished", properties={"format": "CSV"})
    call = send(known, messageId="m-1", event="Export Finished", properties={"rows": 12})
    answer = known.client.get(f"/transforms/new?call={call}")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/transforms/export_finished?call={call}")
    text = starter_of(known.client.get(answer.headers["Location"]))
    assert "event: Export Finished" in text
    assert "rows: properties.rows" in text
    assert "format: properties.format" in text
    assert "yaml-language-server" not in text


def test_a_name_that_is_taken_is_not_taken_twice(known: Site) -> None:
    call = send(known, event="Export Finished")
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    body = {"text": "match: {event: Other}\n", "revision": 0}
    assert known.client.put("/api/v1/transforms/export_finished", json=body, headers=headers).status_code == 200
    answer = known.client.get(f"/transforms/new?call={call}")
    assert answer.headers["Location"] == f"/transforms/export_finished_2?call={call}"


def test_without_a_call_new_is_a_name_like_any_other(known: Site) -> None:
    answer = known.client.get("/transforms/new")
    assert "match:" in starter_of(answer)
    assert "<h1>new</h1>" in answer.get_data(as_text=True)


def test_a_call_of_another_type_is_matched_by_its_type(known: Site) -> None:
    call = send(known, type="identify", event=None)
    answer = known.client.get(f"/transforms/new?call={call}")
    assert answer.headers["Location"] == f"/transforms/identify?call={call}"
    text = starter_of(known.client.get(answer.headers["Location"]))
    assert "type: identify" in text
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    body = {"text": text, "call_id": call}
    said = known.client.post("/api/v1/transforms/identify/preview", json=body, headers=headers).get_json()
    assert [one["event_name"] for one in said["draft"]["events"]] == ["identify"]


def test_a_call_that_cannot_be_read_begins_a_blank_text(known: Site) -> None:
    known.send(b"[1]")
    call = known.ask("/api/v1/calls?limit=1", ADMIN_TOKEN).get_json()["calls"][0]["id"]
    answer = known.client.get(f"/transforms/new?call={call}")
    assert answer.headers["Location"] == f"/transforms/an_event?call={call}"
    assert "match:" in starter_of(known.client.get(answer.headers["Location"]))


def test_hostile_names_of_events_stay_text(known: Site) -> None:
    hostile = "</textarea><script>alert(1)</script>"
    call = send(known, event=hostile, properties={hostile: 1})
    answer = known.client.get(known.client.get(f"/transforms/new?call={call}").headers["Location"])
    assert "<script>alert" not in answer.get_data(as_text=True)
    assert hostile in starter_of(answer)


def test_a_browser_keeps_what_its_address_names_and_asks_again_for_what_a_module_imports(site: Site) -> None:
    with site.client.get("/static/editor.js?v=1") as named, site.client.get("/static/editor_text.js") as imported:
        assert "max-age=31536000" in named.headers["Cache-Control"]
        assert imported.headers["Cache-Control"] == "no-cache"
        assert imported.headers["ETag"]
