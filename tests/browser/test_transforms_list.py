"""The list of transforms, in a browser."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NARROW, Visitor
from tests.builders import SECRET, a_document, to_raw
from tests.served import ADMIN_TOKEN, ROOT, Served, served, wait_until


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service with the transforms that are shipped, in a folder of its own, and some calls."""
    folder = tmp_path_factory.mktemp("list")
    shutil.copytree(ROOT / "transforms", folder / "transforms")
    url = f"sqlite:///{folder / 'test.db'}"
    with served(url, folder, SEGMENT_SHARED_SECRETS=SECRET, TRANSFORMS_DIR=str(folder / "transforms")) as running:
        running.post(to_raw([a_document(messageId=f"m-{number}", userId="a" * (number > 0)) for number in range(4)]))
        yield running


def folder_of(service: Served) -> Path:
    return service.log.parent / "transforms"


def ask(service: Served, method: str, path: str, **body: Any) -> Any:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    answer = service.request(method, f"/api/v1/transforms{path}", json.dumps(body).encode() if body else None, headers)
    assert answer.status == 200, answer.body
    return answer.json


def test_the_list_says_how_each_stands_and_leads_on(visitor: Visitor, service: Served) -> None:
    page = visitor.sign_in("/transforms")
    expect(page.get_by_role("heading", name="Transforms")).to_be_visible()
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="api_call"))
    for text in ("API Call", "live", "2 of 2 pass", "25.0"):
        expect(row).to_contain_text(text)
    assert row.get_by_role("link", name="api_call").get_attribute("href") == "/transforms/api_call"
    calls = row.get_by_role("link", name="4", exact=True).get_attribute("href")
    assert calls == "/calls?transform=api_call&since=24h"
    visitor.check()
    page.set_viewport_size(NARROW)
    visitor.check()


def test_a_new_transform_is_begun_by_the_name_of_its_event(visitor: Visitor, service: Served) -> None:
    page = visitor.sign_in("/transforms")
    page.get_by_label("New transform for event").fill("Export Finished")
    with page.expect_response(lambda answer: answer.url.endswith("/transforms/export_finished?event=Export+Finished")):
        page.keyboard.press("Enter")
    visitor.complaints.clear()


def test_drift_is_resolved_from_the_list_by_keyboard(visitor: Visitor, service: Served) -> None:
    live = ask(service, "GET", "/storage")["live"]
    ask(service, "POST", "/storage/publish", text=live["text"] + "# edited\n", live=live["version"])
    page = visitor.sign_in("/transforms")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="storage"))
    expect(row).to_contain_text("file differs")
    row.locator("summary").focus()
    page.keyboard.press("Enter")
    visitor.check()
    row.get_by_role("button", name="Keep live").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("storage: The live version was written into the file.")
    expect(row).not_to_contain_text("file differs")
    assert (folder_of(service) / "storage.yaml").read_text().endswith("# edited\n")
    visitor.check()
    # The other way round.
    version = ask(service, "GET", "/storage")["live"]["version"]
    ask(service, "POST", "/storage/publish", text=live["text"], live=version)
    page.reload()
    row.locator("summary").click()
    row.get_by_role("button", name="Take the file").click()
    expect(page.get_by_role("status")).to_contain_text("storage: The file is live now.")
    assert ask(service, "GET", "/storage")["live"]["version"] == version


def test_what_keeps_a_file_from_going_live_is_said(visitor: Visitor, service: Served) -> None:
    (folder_of(service) / "seats.yaml").write_text("match: {event: Seats}\nevent: {customer_id: 'foo['}\n")
    (folder_of(service) / "b2b_usage.yaml").unlink()
    wait_until(lambda: "transform not used" in service.output())
    page = visitor.sign_in("/transforms")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="seats"))
    expect(row).to_contain_text("file broken")
    expect(row).to_contain_text("seats.yaml:2:")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="b2b_usage"))
    row.locator("summary").click()
    expect(row.get_by_role("button", name="Take the file")).to_have_count(0)
    visitor.check()
    row.get_by_role("button", name="Write the file").click()
    expect(page.get_by_role("status")).to_contain_text("b2b_usage: The live version was written into the file.")


def test_hostile_texts_show_as_text(visitor: Visitor, service: Served) -> None:
    text = "description: '<script>alert(1)</script> \N{RIGHT-TO-LEFT OVERRIDE}txet'\nmatch: {event: '<img src=x>'}\n"
    ask(service, "POST", "/hostile/publish", text=text, live=None)
    long = "match: {event: " + "x" * 5000 + "}\n"
    ask(service, "POST", "/long_name/publish", text=long, live=None)
    page = visitor.sign_in("/transforms")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="hostile"))
    expect(row).to_contain_text("<script>alert(1)</script>")
    expect(row).to_contain_text("<img src=x>")
    visitor.check()
    page.set_viewport_size(NARROW)
    visitor.check()
