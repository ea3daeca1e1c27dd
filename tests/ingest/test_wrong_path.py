"""Segment at another path than the webhook's: a clear answer, and a record that the setup page explains."""

import re
from html import unescape

import pytest

from app.store.schema import refusals
from tests.builders import a_document, to_raw
from tests.served import signed
from tests.sites import SEGMENT_ADDRESS, Site

BODY = to_raw(a_document())

WRONG = [
    ("POST", "/", 405),
    ("POST", "/webhook", 404),
    ("PUT", "/Webhooks/Segment", 404),
    ("PATCH", "/webhooks/segment/extra", 404),
    ("POST", "//webhooks/segment", 404),
    ("POST", "/healthz", 405),
    ("POST", "/%FF\u202e", 404),
]


@pytest.mark.parametrize(("method", "path", "status"), WRONG)
def test_what_segment_posts_to_a_wrong_path_is_answered_and_recorded(
    site: Site, method: str, path: str, status: int
) -> None:
    answer = site.segment(BODY, path=path, method=method)
    assert answer.status_code == status
    assert answer.content_type == "application/json"
    document = answer.get_json()
    assert document["code"] == {404: "not_found", 405: "method_not_allowed"}[status]
    assert document["message"].endswith(": Segment's requests belong to /webhooks/segment")
    assert (answer.headers.get("Allow") is not None) is (status == 405)
    (refusal,) = site.refusals(1)
    assert (refusal.code, refusal.method, refusal.sender) == ("wrong_path", method, "segment")
    assert refusal.client == SEGMENT_ADDRESS


@pytest.mark.parametrize(
    "headers", [{"User-Agent": "Segment (Actions)"}, {"User-Agent": "Segment.io/1.0"}, {"X-Signature": "x"}]
)
def test_a_signature_or_the_name_of_segment_is_enough(site: Site, headers: dict[str, str]) -> None:
    # It looks for pages, and would get one.
    site.send(b"{}", {**headers, "Accept": "text/html"}, path="/hook")
    assert [refusal.path for refusal in site.refusals(1)] == ["/hook"]


def test_others_and_other_answers_are_not_recorded(site: Site) -> None:
    for method, path, headers in (
        ("POST", "/webhook", {}),
        ("POST", "/webhook", {"User-Agent": "curl/8"}),
        ("GET", "/webhook", {"X-Signature": "x"}),
        ("POST", "/sign-in", {"X-Signature": "x"}),
        ("POST", "/calls", {}),
    ):
        site.send(b"{}", headers, method=method, path=path)
    assert site.send(BODY).status_code == 200
    site.send(b"{}", {}, path="/webhooks/segment")
    assert [refusal.code for refusal in site.refusals(1)] == ["signature_missing"]
    assert len(site.rows(refusals)) == 1


def test_the_setup_page_says_where_segment_comes_and_where_it_belongs(visited: Site) -> None:
    visited.segment(BODY, path="/webhook")
    visited.refusals(1)
    shown = visited.client.get("/setup/arrivals").get_data(as_text=True)
    text = " ".join(unescape(re.sub(r"<[^>]*>", " ", shown)).split())
    assert "It came to /webhook ; the webhook's URL ends in /webhooks/segment" in text
    assert "Segment reaches this service, at another path" in text


def test_a_mismatch_is_told_on_the_page_and_never_to_the_sender(visited: Site) -> None:
    token = visited.service.settings.admin_token
    answer = visited.segment(BODY, signed(BODY, secret=token))
    assert answer.get_json()["message"].startswith("X-Signature is not the HMAC-SHA1 of this body")
    assert "ADMIN_TOKEN" not in answer.get_data(as_text=True)
    (refusal,) = visited.refusals(1)
    assert "It was signed with a value of ADMIN_TOKEN." in (refusal.diagnosis or "")
    for path in ("/setup/arrivals", "/api/v1/refused"):
        shown = visited.client.get(path).get_data(as_text=True)
        assert "It was signed with a value of ADMIN_TOKEN." in shown
        assert token not in shown
