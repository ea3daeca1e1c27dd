"""The setup page in a browser: the first call arrives, a refused one is explained, the secret is shown when asked."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NARROW, Visitor
from tests.builders import SECRET, a_document, to_raw
from tests.served import Served, served, signed

OLD = "an-older-secret"


pytestmark = pytest.mark.usefixtures("emptied")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service with two secrets and an address of its own."""
    folder = tmp_path_factory.mktemp("setup")
    url = f"sqlite:///{folder / 'test.db'}"
    with served(url, folder, SEGMENT_SHARED_SECRETS=f"{SECRET},{OLD}", PUBLIC_URL="https://bill.test") as running:
        yield running


def test_it_waits_says_why_a_request_was_refused_and_turns_green_at_the_first_call(visitor: Visitor) -> None:
    page = visitor.sign_in("/setup")
    arrivals = page.locator("#arrivals")
    expect(arrivals).to_contain_text("Waiting for the first call")
    expect(page.get_by_label("The webhook's URL")).to_have_value("https://bill.test/webhooks/segment")
    visitor.check()
    body = to_raw(a_document())
    segment = {"User-Agent": "Segment.io/1.0", "X-Forwarded-For": "198.51.100.7"}
    assert visitor.service.post(body, segment).status == 401
    expect(arrivals).to_contain_text("signature_missing")
    expect(arrivals).to_contain_text("The destination in Segment has no shared secret")
    visitor.check()
    assert visitor.service.post(body, {**signed(body, secret="another"), **segment}).status == 401
    expect(arrivals).to_contain_text("The shared secret in Segment differs")
    assert visitor.service.post(body, {**signed(body, secret=f"{SECRET}\n"), **segment}).status == 401
    expect(arrivals).to_contain_text("shared secret 1 and a line break after it")
    visitor.check()
    arrivals.get_by_role("button", name="Acknowledge").click()
    expect(arrivals.locator(".alert")).to_have_count(0)
    assert visitor.service.post(body, {**signed(body), **segment}).status == 200
    expect(arrivals.locator(".good")).to_contain_text("Calls arrive from Segment.")
    expect(arrivals).to_contain_text("stored")
    visitor.check()


def test_a_test_call_goes_the_whole_way(visitor: Visitor) -> None:
    page = visitor.sign_in("/setup")
    page.get_by_role("button", name="Send a signed test call").click()
    expect(page.get_by_text("The test call was accepted and stored.")).to_be_visible()
    expect(page.locator("#arrivals")).to_contain_text("The newest call")
    visitor.go("/setup")
    visitor.check()


def test_the_secrets_come_only_when_they_are_asked_for_and_can_be_copied(visitor: Visitor) -> None:
    page = visitor.sign_in("/setup")
    assert SECRET not in page.content()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Show").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Shared secret 1")).to_have_value(SECRET)
    expect(page.get_by_label("Shared secret 2")).to_have_value(OLD)
    page.locator("#secrets").get_by_role("button", name="Copy").first.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == SECRET
    visitor.check()
    page.reload()
    assert SECRET not in page.content()
    expect(page.get_by_role("button", name="Show")).to_be_visible()


def test_where_the_browser_gives_no_clipboard_the_secret_is_copied_as_what_is_selected(visitor: Visitor) -> None:
    visitor.page.add_init_script("delete Navigator.prototype.clipboard")
    page = visitor.sign_in("/setup")
    page.get_by_role("button", name="Show").click()
    page.locator("#secrets").get_by_role("button", name="Copy").first.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    # What was copied is what can be pasted.
    page.goto(visitor.url("/calls"))
    page.get_by_label("Text in the raw call").focus()
    page.keyboard.press("Control+V")
    expect(page.get_by_label("Text in the raw call")).to_have_value(SECRET)


def test_it_fits_a_phone_and_what_was_sent_is_text(visitor: Visitor) -> None:
    visitor.page.set_viewport_size(NARROW)
    visitor.service.post(to_raw(a_document(event="<script>alert(1)</script>" + "x" * 300)))
    page = visitor.sign_in("/setup")
    expect(page.locator("#arrivals")).to_contain_text("<script>alert(1)</script>")
    visitor.check()
