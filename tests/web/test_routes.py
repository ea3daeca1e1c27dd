"""Every route of the application: nothing is open that is not meant to be, and nothing ever redirects."""

from collections.abc import Callable, Iterator

import pytest
from werkzeug.test import TestResponse

from app.store.schema import events
from app.web import sign_in as sign_in_module
from tests.builders import a_document, to_raw
from tests.served import ADMIN_TOKEN, WEBHOOK, signed
from tests.sites import Site

# What answers without the admin token. Whoever adds a route that is not here has to guard it, or to say so here.
OPEN = {WEBHOOK, "/healthz", "/readyz", "/sign-in", "/sign-in/link", "/static/1"}

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE")


def paths_of(site: Site) -> Iterator[str]:
    """Every path there is a rule for, with something in place of its variables."""
    for rule in site.app.url_map.iter_rules():
        yield "".join(part if not is_variable else "1" for is_variable, part in rule._trace if part != "|") or "/"


def spellings(path: str) -> list[str]:
    """Other ways to write a path, as a server hands them on."""
    slashes = [f"{path}/", f"{path}//", f"/{path}", f"//{path}", path.replace("/", "//")]
    return [*slashes, path.upper(), f"{path}/.", f"/.{path}", f"/x/..{path}", path.removeprefix("/"), f"{path} "]


def open_at(
    site: Site, path: str, method: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> TestResponse:
    """Send to a path as it is: the client itself would tidy it up."""
    return site.client.open(method=method, data=body, headers=headers, environ_overrides={"PATH_INFO": path})


def test_the_paths_of_the_rules_are_what_they_seem(site: Site) -> None:
    paths = set(paths_of(site))
    assert {WEBHOOK, "/healthz", "/readyz", "/metrics", "/api/v1/calls", "/api/v1/calls/1"} <= paths
    assert site.ask("/api/v1/ledger", ADMIN_TOKEN).status_code == 200


def test_every_route_wants_the_admin_token_or_is_in_the_list_of_open_ones(site: Site) -> None:
    for path in set(paths_of(site)) - OPEN:
        for method in METHODS:
            for headers in ({}, {"Authorization": f"Bearer {ADMIN_TOKEN}x"}, {"Authorization": f"Basic {ADMIN_TOKEN}"}):
                answer = site.client.open(path, method=method, headers=headers)
                # 405 tells only that there is such a route, and so do the OPTIONS that Flask answers by itself.
                says_nothing = method == "OPTIONS" and not answer.get_data()
                assert answer.status_code in {401, 405} or says_nothing, (path, method)
                if answer.status_code == 401 and method != "HEAD":
                    page = answer.content_type.startswith("text/html") and b"<h1>Sign in</h1>" in answer.get_data()
                    assert page or answer.get_json()["code"] == "unauthorized"


def test_the_open_routes_show_nothing_that_is_kept(site: Site) -> None:
    body = to_raw(a_document(userId="somebody", event="Something"))
    site.send(body)
    for path in OPEN:
        for method in METHODS:
            answer = site.client.open(path, method=method)
            assert b"somebody" not in answer.get_data()
            assert b"Something" not in answer.get_data()


@pytest.mark.parametrize("method", METHODS)
def test_no_spelling_of_any_route_redirects(site: Site, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in_module, "DELAY_SECONDS", 0.0)
    for path in {*paths_of(site), "/", "/nowhere", "/api", "/webhooks"}:
        for spelling in (path, *spellings(path)):
            for headers in ({}, {"Authorization": f"Bearer {ADMIN_TOKEN}"}):
                answer = open_at(site, spelling, method, headers=headers)
                assert not 300 <= answer.status_code < 400, (method, spelling)
                assert "Location" not in answer.headers
                assert answer.status_code < 500, (method, spelling)


@pytest.mark.parametrize("spelling", spellings(WEBHOOK))
def test_a_call_to_another_spelling_of_the_webhook_is_stored_or_404_never_delivered_into_nothing(
    site: Site, spelling: str
) -> None:
    body = to_raw(a_document())
    answer = open_at(site, spelling, "POST", body, signed(body))
    if answer.status_code == 200:
        assert answer.get_json()["stored"] == len(site.rows(events)) == 1
    else:
        assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")


def test_an_empty_admin_token_opens_nothing(make_site: Callable[..., Site]) -> None:
    site = make_site(admin_token="")
    for path in ("/metrics", "/api/v1/calls"):
        for value in ("Bearer ", "Bearer", "", "Bearer None"):
            assert site.client.get(path, headers={"Authorization": value}).status_code == 401
    assert "checks" not in site.client.get("/readyz", headers={"Authorization": "Bearer "}).get_json()


def test_the_webhook_takes_no_admin_token_and_the_api_no_credential_of_segments(make_site: Callable[..., Site]) -> None:
    site = make_site(segment_bearer_tokens=("tok-1",))
    body = to_raw(a_document())
    assert site.send(body, {"Authorization": f"Bearer {ADMIN_TOKEN}"}).status_code == 401
    assert site.ask("/api/v1/calls", "tok-1").status_code == 401
    assert site.client.get("/api/v1/calls", headers=signed(b"")).status_code == 401
