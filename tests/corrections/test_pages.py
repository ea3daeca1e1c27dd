"""The pages of corrections: counted, asked, made void, undone; on a real application."""

import re

import html5lib
import pytest
from werkzeug.test import TestResponse

from app.corrections import pages
from app.store.schema import corrections
from tests.builders import a_document, to_raw
from tests.corrections.correcting import METRICS, check
from tests.metrics.conftest import publish
from tests.service.test_setup import text_of
from tests.sites import Site
from tests.web.test_sign_in import sign_in

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def signed_in(site: Site) -> Site:
    sign_in(site.client)
    publish(site.service.database, *METRICS)
    for number in (1, 2, 3):
        site.send(to_raw(a_document(event="api_call", messageId=f"m-{number}", properties={"tokens": number})))
    return site


def post(site: Site, path: str, **fields: str) -> TestResponse:
    page = site.client.get("/corrections").get_data(as_text=True)
    [token, *_] = re.findall(r'name="csrf" value="([^"]+)"', page)
    return site.client.post(path, data={"csrf": token, **fields})


def test_events_are_counted_first_then_made_void_and_count_again_after_the_undo(signed_in: Site) -> None:
    asked = post(signed_in, "/corrections", customer="customer-1", event_name="")
    assert asked.status_code == 200
    html5lib.HTMLParser(strict=True).parse(asked.get_data(as_text=True))
    text = text_of(asked)
    assert "Void 3 events?" in text
    assert "-6" in text
    assert signed_in.rows(corrections) == []

    words = {"customer": "customer-1", "reason": f"internal {HOSTILE}", "author": "ann"}
    started = post(signed_in, "/corrections/start", **words)
    assert started.status_code == 303
    page = signed_in.client.get(started.location)
    html5lib.HTMLParser(strict=True).parse(page.get_data(as_text=True))
    assert HOSTILE not in page.get_data(as_text=True)
    assert "3 events were made void" in text_of(page)
    assert "m-1" in text_of(page)
    assert "ann" in text_of(signed_in.client.get("/corrections"))
    check(signed_in.service.database)
    # Two people: the second is told.
    assert "void already" in text_of(post(signed_in, "/corrections", customer="customer-1"))
    assert post(signed_in, "/corrections/start", **words).status_code == 409

    undone = post(signed_in, f"{started.location}/undo", reason="they were not", author="bob")
    assert undone.status_code == 303
    assert "3 events count again" in text_of(signed_in.client.get(started.location))
    assert post(signed_in, f"{started.location}/undo", reason="x", author="bob").status_code == 409
    check(signed_in.service.database)


def test_a_batch_that_takes_long_goes_on_by_a_click(signed_in: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "RUN_SECONDS", 0.0)
    monkeypatch.setattr("app.corrections.corrector.STEP_EVENTS", 2)
    started = post(signed_in, "/corrections/start", customer="customer-1", reason="r", author="a")
    assert "It is not at its end" in text_of(signed_in.client.get(started.location))
    assert post(signed_in, f"{started.location}/resume").status_code == 303
    assert "3 events were made void" in text_of(signed_in.client.get(started.location))
    check(signed_in.service.database)


def test_the_page_of_a_call_leads_there(signed_in: Site) -> None:
    call_id = signed_in.client.get("/api/v1/calls?limit=1").get_json()["calls"][0]["id"]
    page = signed_in.client.get(f"/calls/{call_id}").get_data(as_text=True)
    assert 'action="/corrections"' in page
    assert "Void 1 event?" in text_of(post(signed_in, "/corrections", call=call_id))
    started = post(signed_in, "/corrections/start", call=call_id, reason="r", author="a")
    assert f'href="{started.location}"' in signed_in.client.get(f"/calls/{call_id}").get_data(as_text=True)


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/corrections", {}, 400),
        ("/corrections", {"since": "7d"}, 400),
        ("/corrections", {"customer": "nobody"}, 404),
        ("/corrections", {"id": "no-such-id"}, 404),
        ("/corrections", {"color": "red"}, 400),
        ("/corrections/start", {"customer": "customer-1", "author": "ann"}, 400),
        ("/corrections/start", {"customer": "customer-1", "reason": "r"}, 400),
        ("/corrections/1/undo", {"reason": "r", "author": "a"}, 404),
        ("/corrections/x/undo", {"reason": "r", "author": "a"}, 404),
        ("/corrections/1/resume", {}, 404),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    signed_in: Site, path: str, fields: dict[str, str], status: int
) -> None:
    assert post(signed_in, path, **fields).status_code == status
    assert signed_in.rows(corrections) == []
    assert signed_in.client.post(path, data=fields).status_code == 403, "without a token of this session"
