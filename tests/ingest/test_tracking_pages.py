"""What the pages show of calls that SDKs sent straight here: no link leads nowhere, and each can be sent again."""

import html
import json
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from app.store.schema import calls
from tests.builders import a_document, to_raw
from tests.ingest.test_native import an_event
from tests.served import ADMIN_TOKEN
from tests.sites import Site

KEYS = {"segment_write_keys": ("key-of-the-tests",), "lotus_ingest_keys": ("key-of-the-tests",)}
BY_KEY = {"X-API-KEY": "key-of-the-tests", "Authorization": "Bearer key-of-the-tests"}


@pytest.fixture
def visited(make_site: Callable[..., Site]) -> Site:
    """The application with both tracking APIs open, and somebody signed in."""
    site = make_site(**KEYS)
    assert site.client.post("/sign-in", data={"token": ADMIN_TOKEN}).status_code == 303
    return site


def send(site: Site, path: str, body: Any) -> list[int]:
    """Send to an API; return the ids of all calls."""
    assert site.send(to_raw(body), BY_KEY, path=path).status_code in {200, 201, 400}
    return [one for (one,) in site.rows(calls, calls.c.id)]


def page(site: Site, path: str) -> str:
    answer = site.client.get(path)
    assert answer.status_code == 200, path
    return html.unescape(answer.get_data(as_text=True))


def test_the_page_of_a_native_event_tells_that_nothing_changed_it_and_links_to_no_transform(visited: Site) -> None:
    ids = send(visited, "/api/track/", [an_event(), an_event(properties={}), an_event(customer_id="")])
    for one in ids:
        shown = page(visited, f"/calls/{one}")
        assert "an event in Lotus's own form" in shown
        assert "one of LOTUS_INGEST_KEYS" in shown
        assert "/transforms/built-in" not in shown
    for path in ("/calls", "/problems"):
        assert "/transforms/built-in" not in page(visited, path)
    assert "built-in:lotus" in page(visited, "/calls?transform=built-in:lotus")


def test_a_call_can_be_sent_again_by_the_way_it_came(visited: Site) -> None:
    send(visited, "/v1/track", a_document())
    send(visited, "/v1/batch", {"batch": [a_document(messageId="2")], "sentAt": "2026-11-01", "context": {"a": 1}})
    ids = send(visited, "/api/track", {"batch": [an_event()]})
    for one in ids:
        words = shlex.split(page(visited, f"/calls/{one}/curl"))
        body = words[words.index("%s") + 1]
        path = words[words.index("POST") + 1].removeprefix("http://localhost")
        assert any("<one of " in word for word in words)
        send(visited, path, json.loads(body))
    outcomes = [outcome for (outcome,) in visited.rows(calls, calls.c.outcome)]
    assert outcomes == ["stored"] * 3 + ["duplicate"] * 3
    routes = [route for (route,) in visited.rows(calls, calls.c.route)]
    assert routes[:3] == routes[3:] == ["/v1/track", "/v1/batch", "/api/track/"]


def test_the_setup_page_says_what_is_open_and_why_a_request_was_refused(visited: Site, make_site: Any) -> None:
    shown = page(visited, "/setup")
    assert "1 write key is set" in shown
    assert "1 API key is set" in shown
    assert "key-of-the-tests" not in shown
    for number, (path, way_out) in enumerate(
        (("/v1/track", "The SDK's write key is not in"), ("/api/track/", "The client's API key is not in"))
    ):
        visited.send(b"{}", {"X-API-KEY": "x", "Authorization": "Bearer x"}, path=path)
        visited.refusals(number + 1)
        assert way_out in page(visited, "/setup/arrivals")
    closed = make_site(segment_write_keys=(), lotus_ingest_keys=())
    assert closed.client.post("/sign-in", data={"token": ADMIN_TOKEN}).status_code == 303
    assert page(closed, "/setup").count('<span class="chip">off</span>') == 2
