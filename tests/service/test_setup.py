"""The setup page over a real service: what is shown, what is hidden, and what is said about what came."""

import re
from collections.abc import Callable
from html import unescape

import html5lib
import pytest
from werkzeug.test import TestResponse

from app import errors
from app.clock import clock
from app.core.credentials import fingerprint
from app.service.remedies import REMEDIES
from app.service.setup import TESTER
from app.store.schema import calls, events, sightings
from tests.builders import SECRET, a_document, to_raw
from tests.served import ADMIN_TOKEN, ROOT, signed, wait_until
from tests.sites import Site
from tests.web.queries import queries_of
from tests.web.test_sign_in import csrf_of, sign_in
from tests.web.visiting import send


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
    assert "The test call was accepted and stored." in said
    wait_until(lambda: "From this machine: one was accepted" in arrivals(site))
    assert "Nothing has come from Segment yet." in arrivals(site)
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
    assert "The test call was accepted and stored." in said


def test_a_refused_test_call_says_why(make_site: Callable[..., Site]) -> None:
    site = make_site(max_body_bytes=64)
    sign_in(site.client)
    said = text_of(site.client.post("/setup/test", data={"csrf": csrf_of(site.client)}))
    assert "The test call was refused: too_large." in said
    site.refusals(1)
    assert "Set a smaller Batch Size" in arrivals(site)


def looks(site: Site) -> str:
    """How the first part of the status looks: what a script and a reader see."""
    return str(re.findall(r'data-arrived="(\w+)"', site.client.get("/setup/arrivals").get_data(as_text=True))[0])


def test_only_segment_turns_the_page_green_and_only_a_loss_turns_it_red(site: Site) -> None:
    sign_in(site.client)
    assert (looks(site), "Waiting for the first call" in arrivals(site)) == ("no", True)
    body = to_raw(a_document(event="<b>bold</b>"))
    # This machine and a stranger: `send`, and whoever looks for open doors.
    site.send(body, {})
    site.segment(b"x", {"User-Agent": "<b>zgrab</b>"}, address="203.0.113.9")
    site.refusals(2)
    assert looks(site) == "no"
    for shown in ("1 request from strangers was refused", "203.0.113.9", "1 request from this machine was refused"):
        assert shown in arrivals(site)
    site.send(body)
    wait_until(lambda: looks(site) == "others")
    site.segment(body, {"User-Agent": "Segment (Actions)"})
    site.refusals(3)
    assert looks(site) == "refused"
    assert REMEDIES["signature_missing"][:40] in arrivals(site)
    assert "from Segment (198.51.100.7)" in arrivals(site).replace("( ", "(").replace(" )", ")")
    site.segment(body)
    wait_until(lambda: looks(site) == "call")
    assert "Calls arrive from Segment." in arrivals(site)
    shown = site.client.get("/setup/arrivals").get_data(as_text=True)
    assert "<b>bold" not in shown
    assert "<b>zgrab" not in shown
    site.segment(b"{", signed(b"{"))
    site.refusals(4)
    assert "The last request was refused: unparsable_json" in arrivals(site)


def acknowledge(site: Site, until: object, **more: str) -> int:
    data = {"csrf": csrf_of(site.client), "until": str(until), **more}
    return site.client.post("/setup/acknowledge", data=data).status_code


def test_what_was_refused_is_acknowledged_until_something_new_comes(site: Site) -> None:
    sign_in(site.client)
    site.segment(b"x", {})
    site.refusals(1)
    until = re.findall(r'name="until" value="(\d+)"', site.client.get("/setup/arrivals").get_data(as_text=True))[0]
    assert 'name="until"' in site.client.get("/").get_data(as_text=True)
    assert site.client.post("/setup/acknowledge", data={"until": until}).status_code == 403
    assert acknowledge(site, until, csrf="x") == 403
    for wrong in ("", "-1", "1.5", "\N{ARABIC-INDIC DIGIT ONE}", "9" * 40):
        assert acknowledge(site, wrong) == 400
    assert looks(site) == "refused"
    assert acknowledge(site, until, back="/?range=hour") == 303
    assert looks(site) == "no"
    assert 'role="alert"' not in site.client.get("/").get_data(as_text=True)
    # The list of refused requests keeps it, and the next one is shown again, whatever time the form named.
    acknowledge(site, clock() + 10**12)
    site.segment(b"y", {})
    assert len(site.refusals(2)) == 2
    assert looks(site) == "refused"


def test_each_secret_says_when_it_was_last_used_and_is_not_shown(make_site: Callable[..., Site]) -> None:
    secrets = ("the-old-secret", "the-new-secret")
    site = make_site(segment_shared_secrets=secrets)
    sign_in(site.client)
    assert open_setup(site).count("has not been used yet") == 2
    body = to_raw(a_document())
    site.segment(body, signed(body, secret=secrets[1]))
    wait_until(lambda: open_setup(site).count("has not been used yet") == 1)
    page = open_setup(site)
    assert re.search(r"Secret 1 \([0-9a-f]{8}\) has not been used yet", page)
    assert re.search(r"Secret 2 \([0-9a-f]{8}\) was last used at 20", page)
    stored = repr(site.rows(sightings))
    for secret in secrets:
        assert secret not in page + stored
    # With another key the digits are others: nobody who reads the database can try secrets.
    assert fingerprint(secrets[1], ADMIN_TOKEN) in stored
    assert fingerprint(secrets[1], "another") not in stored


def test_who_sends_is_written_once_a_minute_however_many_come(site: Site) -> None:
    body = to_raw(a_document())
    for _ in range(5):
        site.segment(body)

    def names() -> set[str]:
        return {name.partition(":")[0] for name, _ in site.rows(sightings)}

    wait_until(lambda: {"arrived", "secret"} <= names())
    before = site.rows(sightings)
    for _ in range(5):
        site.segment(body)
        site.segment(body, address="198.51.100.8")
    assert site.rows(sightings) == before


def test_there_is_a_way_out_for_every_code_that_a_request_is_refused_with() -> None:
    kinds = (errors.RequestRefused, errors.Unavailable)
    found = [
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.SegmentLotusError)
    ]
    codes = {each.code for each in found if issubclass(each, kinds)} - {"error"}
    assert codes == set(REMEDIES)


def test_a_proxy_that_no_setting_tells_of_is_said(make_site: Callable[..., Site]) -> None:
    site = make_site()
    sign_in(site.client)
    assert "TRUSTED_PROXIES is 0" not in open_setup(site)
    through = {"X-Forwarded-For": "192.0.2.1"}
    assert "TRUSTED_PROXIES is 0" in text_of(site.client.get("/setup", headers=through))
    # Noted, so that whoever comes by another way sees it as well.
    wait_until(lambda: "X-Forwarded-For arrives" in open_setup(site))
    declared = make_site(trusted_proxies=1)
    sign_in(declared.client)
    assert "X-Forwarded-For arrives" not in text_of(declared.client.get("/setup", headers=through))


def test_any_request_tells_of_a_proxy_and_it_is_noted_once_an_hour(site: Site) -> None:
    def noted() -> list[int]:
        return [seen_at for name, seen_at in site.rows(sightings) if name == "untrusted_proxy"]

    body = to_raw(a_document())
    for _ in range(3):
        assert site.send(body, {**signed(body), "X-Forwarded-For": "192.0.2.1"}).status_code == 200
    wait_until(noted)
    [seen_at] = noted()
    assert abs(seen_at - clock()) < 60_000_000
    site.send(body, {**signed(body), "X-Forwarded-For": "192.0.2.1"})
    assert noted() == [seen_at]


@pytest.mark.parametrize("proxies", [0, 1])
def test_a_forwarded_host_decides_nothing(make_site: Callable[..., Site], proxies: int) -> None:
    site = make_site(trusted_proxies=proxies)
    forged = {
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Server": "evil.example",
        "X-Forwarded-Port": "666",
        "X-Forwarded-Prefix": "/evil",
        "X-Host": "evil.example",
        "X-Original-Url": "//evil.example/",
        "X-Rewrite-Url": "//evil.example/",
        "Forwarded": "host=evil.example;proto=https",
    }
    answer = site.client.post("/sign-in", data={"token": ADMIN_TOKEN, "next": "/setup"}, headers=forged)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/setup")
    [call_id] = send(site)
    for path in (
        "/setup",
        "/",
        "/calls",
        "/usage",
        f"/calls/{call_id}",
        f"/calls/{call_id}/curl",
        "/nowhere",
        "/calls/",
    ):
        shown = site.client.get(path, headers={**forged, "Accept": "text/html"})
        assert "evil" not in shown.get_data(as_text=True)
        assert "evil" not in str(shown.headers)
    assert 'value="http://localhost/webhooks/segment"' in site.client.get("/setup", headers=forged).get_data(
        as_text=True
    )


def test_the_page_and_the_documentation_tell_the_same_steps(site: Site) -> None:
    sign_in(site.client)
    page = open_setup(site)
    section = (ROOT / "docs" / "segment.md").read_text().split("## Webhook destination")[1].split("\n## ")[0]
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
    # The newest call's id, the call, its idempotency ids, who was seen, the refused requests and the last of them.
    assert len(queries_of(site, "/setup")) == 6
    assert len(queries_of(site, "/setup/arrivals")) == 6
