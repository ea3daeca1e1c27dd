"""The documentation in a browser: from a page of the service to what explains it, readable on a phone too."""

import pytest
from playwright.sync_api import ViewportSize, expect

from tests.browser.conftest import NARROW, WIDE, Visitor

PAGES = ("/help", "/help/segment", "/help/responses")


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_the_documentation_is_valid_accessible_and_fits(visitor: Visitor, size: ViewportSize) -> None:
    visitor.page.set_viewport_size(size)
    visitor.sign_in("/help")
    for path in PAGES:
        visitor.go(path)
        visitor.check()


def test_from_a_page_to_the_section_that_explains_it_and_on(visitor: Visitor) -> None:
    page = visitor.sign_in("/deliveries")
    page.get_by_role("link", name="Help", exact=True).click()
    expect(page.get_by_role("heading", name="Look at deliveries")).to_be_in_viewport()
    page.get_by_role("link", name="Documentation", exact=True).click()
    page.get_by_role("link", name="Functions", exact=True).click()
    page.get_by_role("navigation", name="On this page").get_by_role("link", name="Numbers").click()
    expect(page.get_by_role("heading", name="Numbers", exact=True)).to_be_in_viewport()
