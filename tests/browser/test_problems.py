"""From a group of rejected calls to stored events, in a browser: count, confirm, progress, cancel."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NARROW, Visitor
from tests.builders import DEFAULT_TEXT, a_document, to_raw
from tests.served import ADMIN_TOKEN, Served, served, signed, wait_until

WRONG = "match: {event: Order}\nevent: {customer_id: properties.account}\n"
RIGHT = "match: {event: Order}\n"
HOSTILE = "<script>alert(1)</script> \N{RIGHT-TO-LEFT OVERRIDE}gnp" + "x" * 300


@pytest.fixture(scope="module")
def transforms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the transform files."""
    folder = tmp_path_factory.mktemp("transforms")
    (folder / "_default.yaml").write_text(DEFAULT_TEXT.replace("type: track", "event: Usual"))
    (folder / "order.yaml").write_text(WRONG)
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, transforms: Path) -> Iterator[Served]:
    """A service in which orders are rejected."""
    folder = tmp_path_factory.mktemp("problems")
    url = f"sqlite:///{folder / 'test.db'}"
    # One worker: as soon as one call was mapped by a new version, all are.
    with served(url, folder, TRANSFORMS_DIR=str(transforms), WEB_CONCURRENCY="1") as running:
        yield running


def send(service: Served, *documents: object) -> dict[str, int]:
    body = b"[" + b",".join(to_raw(one) for one in documents) + b"]"
    answer = service.post(body, signed(body, to_raw(documents[0])))
    assert answer.status == 200, answer.body
    receipt: dict[str, int] = json.loads(answer.body)
    return receipt


def orders(start: int, count: int) -> list[dict[str, object]]:
    return [a_document(event="Order", messageId=f"order-{start + at}") for at in range(count)]


def publish_wrong(service: Served, transforms: Path) -> None:
    """Let orders be rejected once more, by a version of its own."""
    (transforms / "order.yaml").write_text(f"# once more\n{WRONG}")
    wait_until(lambda: send(service, a_document(event="Order", messageId=f"probe-{time.time_ns()}"))["rejected"])


def publish_right(service: Served, transforms: Path, comment: str) -> None:
    """Mend the transform, and wait until it is live."""
    (transforms / "order.yaml").write_text(f"# {comment}\n{RIGHT}")

    def are_of_another_version() -> bool:
        return not any(group["is_live"] for group in service.get("/api/v1/problems", ADMIN_TOKEN).json["groups"])

    wait_until(are_of_another_version)


def start_replay(page: Page) -> None:
    page.get_by_role("button", name="Replay this group").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Replay")
    page.get_by_role("main").get_by_role("button", name="Replay").click()


def test_where_all_is_well_the_page_says_so(visitor: Visitor) -> None:
    visitor.sign_in("/problems")
    expect(visitor.page.get_by_text("All is well")).to_be_visible()
    visitor.check()
    visitor.go("/replays")
    expect(visitor.page.get_by_text("There was no replay yet.")).to_be_visible()
    visitor.check()


def test_a_group_is_counted_confirmed_replayed_and_stored(visitor: Visitor, transforms: Path) -> None:
    send(visitor.service, *orders(0, 3))
    page = visitor.sign_in("/problems")
    row = page.get_by_role("row").filter(has_text="event_invalid")
    expect(row).to_contain_text("customer_id")
    expect(row).to_contain_text("properties.account is not in this call")
    expect(row).to_contain_text("live")
    editor = row.get_by_role("link", name="Open sample in editor").get_attribute("href") or ""
    assert editor.startswith("/transforms/order?call=")
    visitor.check()
    publish_right(visitor.service, transforms, "mended")
    page.reload()
    expect(row).to_contain_text("not live now")
    row.get_by_role("button", name="Replay this group").click()
    expect(page.get_by_role("heading", name="Replay 3 calls?")).to_be_visible()
    expect(page.get_by_text("would become of them")).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="rejected")).to_contain_text("3")
    visitor.check()
    page.get_by_role("button", name="Replay 3 calls").click()
    expect(page.get_by_text("It came to its end.")).to_be_visible(timeout=30_000)
    expect(page.get_by_role("listitem").filter(has_text="stored")).to_contain_text("3")
    visitor.check()
    visitor.go("/problems")
    expect(page.get_by_text("All is well")).to_be_visible()
    visitor.go("/replays")
    expect(page.get_by_role("row").filter(has_text="finished")).to_contain_text("3 rejected → stored")
    visitor.check()


def test_a_replay_is_cancelled_and_goes_on(visitor: Visitor, transforms: Path) -> None:
    publish_wrong(visitor.service, transforms)
    for batch in range(12):
        send(visitor.service, *orders(100_000 + 1000 * batch, 1000))
    publish_right(visitor.service, transforms, "mended again")
    page = visitor.sign_in("/problems")
    start_replay(page)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Go on")).to_be_visible(timeout=30_000)
    visitor.check()
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("It came to its end.")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("listitem").filter(has_text="stored")).to_contain_text("12,0")


def test_what_a_call_says_is_text_and_fits_a_phone(visitor: Visitor) -> None:
    send(visitor.service, a_document(event=HOSTILE, messageId="hostile-1"), a_document(type="<b>", messageId="h-2"))
    visitor.page.set_viewport_size(NARROW)
    page = visitor.sign_in("/problems")
    expect(page.get_by_role("row").filter(has_text="<script>alert(1)</script>")).to_be_visible()
    assert page.locator("main script, main b").count() == 0
    visitor.check()
    page.get_by_role("button", name="Replay these").first.click()
    expect(page.get_by_text("<script>alert(1)</script>")).to_be_visible()
    visitor.check()


def test_ids_that_stand_for_none_are_a_table_that_leads_to_their_calls(visitor: Visitor, service: Served) -> None:
    send(service, *(a_document(event="Usual", messageId=f"none-{user}", userId=user) for user in ("undefined", "  ")))
    visitor.sign_in()
    visitor.go("/problems")
    table = visitor.page.get_by_role("region", name="Placeholder ids")
    expect(table).to_contain_text("undefined")
    expect(table).to_contain_text("2 spaces")
    visitor.check()
    visitor.page.set_viewport_size(NARROW)
    visitor.check()
    table.get_by_role("link", name="Show its calls").first.click()
    expect(visitor.page.get_by_role("main")).to_contain_text("undefined")
