"""Signing in and out, in a browser."""

from playwright.sync_api import expect

from tests.browser.conftest import NARROW, Visitor


def test_a_stranger_is_asked_for_the_token_and_led_to_where_they_wanted(visitor: Visitor) -> None:
    visitor.go("/?shared=1")
    expect(visitor.page.get_by_role("heading", name="Sign in")).to_be_visible()
    visitor.complaints.clear()
    visitor.page.get_by_label("Admin token").fill("wrong")
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.get_by_role("alert")).to_have_text("This is not the admin token.")
    visitor.complaints.clear()
    visitor.sign_in_by_form("/?shared=1")
    assert visitor.page.url == visitor.url("/?shared=1")
    visitor.check()
    visitor.page.get_by_role("button", name="Sign out").click()
    expect(visitor.page.get_by_role("heading", name="Sign in")).to_be_visible()
    visitor.check()
    visitor.go("/")
    expect(visitor.page.get_by_role("heading", name="Sign in")).to_be_visible()
    visitor.complaints.clear()


def test_it_works_on_a_phone(visitor: Visitor) -> None:
    visitor.page.set_viewport_size(NARROW)
    visitor.sign_in()
    visitor.check()


def test_what_is_not_there_is_said_as_a_page(visitor: Visitor) -> None:
    visitor.sign_in()
    visitor.go("/nowhere")
    expect(visitor.page.get_by_role("heading", name="Not found")).to_be_visible()
    visitor.complaints.clear()
    visitor.check()


def test_on_a_phone_the_pages_are_one_line_and_the_open_one_can_be_seen(visitor: Visitor) -> None:
    visitor.page.set_viewport_size(NARROW)
    page = visitor.sign_in("/")
    links = page.get_by_role("navigation", name="Pages").get_by_role("link")
    for name in ("Overview", "Usage", "Setup"):
        page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
        page.wait_for_load_state()
        here = page.locator(".top nav [aria-current]")
        expect(here).to_have_text(name)
        expect(here).to_be_in_viewport(ratio=1)
        heights = {box["y"] for link in links.all() if (box := link.bounding_box())}
        assert len(heights) == 1, "they stand in one line"
        visitor.check()
    # By keyboard each comes into view.
    page.keyboard.press("Tab")
    for _ in range(3):
        page.keyboard.press("Tab")
    expect(page.locator(".top nav a:focus")).to_be_in_viewport(ratio=1)
