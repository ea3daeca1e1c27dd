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
