"""Sessions: who gets one, what it opens, and what a foreign page cannot do with it."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.web import sign_in as sign_in_module
from app.web.sessions import CSRF_HEADER
from app.web.sign_in import to_local_path
from tests.served import ADMIN_TOKEN
from tests.sites import Site


def sign_in(client: FlaskClient, token: str = ADMIN_TOKEN, place: str = "/", **more: str) -> TestResponse:
    return client.post("/sign-in", data={"token": token, "next": place}, environ_overrides=dict(more))


def csrf_of(client: FlaskClient) -> str:
    with client.session_transaction() as session:
        return str(session["csrf"])


def test_the_admin_token_opens_the_pages_and_the_api_and_signing_out_closes_them(site: Site) -> None:
    assert site.client.get("/").status_code == 401
    answer = sign_in(site.client, place="/calls?outcome=rejected")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/calls?outcome=rejected")
    assert site.client.get("/").status_code == 200
    assert site.client.get("/api/v1/ledger").status_code == 200
    assert site.client.post("/sign-out", data={"csrf": csrf_of(site.client)}).status_code == 303
    assert site.client.get("/").status_code == 401
    assert site.client.get("/api/v1/ledger").status_code == 401


def test_the_cookie_is_for_http_only_and_for_https_where_there_is_https(make_site: Callable[..., Site]) -> None:
    cookie = sign_in(make_site().client).headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie
    behind = make_site(trusted_proxies=1).client
    assert "Secure" in sign_in(behind, HTTP_X_FORWARDED_PROTO="https").headers["Set-Cookie"]
    assert "Secure" not in sign_in(make_site().client, HTTP_X_FORWARDED_PROTO="https").headers["Set-Cookie"]


def test_another_admin_token_ends_every_session(make_site: Callable[..., Site]) -> None:
    before, after = make_site(), make_site(admin_token="another-admin-token")
    sign_in(before.client)
    cookie = before.client.get_cookie("segment_lotus")
    assert cookie is not None
    for site, status in ((make_site(), 200), (after, 401)):
        site.client.set_cookie("segment_lotus", cookie.value)
        assert site.client.get("/").status_code == status


@pytest.mark.parametrize("token", ["", "x", ADMIN_TOKEN[:-1], f"{ADMIN_TOKEN}x", "ü", "\0", "x" * 2000])
def test_any_other_token_opens_nothing(site: Site, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in_module, "DELAY_SECONDS", 0.0)
    answer = sign_in(site.client, token)
    assert answer.status_code == 401
    assert b"This is not the admin token." in answer.get_data()
    assert site.client.get("/").status_code == 401


def test_without_an_admin_token_nobody_signs_in(make_site: Callable[..., Site]) -> None:
    site = make_site(admin_token="")
    assert sign_in(site.client, "").status_code == 401
    assert site.client.get("/").status_code == 401


def test_the_right_token_opens_whatever_wrong_ones_came_before(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in_module, "DELAY_SECONDS", 0.0)
    for _ in range(50):
        assert sign_in(site.client, "guess", REMOTE_ADDR="10.0.0.1").status_code == 401
    assert sign_in(site.client, REMOTE_ADDR="10.0.0.1").status_code == 303


def test_a_wrong_token_is_answered_late_and_beyond_a_bound_at_once(site: Site) -> None:
    guesses = sign_in_module.DELAYED_MAX + 8
    with ThreadPoolExecutor(guesses + 1) as threads:
        began = time.monotonic()
        answers = [threads.submit(sign_in, site.app.test_client(), "guess") for _ in range(guesses)]
        assert threads.submit(sign_in, site.app.test_client()).result().status_code == 303
        statuses = Counter(answer.result().status_code for answer in answers)
    assert statuses == {401: sign_in_module.DELAYED_MAX, 429: 8}
    assert time.monotonic() - began >= sign_in_module.DELAY_SECONDS
    assert sign_in(site.client).status_code == 303


@pytest.mark.parametrize("given", [None, "", "x", "ü"])
def test_a_foreign_page_cannot_change_anything(site: Site, given: str | None) -> None:
    sign_in(site.client)
    answer = site.client.post("/sign-out", data={} if given is None else {"csrf": given})
    assert answer.status_code == 403
    assert site.client.post("/sign-out", headers={CSRF_HEADER: "x"}).status_code == 403
    assert site.client.get("/").status_code == 200


def test_the_bearer_token_needs_no_session_and_no_csrf_token(site: Site) -> None:
    assert site.ask("/api/v1/ledger", ADMIN_TOKEN).status_code == 200
    sign_in(site.client)
    assert site.ask("/api/v1/ledger", "wrong").status_code == 401


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        ("/calls?id=1&x=%2F", "/calls?id=1&x=%2F"),
        ("", "/"),
        ("calls", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/a\\b", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/x\r\nSet-Cookie: a=b", "/"),
        ("/\t/evil.example", "/"),
    ],
)
def test_nobody_is_led_elsewhere(site: Site, asked: str, place: str) -> None:
    assert to_local_path(asked) == place
    assert sign_in(site.client, place=asked).headers["Location"] == place


def test_pages_tell_the_browser_what_they_may_do(site: Site) -> None:
    for path in ("/", "/sign-in", "/nowhere"):
        answer = site.client.get(path, headers={"Accept": "text/html"})
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'self';")
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert site.client.get("/nowhere").get_json()["code"] == "not_found"


def test_files_are_kept_by_the_browser_under_an_address_that_names_what_they_hold(site: Site) -> None:
    page = site.client.get("/sign-in").get_data(as_text=True)
    address = page.split('<link rel="stylesheet" href="')[1].split('"')[0]
    with site.client.get(address) as answer:
        assert (answer.status_code, answer.mimetype) == (200, "text/css")
        assert "max-age=31536000" in answer.headers["Cache-Control"]
