"""The overview, the calls and one call, in a browser: live, shared, by keyboard, on a phone, and with hostile calls."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import NARROW, WIDE, Visitor
from tests.builders import a_document, to_raw
from tests.served import Served, signed

HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
RTL = "\u202egnihtemos \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u2067"


pytestmark = pytest.mark.usefixtures("emptied")


def send(service: Served, **members: object) -> None:
    """Send one call."""
    body = to_raw(a_document(**members))
    assert service.post(body, signed(body)).status == 200


def send_some(service: Served, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        send(service, messageId=f"message-{number}", userId=f"customer-{number}")


def rows(page: Page) -> list[str]:
    """Return the customers of the calls on the page, in its order."""
    return [text.strip() for text in page.locator("#rows td[data-label=Customer]").all_inner_texts()]


def test_an_empty_service_says_what_to_do_and_shows_the_first_call_when_it_comes(
    visitor: Visitor, service: Served
) -> None:
    page = visitor.sign_in("/calls")
    expect(page.get_by_text("No calls yet.")).to_be_visible()
    visitor.check()
    visitor.go("/")
    expect(page.get_by_text("No calls in this period.")).to_be_visible()
    visitor.check()
    visitor.go("/calls")
    expect(page.locator("#live-state")).to_have_text("Live")
    send(service)
    expect(page.locator("#rows tr")).to_have_count(1)
    expect(page.get_by_text("No calls yet.")).to_have_count(0)
    visitor.check()


def test_new_calls_come_in_at_the_top_each_once(visitor: Visitor, service: Served) -> None:
    send_some(service, 2)
    page = visitor.sign_in("/calls?event=API+Call")
    assert rows(page) == ["customer-1", "customer-0"]
    send_some(service, 2, first=2)
    send(service, messageId="other", event="Other")
    expect(page.locator("#rows tr")).to_have_count(4)
    send_some(service, 1, first=4)
    expect(page.locator("#rows tr")).to_have_count(5)
    assert rows(page) == [f"customer-{number}" for number in (4, 3, 2, 1, 0)]


def test_it_pauses_when_a_menu_opens_counts_what_comes_and_resumes_with_a_click(
    visitor: Visitor, service: Served
) -> None:
    send_some(service, 2)
    page = visitor.sign_in("/calls")
    page.get_by_role("button", name=re.compile("Actions for the call")).first.click()
    expect(page.get_by_role("button", name="Replay this call")).to_be_visible()
    expect(page.locator("#live-state")).to_have_text("Paused")
    visitor.check()
    send_some(service, 2, first=2)
    resume = page.get_by_role("button", name="Resume, 2 new")
    expect(resume).to_be_visible()
    assert len(rows(page)) == 2
    page.keyboard.press("Escape")
    resume.click()
    expect(page.locator("#live-state")).to_have_text("Live")
    assert rows(page) == ["customer-3", "customer-2", "customer-1", "customer-0"]
    send_some(service, 1, first=4)
    expect(page.locator("#rows tr")).to_have_count(5)


def test_it_pauses_when_somebody_scrolls_down_to_read(visitor: Visitor, service: Served) -> None:
    send_some(service, 45)
    page = visitor.sign_in("/calls")
    expect(page.locator("#live-state")).to_have_text("Live")
    page.mouse.wheel(0, 1500)
    expect(page.locator("#live-state")).to_have_text("Paused")
    before = rows(page)
    send_some(service, 1, first=100)
    expect(page.locator("#live-button")).to_have_text("Resume, 1 new")
    assert rows(page) == before
    page.locator("#live-button").click()
    expect(page.locator("#rows tr")).to_have_count(46)
    expect(page.locator("#rows tr").first).to_be_in_viewport()


def test_a_filtered_view_is_shared_by_its_address(visitor: Visitor, chromium: Browser, service: Served) -> None:
    send_some(service, 3)
    send(service, messageId="bad-1", userId="")
    send(service, messageId="bad-2", userId="", event="Other")
    page = visitor.sign_in("/calls")
    page.get_by_label("rejected").check()
    page.get_by_label("Event", exact=True).fill("API Call")
    page.get_by_label("Text in the raw call").fill("BAD-1")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#rows tr")).to_have_count(1)
    # Nothing that was left empty stands in the address.
    assert re.fullmatch(r".*/calls\?q=BAD-1&event=API\+Call&since=7d&outcome=rejected", page.url)
    visitor.check()
    other = Visitor(chromium.new_context(viewport=WIDE), service)
    other.sign_in(page.url.removeprefix(visitor.url("")))
    assert other.page.url == page.url
    shown = [
        one.locator("#rows tr").evaluate_all("all => all.map((row) => row.dataset.id)") for one in (page, other.page)
    ]
    assert shown[0] == shown[1]
    expect(other.page.get_by_label("rejected")).to_be_checked()
    expect(other.page.get_by_label("Event", exact=True)).to_have_value("API Call")
    other.page.context.close()


def test_everything_can_be_done_by_keyboard(visitor: Visitor, service: Served) -> None:
    send_some(service, 2)
    page = visitor.sign_in("/calls")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Text in the raw call")).to_be_focused()
    page.keyboard.type("customer-0")
    page.keyboard.press("Enter")
    expect(page.locator("#rows tr")).to_have_count(1)
    page.wait_for_load_state()
    page.locator("#list").focus()
    page.keyboard.press("Tab")
    expect(page.locator("#rows a").first).to_be_focused()
    menu = page.get_by_role("button", name=re.compile("Actions for the call"))
    for _ in range(3):
        if menu.evaluate("one => one === document.activeElement"):
            break
        page.keyboard.press("Tab")
    expect(menu).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Replay this call")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Replay this call")).to_be_hidden()
    expect(menu).to_be_focused()
    page.locator("#rows a").first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("API Call")
    visitor.check()


def test_a_call_is_copied_as_a_curl_command(visitor: Visitor, service: Served) -> None:
    send_some(service, 1)
    page = visitor.sign_in("/calls")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name=re.compile("Actions for the call")).click()
    page.get_by_role("link", name="Copy as curl").click()
    expect(page.get_by_role("link", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert "curl -X POST" in copied
    assert "/webhooks/segment" in copied
    assert "message-0" in copied


def test_without_a_clipboard_the_curl_command_is_opened_as_a_page(visitor: Visitor, service: Served) -> None:
    """As on an address without https, and as where somebody says no to the browser's question."""
    send_some(service, 1)
    for without in ("delete Navigator.prototype.clipboard", "Clipboard.prototype.writeText = () => Promise.reject()"):
        page = visitor.page.context.new_page()
        page.add_init_script(without)
        visitor.page = page
        visitor.sign_in("/calls")
        page.get_by_role("button", name=re.compile("Actions for the call")).click()
        page.get_by_role("link", name="Copy as curl").click()
        page.wait_for_url("**/curl")
        expect(page.get_by_text("curl -X POST")).to_be_visible()
        assert "message-0" in page.content()


def test_a_conflict_is_shown_as_a_difference(visitor: Visitor, service: Served) -> None:
    send(service)
    send(service, properties={"input_tokens": 7})
    page = visitor.sign_in("/calls?outcome=conflict")
    page.locator("#rows a").first.click()
    table = page.get_by_role("region", name=re.compile("Conflict")).get_by_role("table")
    expect(table.get_by_role("row", name=re.compile(r"properties\.tokens.*0.*7"))).to_be_visible()
    expect(page.get_by_role("heading", name="The event it would have made")).to_be_visible()
    visitor.check()


def test_a_rejected_call_says_where_it_stopped(visitor: Visitor, service: Served) -> None:
    send(service, userId=None)
    page = visitor.sign_in("/")
    page.locator(".figures a[href*=rejected]").click()
    page.locator("#rows a").first.click()
    stopped = page.locator(".timeline .stopped")
    expect(stopped).to_contain_text("checked")
    expect(stopped).to_contain_text("customer_id is null")
    visitor.check()


def test_a_refused_request_of_this_machine_is_told_on_the_overview(visitor: Visitor, service: Served) -> None:
    send_some(service, 3)
    service.post(b"{}", {"X-Signature": "0" * 40})
    page = visitor.sign_in("/")
    told = page.get_by_text("1 request of strangers or of this machine was refused")
    for _ in range(20):
        visitor.go("/?range=hour")
        if told.count():
            break
        page.wait_for_timeout(200)
    expect(told).to_be_visible()
    visitor.check()
    page.get_by_text("As a table").click()
    visitor.check()


def test_hostile_calls_are_text_on_every_page(visitor: Visitor, service: Served) -> None:
    send(service, messageId="script", event=HOSTILE, userId=HOSTILE[:50], properties={HOSTILE: HOSTILE})
    send(service, messageId="rtl", event=RTL, userId=RTL, properties={RTL: RTL})
    send(service, messageId="nul\0", event="nul\0\ud83d", userId="u", properties={"x": "\0"})
    send(service, messageId="huge", event="x" * 20_000, properties={"x": "y" * 500_000})
    send(service, messageId="5mb", properties={"x": "<b>" * 1_700_000})
    page = visitor.sign_in("/calls")
    expect(page.locator("#rows tr")).to_have_count(5)
    visitor.check()
    expect(page.locator("#rows")).to_contain_text("<script>document.title")
    expect(page.locator("#rows")).to_contain_text("\\u202egnihtemos")
    links = [str(link.get_attribute("href")) for link in page.locator("#rows td[data-label=Time] a").all()]
    assert len(links) == 5
    for width in (WIDE, NARROW):
        page.set_viewport_size(width)
        for link in links:
            visitor.go(link)
            visitor.check()
            assert page.title().startswith("Call ")
        visitor.go("/calls")
        visitor.check()
    with page.expect_download() as download:
        visitor.go(links[0])
        page.get_by_role("link", name=re.compile("Download its")).click()
    assert download.value.path().stat().st_size > 5_000_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_page_is_right_on_a_phone_and_on_a_wide_screen(chromium: Browser, service: Served, scheme: str) -> None:
    send_some(service, 3)
    send(service, messageId="message-0", userId="customer-0", properties={"input_tokens": 3})
    send(service, messageId="bad", userId="")
    context = chromium.new_context(viewport=WIDE, color_scheme="dark" if scheme == "dark" else "light")
    visitor = Visitor(context, service)
    page = visitor.sign_in("/calls")
    calls = [str(link.get_attribute("href")) for link in page.locator("#rows td[data-label=Time] a").all()]
    for width in (WIDE, NARROW):
        page.set_viewport_size(width)
        for path in ("/", "/?range=week", "/calls", "/calls?reason=event_invalid", "/calls?q=nothing", *calls):
            visitor.go(path)
            visitor.check()
    context.close()
    assert visitor.complaints == []
