"""The pages of corrections: counted, asked, made void or amended, undone; on a real application."""

import html
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


VALUES = {"set_customer_id": "other", "set_properties": "tokens=7\r\nnote=two words", "unset_properties": "none"}


def test_events_get_other_values_after_they_were_counted_and_shown(signed_in: Site) -> None:
    by_customer = {"customer": "customer-1"}
    first = post(signed_in, "/corrections/amend", **by_customer)
    html5lib.HTMLParser(strict=True).parse(first.get_data(as_text=True))
    assert "Amend 3 events" in text_of(first)
    asked = post(signed_in, "/corrections", **by_customer, **VALUES)
    html5lib.HTMLParser(strict=True).parse(asked.get_data(as_text=True))
    text = text_of(asked)
    for words in ("Amend 3 events?", "customer_id=other", "properties.note=two words", "properties.none removed", "21"):
        assert words in text
    hidden = {
        name: html.unescape(value)
        for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', asked.get_data(as_text=True))
        if name in {"customer", "counted_at", *VALUES}
    }
    assert signed_in.rows(corrections) == []
    # Two people: the second is told.
    one = post(signed_in, "/corrections/start", id="m-1", set_properties="tokens=1000", reason="r", author="bob")
    started = post(signed_in, "/corrections/start", **hidden, reason="wrong one", author="ann", name="October <b>")
    assert (one.status_code, started.status_code) == (303, 303)
    page = signed_in.client.get(started.location)
    html5lib.HTMLParser(strict=True).parse(page.get_data(as_text=True))
    text = text_of(page)
    for words in (
        "October <b>",
        "2 events were amended",
        "1 was corrected by somebody else after you counted",
        "as CSV",
    ):
        assert words in text
    check(signed_in.service.database)
    assert "October <b>" in text_of(signed_in.client.get("/corrections"))
    undone = post(signed_in, f"{started.location}/undo", reason="it was right", author="ann")
    assert undone.status_code == 303
    assert "2 events of the correction count no more" in text_of(signed_in.client.get(started.location))
    check(signed_in.service.database)


def test_other_pages_lead_to_the_form_with_their_events(signed_in: Site) -> None:
    events = signed_in.client.get("/usage/events?metric=tokens&customer_id=customer-1&start=2020-01-01").get_data(True)
    [address] = re.findall(r'href="(/corrections\?event_name=[^"]+)"', events)
    form = signed_in.client.get(html.unescape(address)).get_data(as_text=True)
    html5lib.HTMLParser(strict=True).parse(form)
    for field in ('name="event_name" value="api_call"', 'name="customer" value="customer-1"', 'value="2020-01-01T'):
        assert field in form
    assert 'href="/corrections?id=m-1"' in events
    calls = signed_in.client.get("/calls?customer=customer-1&event=api_call&since=7d").get_data(as_text=True)
    assert "/corrections?call_event=api_call&amp;customer=customer-1&amp;received_since=7d" in calls
    for filters in ("", "?q=x&customer=c", "?customer=c&outcome=rejected"):
        assert "/corrections?" not in signed_in.client.get(f"/calls{filters}").get_data(as_text=True)
    assert signed_in.client.get("/corrections?color=red").status_code == 400


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
        ("/corrections/amend", {"customer": "nobody"}, 404),
        ("/corrections", {"customer": "customer-1", "set_customer_id": "c" * 51}, 400),
        ("/corrections", {"customer": "customer-1", "set_properties": "tokens"}, 400),
        ("/corrections/start", {"customer": "customer-1", "author": "ann"}, 400),
        ("/corrections/start", {"customer": "customer-1", "reason": "r", "author": "ann", "counted_at": "x"}, 400),
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
