"""A real Chromium before a real gunicorn. Skipped with one line where there is no Chromium; in CI that is a failure."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import html5lib
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect, sync_playwright

from tests.builders import SECRET
from tests.served import ADMIN_TOKEN, Served, served

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)

WIDE: ViewportSize = {"width": 1280, "height": 900}
NARROW: ViewportSize = {"width": 375, "height": 760}

expect.set_options(timeout=10_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, once and clearly, where there is no Chromium; and believe a failure when it comes twice."""
    skipped = not CHROMIUM and not os.environ.get("CI")
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        item.add_marker(pytest.mark.flaky(reruns=1))
        if skipped:
            item.add_marker(pytest.mark.skip(reason="no Chromium is found: install one to run the browser tests"))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    assert CHROMIUM, "CI must install a Chromium"
    with sync_playwright() as playwright:
        # --no-sandbox: as root, which CI is, Chromium does not start with it.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service of the module's own, with an empty database."""
    folder = tmp_path_factory.mktemp("browser")
    with served(f"sqlite:///{folder / 'test.db'}", folder, SEGMENT_SHARED_SECRETS=SECRET) as running:
        yield running


class Visitor:
    """Somebody with a browser. What the browser complains of is an error of the page."""

    def __init__(self, context: BrowserContext, service: Served) -> None:
        self.service = service
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.service.port}{path}"

    def go(self, path: str) -> Page:
        """Open a page."""
        self.page.goto(self.url(path))
        return self.page

    def sign_in(self, path: str = "/") -> Page:
        """Sign in, and be led to a page."""
        self.go(path)
        self.page.get_by_label("Admin token").fill(ADMIN_TOKEN)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()
        # The head of a page is there before its end: keys that are pressed now would find half of it.
        self.page.wait_for_load_state()
        # The page before was an answer with status 401, which the browser's console names.
        self.complaints.clear()
        return self.page

    def check(self) -> None:
        """The page is valid HTML, passes axe's checks, fits its width, and the browser has nothing to complain of."""
        html5lib.HTMLParser(strict=True).parse(
            self.page.request.get(self.page.url, headers={"Accept": "text/html"}).text()
        )
        found = Axe().run(self.page)
        assert found.violations_count == 0, found.generate_report()
        too_wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert too_wide <= 0, f"{self.page.url} is {too_wide} pixels too wide"
        assert self.complaints == []


@pytest.fixture
def visitor(chromium: Browser, service: Served) -> Iterator[Visitor]:
    """Somebody who is not signed in, with a wide window."""
    context = chromium.new_context(viewport=WIDE)
    visitor = Visitor(context, service)
    yield visitor
    complaints = visitor.complaints
    context.close()
    assert complaints == []
