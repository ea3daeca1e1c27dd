"""Segment's own library in a real browser, while the service is away: nothing that a page tracks is lost."""

import functools
import http.server
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from app.store.engine import connect
from app.store.schema import events
from tests.builders import rows_of, values_of
from tests.programs import require_program
from tests.served import ROOT, free_port, served

from .conftest import CHROMIUM

SDK = "segment-analytics-next-1.84.3.tgz"
PACKAGE = ROOT / ".cache" / SDK
KEY = "a-write-key"

_SECONDS = 60
"""The library waits up to some seconds before it tries again, longer each time."""

PLAIN = {"strategy": "standard"}
BATCHING = {"strategy": "batching", "config": {"size": 3, "timeout": 200}}

_LOAD = """
([port, key, strategies]) => {
  window.sdks = Object.fromEntries(Object.entries(strategies).map(([name, deliveryStrategy]) => {
    const segment = {apiKey: key + name, apiHost: `127.0.0.1:${port}/v1`, protocol: "http", deliveryStrategy};
    return [name, AnalyticsNext.AnalyticsBrowser.load(
      {writeKey: key + name, cdnSettings: {integrations: {"Segment.io": segment}}},
      {disableClientPersistence: true},
    )];
  }));
}
"""
_TRACK = """
async ([name, event]) => { window.sdks[name].track(event, {page: 1}, {userId: "customer-1"}); }
"""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[str]:
    """The address of a page of somebody's own, with Segment's library as its makers publish it."""
    if not PACKAGE.exists():
        pytest.skip(f"needs .cache/{SDK}: npm pack @segment/analytics-next@1.84.3 --pack-destination .cache")
    with tarfile.open(PACKAGE) as package:
        script = package.extractfile("package/dist/umd/index.js")
        assert script is not None
        (tmp_path / "sdk.js").write_bytes(script.read())
    (tmp_path / "index.html").write_text("<!doctype html><title>Shop</title><script src=/sdk.js></script>")
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name there
        pass


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page of a browser that knows no other machine. Not by a route: then Playwright answers preflights itself."""
    browser = chromium.browser_type.launch(
        executable_path=require_program(*CHROMIUM),
        args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
    )
    yield browser.new_page()
    browser.close()


def test_what_a_page_tracks_while_the_service_is_away_arrives_once(page: Page, shop: str, tmp_path: Path) -> None:
    url, port = f"sqlite:///{tmp_path / 'test.db'}", free_port()
    strategies = {"plain": PLAIN, "batching": BATCHING}
    keys = ",".join(f"{KEY}{name}" for name in strategies)
    failed: list[str] = []
    retried: set[str] = set()
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.on("request", lambda request: retried.update({request.url} if "x-retry-count" in request.headers else {}))
    tracked: Counter[str] = Counter()

    def track(when: str) -> None:
        for name in strategies:
            for number in range(3):
                event = f"{when} {name} {number}"
                page.evaluate(_TRACK, [name, event])
                tracked[event] += 1

    def wait(condition: Callable[[], bool]) -> None:
        until = time.monotonic() + _SECONDS
        while not condition() and time.monotonic() < until:
            page.wait_for_timeout(100)

    def arrived() -> Counter[str]:
        return Counter(values_of(rows_of(database, events, events.c.event_name)))

    with served(url, tmp_path / "before", PORT=str(port), SEGMENT_WRITE_KEYS=keys):
        database = connect(url)
        page.goto(shop)
        page.evaluate(_LOAD, [port, KEY, strategies])
        track("before")
        wait(lambda: arrived() == tracked)
        assert arrived() == tracked
    track("away")
    wait(lambda: {path.rpartition("/")[2] for path in failed} >= {"t", "b"})
    with served(url, tmp_path / "after", PORT=str(port), SEGMENT_WRITE_KEYS=keys):
        track("after")
        wait(lambda: arrived() == tracked)
        assert arrived() == tracked
    # Both tried again as they do, with the header that a preflight has to allow.
    assert {path.rpartition("/")[2] for path in retried} == {"t", "b"}
    database.close()
