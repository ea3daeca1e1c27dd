"""Deliveries in a browser: what is wrong is seen, tried again, and arrives. Also without JavaScript."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, Page, ViewportSize, expect

from app.clock import clock
from app.core.times import format_time
from app.forward.fake_lotus.server import FakeLotus, running
from app.forward.sql_deliveries import DeliveryState, set_states
from app.store import ledger
from app.store.engine import Database, connect
from app.store.schema import deliveries
from tests.browser.conftest import NARROW, WIDE, Visitor
from tests.builders import SECRET, a_document, to_raw
from tests.forward.forwarding import DAY, KEY, MADE, Clock, a_worker, states_of, work
from tests.served import ADMIN_TOKEN, Served, served


@pytest.fixture(scope="module")
def lotus() -> FakeLotus:
    return FakeLotus(KEY, clock=clock)


@pytest.fixture(scope="module")
def address(lotus: FakeLotus) -> Iterator[str]:
    with running(lotus) as address:
        yield address
    while MADE:
        MADE.pop().close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, address: str) -> Iterator[Served]:
    """A service that forwards; the tests themselves are its worker."""
    folder = tmp_path_factory.mktemp("deliveries")
    url = f"sqlite:///{folder / 'test.db'}"
    with served(
        url, folder, WEB_CONCURRENCY="1", LOTUS_HOST=address, LOTUS_API_KEY=KEY, SEGMENT_SHARED_SECRETS=SECRET
    ) as started:
        yield started


@pytest.fixture(scope="module")
def database(service: Served) -> Iterator[Database]:
    database = connect(f"sqlite:///{service.log.parent / 'test.db'}")
    yield database
    database.close()


def send(service: Served, *ids: str, age: int = 0) -> None:
    for id_ in ids:
        answer = service.post(to_raw(a_document(messageId=id_, timestamp=format_time(clock() - age))))
        assert answer.status == 200, answer.body


def forward(database: Database, address: str, key: str = KEY) -> None:
    time = Clock()
    worker = a_worker(database, address, time, key=key)
    if key == KEY:
        worker.begin()
        work(worker, time)
    else:
        worker.step()


def refuse(database: Database) -> None:
    """Let Lotus have refused what was too old for it."""
    with database.writing() as conn:
        ids = list(conn.execute(sa.select(deliveries.c.event_id)).scalars())
        changes = set_states(conn, ids, DeliveryState.UNFORWARDABLE, DeliveryState.FAILED)
        ledger.append(conn, 1, clock(), changes)


def test_a_pause_is_seen_on_every_page_and_gone_when_it_is_over(
    visitor: Visitor, database: Database, address: str, lotus: FakeLotus
) -> None:
    send(visitor.service, "m-1")
    forward(database, address, key="wrong")
    page = visitor.sign_in("/calls")
    banner = page.get_by_label("Forwarding to Lotus")
    expect(banner).to_contain_text("Invalid API key")
    expect(banner).to_contain_text("Set LOTUS_API_KEY")
    visitor.check()
    banner.get_by_role("link", name="Deliveries").click()
    expect(page.get_by_role("heading", name="Lotus paused")).to_be_visible()
    visitor.check()
    page.set_viewport_size(NARROW)
    visitor.check()
    forward(database, address)
    page.reload()
    expect(page.get_by_role("heading", name="Lotus open")).to_be_visible()
    expect(banner).to_have_count(0)
    assert "m-1" in lotus.events


def test_a_group_is_counted_confirmed_and_tried_again_without_javascript(
    chromium: Browser, service: Served, database: Database, address: str
) -> None:
    send(service, "old-1", "old-2", age=31 * DAY)
    forward(database, address)
    refuse(database)
    context = chromium.new_context(viewport=WIDE, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{service.port}/deliveries")
    page.get_by_label("Admin token").fill(ADMIN_TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Retry this group").click()
    expect(page.get_by_role("heading", name="Retry 2 deliveries?")).to_be_visible()
    page.get_by_role("button", name="Retry 2 deliveries").click()
    expect(page.get_by_role("heading", name="2 deliveries queued again")).to_be_visible()
    assert states_of(database)["waiting"] == 2
    context.close()
    forward(database, address)
    assert states_of(database)["unforwardable"] == 2


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_from_the_list_to_one_delivery_to_its_call(
    visitor: Visitor, database: Database, address: str, size: ViewportSize
) -> None:
    name = f"long-ago-{'x' * 80}-{size['width']}"
    send(visitor.service, name, age=31 * DAY)
    forward(database, address, key="wrong")
    forward(database, address)
    visitor.page.set_viewport_size(size)
    page: Page = visitor.sign_in("/deliveries")
    page.locator("#state").select_option("unforwardable")
    page.get_by_text("More filters").click()
    page.get_by_label("Idempotency id").fill(name)
    page.get_by_role("button", name="Show", exact=True).click()
    row = page.get_by_role("row").filter(has_text=name)
    expect(row).to_contain_text("not forwardable")
    assert "state=unforwardable" in page.url
    visitor.check()
    row.get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("not forwardable")
    visitor.check()
    expect(page.get_by_role("link", name="its data for an invoice line")).to_be_visible()
    refuse(database)
    page.reload()
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("waiting")
    forward(database, address)
    page.get_by_role("link", name="Show the call").click()
    expect(page.get_by_role("heading", name="How it reaches Lotus")).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="it was never sent")).to_be_visible()
    visitor.check()
