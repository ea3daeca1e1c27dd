"""Doubles under new ids, and a replay that corrects, in a browser."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from app.store.engine import connect
from tests.browser.conftest import NARROW, WIDE, Visitor
from tests.builders import DEFAULT_TEXT, a_document, published, some_transforms, to_raw
from tests.served import ROOT, Served, served, signed


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service with a retry under a new id, and a heartbeat."""
    folder = tmp_path_factory.mktemp("lookalikes")
    with served(
        f"sqlite:///{folder / 'test.db'}", folder, WEB_CONCURRENCY="1", METRICS_DIR=str(ROOT / "metrics")
    ) as running:
        for id_, minute, tokens in (
            ("a", 0, 9),
            (f"again-{'x' * 200}", 1, 9),
            *((f"beat-{n}", n, 1) for n in range(4)),
        ):
            timestamp = f"2026-11-01T10:{minute:02}:00Z"
            properties = {"endpoint": "/v1/complete", "input_tokens": tokens}
            call = a_document(event="API Call", messageId=id_, timestamp=timestamp, properties=properties)
            assert running.post(to_raw(call), signed(to_raw(call))).json["stored"] == 1
        yield running


def look(visitor: Visitor, name: str) -> None:
    """Check a page, on a desk and on a phone."""
    for size in (NARROW, WIDE):
        visitor.page.set_viewport_size(size)
        visitor.check()
        if folder := os.environ.get("SHOTS"):
            visitor.page.screenshot(path=f"{folder}/{name}-{size['width']}.png", full_page=True)


def test_doubles_are_found_behind_a_number_and_void_but_for_the_first(visitor: Visitor) -> None:
    page = visitor.sign_in("/usage/events?metric=api_calls&start=2026-11-01&end=2026-12-01&customer_id=customer-1")
    look(visitor, "events")
    page.get_by_role("link", name="Doubles under new ids").click()
    expect(page.get_by_role("heading", name="Lookalikes")).to_be_visible()
    expect(page.get_by_text("It looks ordinary: they come at even intervals.")).to_be_visible()
    boxes = page.get_by_role("checkbox")
    expect(boxes).to_have_count(2)
    expect(boxes.first).to_be_checked()
    expect(boxes.last).not_to_be_checked()
    look(visitor, "lookalikes")
    page.get_by_role("button", name="Count them first").click()
    expect(page.get_by_role("heading", name="Void 1 event?")).to_be_visible()
    look(visitor, "lookalikes-ask")
    page.get_by_label("Reason").fill("the sender retries with new ids")
    page.get_by_label("Your name").fill("ann")
    page.get_by_role("button", name="Void 1 event").click()
    expect(page.get_by_text("1 event was made void")).to_be_visible()


def test_a_replay_that_corrects_is_asked_about_and_is_a_batch(visitor: Visitor) -> None:
    database = connect(visitor.service.database_url)
    published(database, some_transforms(DEFAULT_TEXT.replace("customer_id: userId", "customer_id: event")))
    database.close()
    page = visitor.sign_in("/replays")
    page.get_by_text("New replay").click()
    page.get_by_label("Only the calls with this id").fill("beat-1")
    page.get_by_label("Also correct stored events").check()
    page.get_by_role("button", name="Count them first").click()
    expect(page.get_by_text("1 event would be made void")).to_be_visible()
    look(visitor, "replay-ask")
    page.get_by_label("Your name").fill("ann")
    page.get_by_label("Why", exact=True).fill("billed by event")
    page.get_by_role("button", name="Replay 1 call").click()
    expect(page.get_by_text("finished", exact=True)).to_be_visible(timeout=30_000)
    page.reload()
    look(visitor, "replay")
    visitor.go("/replays")
    look(visitor, "replays")
    page.get_by_role("link", name="correction", exact=True).click()
    expect(page.get_by_text("billed by event")).to_be_visible()
    look(visitor, "correction")
    visitor.go("/calls?id=beat-1&since=all")
    page.locator("a[href^='/calls/']").first.click()
    look(visitor, "call")
