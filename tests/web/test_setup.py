"""The setup page over a real service: what is shown, what is hidden, and what is said about what came."""

import re
from collections.abc import Callable
from html import unescape

import html5lib
import pytest
from werkzeug.test import TestResponse

from app import errors
from app.store.schema import calls, events
from app.web.setup import TESTER, WAYS_OUT
from tests.builders import SECRET, a_document, to_raw
from tests.served import ROOT, signed
from tests.web.conftest import Site
from tests.web.queries import queries_of
from tests.web.test_sign_in import csrf_of, sign_in


def text_of(answer: TestResponse) -> str:
    """What a page says, in one line, after checking that it is valid HTML."""
    assert answer.status_code == 200, answer.get_data()
    page = html5lib.HTMLParser(strict=True).parse(answer.get_data(as_text=True))
    return " ".join("".join(page.itertext()).split())


def open_setup(site: Site, path: str = "/setup") -> str:
    return text_of(site.client.get(path))


def arrivals(site: Site) -> str:
    answer = site.client.get("/setup/arrivals")
    assert answer.status_code == 200
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", answer.get_data(as_text=True))).split())


def test_the_secret_is_in_no_page_until_it_is_asked_for(site: Site) -> None:
    sign_in(site.client)
    for path in ("/setup", "/setup/arrivals"):
        assert SECRET not in site.client.get(path).get_data(as_text=True)
    shown = site.client.post("/setup/secret", data={"csrf": csrf_of(site.client)})
    assert SECRET in shown.get_data(as_text=True)
    assert shown.headers["Cache-Control"] == "no-store"
    headers = {"X-CSRF-Token": csrf_of(site.client), "Accept": "application/json"}
    fetched = site.client.post("/setup/secret", headers=headers)
    assert fetched.get_json() == {"secrets": [SECRET]}
    assert fetched.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/setup/secret", "/setup/test"])
def test_a_foreign_page_gets_no_secret_and_sends_no_test(site: Site, path: str) -> None:
    assert site.client.post(path).status_code == 401
    sign_in(site.client)
    for data in ({}, {"csrf": "x"}):
        answer = site.client.post(path, data=data)
        assert answer.status_code == 403
        assert SECRET not in answer.get_data(as_text=True)
    assert site.client.get(path).status_code == 405
    assert site.rows(calls) == []


def test_the_url_is_the_public_one_else_the_one_the_browser_knows(make_site: Callable[..., Site]) -> None:
    site = make_site(public_url="https://bill.example/lotus")
    sign_in(site.client)
    page = site.client.get("/setup").get_data(as_text=True)
    assert 'value="https://bill.example/lotus/webhooks/segment"' in page
    assert "cannot reach" not in page
    plain = make_site()
    sign_in(plain.client)
    assert "Segment cannot reach this address" in open_setup(plain)
    outside = plain.client.get("/setup", base_url="http://host.example").get_data(as_text=True)
    assert "Sign in" in outside  # a cookie is for its host


def test_a_test_call_is_signed_taken_and_kept_and_bills_nobody(site: Site) -> None:
    sign_in(site.client)
    said = text_of(site.client.post("/setup/test", data={"csrf": csrf_of(site.client)}))
    assert "The test call was taken, and kept." in said
    assert "The test call arrived" in arrivals(site)
    [(customer, outcome)] = site.rows(calls, calls.c.customer_id, calls.c.outcome)
    assert (customer, outcome) == (TESTER, "ignored")
    assert site.rows(events) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"segment_shared_secrets": (), "segment_bearer_tokens": ("tok-1",)},
        {"segment_shared_secrets": (), "segment_basic_auth": ("user:password",)},
    ],
)
def test_without_a_secret_the_test_call_carries_what_there_is(
    make_site: Callable[..., Site], settings: dict[str, tuple[str, ...]]
) -> None:
    site = make_site(**settings)
    sign_in(site.client)
    assert "No shared secret is set" in open_setup(site)
    said = text_of(site.client.post("/setup/test", data={"csrf": csrf_of(site.client)}))
    assert "The test call was taken, and kept." in said


def test_a_refused_test_call_says_why(make_site: Callable[..., Site]) -> None:
    site = make_site(max_body_bytes=64)
    sign_in(site.client)
    said = text_of(site.client.post("/setup/test", data={"csrf": csrf_of(site.client)}))
    assert "The test call was refused: too_large." in said
    site.refusals(1)
    assert "Set a smaller batch size" in arrivals(site)


def test_what_came_last_is_said(site: Site) -> None:
    sign_in(site.client)
    assert "Waiting for the first call" in arrivals(site)
    body = to_raw(a_document(event="<b>bold</b>"))
    site.send(body, {})
    site.refusals(1)
    assert WAYS_OUT["signature_missing"][:40] in arrivals(site)
    site.send(body)
    assert "Calls arrive." in arrivals(site)
    assert "<b>bold" not in site.client.get("/setup/arrivals").get_data(as_text=True)
    site.send(b"{", signed(b"{"))
    site.refusals(2)
    assert "The last request was refused: unparsable_json" in arrivals(site)


def test_there_is_a_way_out_for_every_code_that_a_request_is_refused_with() -> None:
    kinds = (errors.RequestRefused, errors.Unavailable)
    found = [
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.SegmentLotusError)
    ]
    codes = {each.code for each in found if issubclass(each, kinds)} - {"error"}
    assert codes == set(WAYS_OUT)


def test_the_page_and_the_readme_tell_the_same_steps(site: Site) -> None:
    sign_in(site.client)
    page = open_setup(site)
    section = (ROOT / "README.md").read_text().split("## Configure it in Segment")[1].split("\n## ")[0]
    steps = section.split("The page `/setup`")[0]
    said = re.findall(r"\*\*(.+?)\*\*|\*([A-Z].+?)\*", " ".join(steps.split()))
    assert len(said) >= 10
    for phrase in (bold or italic for bold, italic in said):
        assert phrase in page, phrase


def test_a_page_asks_the_database_a_few_times(site: Site) -> None:
    sign_in(site.client)
    site.send(to_raw(a_document()))
    site.send(b"x", {})
    site.refusals(1)
    # The newest call's id, the call, its idempotency ids, the newest refusal.
    assert len(queries_of(site, "/setup")) == 4
    assert len(queries_of(site, "/setup/arrivals")) == 4
