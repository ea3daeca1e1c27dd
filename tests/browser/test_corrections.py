"""Events made void from the page of a call, and made to count again, in a browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NARROW, Visitor
from tests.builders import a_document, to_raw
from tests.served import ROOT, Served, served, signed


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service with two calls of one customer."""
    folder = tmp_path_factory.mktemp("corrections")
    with served(
        f"sqlite:///{folder / 'test.db'}", folder, WEB_CONCURRENCY="1", METRICS_DIR=str(ROOT / "metrics")
    ) as running:
        for number in (1, 2):
            properties = {"endpoint": "/v1/complete", "input_tokens": number}
            body = to_raw(
                a_document(event="API Call", messageId=f"void-{number}", userId="staff", properties=properties)
            )
            assert running.post(body, signed(body)).json["stored"] == 1
        yield running


def test_the_events_of_a_call_are_made_void_and_count_again(visitor: Visitor) -> None:
    page = visitor.sign_in("/calls?id=void-1&since=all")
    page.get_by_role("button", name="Actions for the call").first.click()
    page.get_by_role("button", name="Void its events").click()
    expect(page.get_by_role("heading", name="Void 1 event?")).to_be_visible()
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="api_calls", exact=True))
    expect(row).to_contain_text("-1")
    visitor.check()
    page.set_viewport_size(NARROW)
    visitor.check()
    page.get_by_label("Reason").fill("a test of our own")
    page.get_by_label("Your name").fill("ann")
    page.get_by_role("button", name="Void 1 event").click()
    expect(page.get_by_text("1 event was made void")).to_be_visible()
    visitor.check()
    page.get_by_text("Undo all of it").click()
    page.get_by_label("Reason").fill("it was billed rightly")
    page.get_by_label("Your name").fill("bob")
    page.get_by_role("button", name="Make these events count again").click()
    expect(page.get_by_text("1 event counts again")).to_be_visible()
    visitor.check()
    visitor.go("/corrections")
    expect(page.get_by_role("row").filter(has_text="a test of our own")).to_contain_text("undone")
    visitor.check()
