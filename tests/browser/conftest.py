"""A real Chromium before a real gunicorn. Skipped where there is none, see tests.programs."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import html5lib
import pytest
import sqlalchemy as sa
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Cookie, Page, ViewportSize, expect, sync_playwright

from app.store.engine import connect
from app.store.schema import METADATA, publications, versions
from tests.builders import SECRET
from tests.programs import require_program
from tests.served import ADMIN_TOKEN, Served, served

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
"""Its names; the first that is installed is taken."""

WIDE: ViewportSize = {"width": 1280, "height": 900}
NARROW: ViewportSize = {"width": 375, "height": 760}

expect.set_options(timeout=10_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Believe a failure when it comes twice."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = require_program(*CHROMIUM)
    with sync_playwright() as playwright:
        # --no-sandbox: as root, which CI is, Chromium does not start with it.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service of the module's own, with an empty database."""
    folder = tmp_path_factory.mktemp("browser")
    with served(f"sqlite:///{folder / 'test.db'}", folder, SEGMENT_SHARED_SECRETS=SECRET) as running:
        yield running


@pytest.fixture
def emptied(service: Served) -> None:
    """Let the service know no call, as at its start: that is quicker than a start. What is live stays live."""
    database = connect(service.database_url)
    kept = {versions, publications}
    with database.writing() as conn:
        for table in METADATA.sorted_tables:
            if table not in kept:
                conn.execute(sa.delete(table))
    database.close()


class Visitor:
    """Somebody with a browser. What the browser complains of is an error of the page."""

    session: ClassVar[list[Cookie]] = []
    """Of whoever signed in first. Its key is made of the admin token, which all services of the tests share."""

    valid: ClassVar[set[str]] = set()
    """Texts that were parsed already."""

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
        """Come to a page with a session."""
        if not Visitor.session:
            self.sign_in_by_form(path)
            Visitor.session = self.page.context.cookies()
            return self.page
        self.page.context.add_cookies(
            [
                {"name": one["name"], "value": one["value"], "domain": one["domain"], "path": one["path"]}
                for one in Visitor.session
            ]
        )
        self.go(path)
        expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()
        return self.page

    def sign_in_by_form(self, path: str = "/") -> Page:
        """Sign in with the admin token, and be led to a page."""
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
        text = self.page.request.get(self.page.url, headers={"Accept": "text/html"}).text()
        # On a phone and in the dark it is the same text: what is valid once is valid.
        if text not in Visitor.valid:
            html5lib.HTMLParser(strict=True).parse(text)
            Visitor.valid.add(text)
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
