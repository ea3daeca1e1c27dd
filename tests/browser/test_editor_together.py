"""Nothing that somebody wrote is lost: two people at one transform, versions, files, and tabs that are left."""

import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, Dialog, expect

from tests.browser.conftest import NARROW, WIDE, Visitor
from tests.browser.editing import EVENT_LINE, Editor
from tests.builders import SECRET
from tests.served import ADMIN_TOKEN, ROOT, Served, served

Open = Callable[[str], Editor]

FIRST = "customer_id: coalesce(userId, context.groupId)"
SECOND = "customer_id: coalesce(userId, anonymousId)"


@pytest.fixture(scope="module")
def transforms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the transform files: each test takes a copy of api_call as its own."""
    folder = tmp_path_factory.mktemp("together") / "transforms"
    shutil.copytree(ROOT / "transforms", folder)
    usual = (folder / "api_call.yaml").read_text()
    for name in ("drafted", "published", "rolled", "drifted", "kept", "discarded", "unpublished"):
        (folder / f"{name}.yaml").write_text(usual.replace("event: API Call", f"event: {name}"))
    return folder


@pytest.fixture(scope="module")
def service(transforms: Path) -> Iterator[Served]:
    """A service with these files."""
    folder = transforms.parent
    url = f"sqlite:///{folder / 'test.db'}"
    with served(url, folder, SEGMENT_SHARED_SECRETS=SECRET, TRANSFORMS_DIR=str(transforms)) as running:
        yield running


@pytest.fixture
def somebody(chromium: Browser, service: Served) -> Iterator[Open]:
    """Opens the editor of a transform as somebody else each time."""
    visitors: list[Visitor] = []

    def come(name: str) -> Editor:
        visitors.append(Visitor(chromium.new_context(viewport=WIDE), service))
        visitors[-1].sign_in()
        return Editor(visitors[-1]).open(name)

    yield come
    for visitor in visitors:
        visitor.page.context.close()


def draft_of(service: Served, name: str) -> str | None:
    draft = service.get(f"/api/v1/transforms/{name}", ADMIN_TOKEN).json["draft"]
    return str(draft["text"]) if draft else None


def live_text(service: Served, name: str) -> str:
    return str(service.get(f"/api/v1/transforms/{name}", ADMIN_TOKEN).json["live"]["text"])


def test_the_second_to_save_is_told_sees_the_difference_and_keeps_either(somebody: Open, service: Served) -> None:
    ann, bob = somebody("drafted"), somebody("drafted")
    ann.add_line(EVENT_LINE, FIRST)
    ann.save()
    bob.add_line(EVENT_LINE, SECOND)
    bob.page.keyboard.press("Control+s")
    expect(bob.dialog).to_contain_text("Somebody saved another draft")
    expect(bob.dialog.locator("del")).to_contain_text(FIRST)
    expect(bob.dialog.locator("ins")).to_contain_text(SECOND)
    bob.visitor.complaints.clear()
    bob.visitor.check()
    assert FIRST in str(draft_of(service, "drafted"))
    bob.page.keyboard.press("Escape")
    expect(bob.dialog).to_have_count(0)
    bob.page.keyboard.press("Control+s")
    bob.answer("Keep mine, on top of theirs")
    assert SECOND in bob.text.input_value()
    bob.save()
    assert SECOND in str(draft_of(service, "drafted"))
    ann.add_line(FIRST, "# and a word of mine")
    ann.page.keyboard.press("Control+s")
    ann.answer("Load theirs")
    assert ann.text.input_value() == draft_of(service, "drafted")
    ann.press("Bring mine back")
    assert "# and a word of mine" in ann.text.input_value()
    ann.save()


def test_whoever_publishes_second_is_told_and_publishes_nothing_over_it(somebody: Open, service: Served) -> None:
    ann, bob = somebody("published"), somebody("published")
    ann.add_line(EVENT_LINE, FIRST)
    ann.publish()
    bob.add_line(EVENT_LINE, SECOND)
    bob.press("Publish…")
    bob.dialog.get_by_role("button", name="Publish", exact=True).click()
    expect(bob.dialog).to_contain_text("Another version went live")
    assert FIRST in live_text(service, "published")
    bob.answer("Keep mine, on top of theirs")
    bob.publish()
    assert SECOND in live_text(service, "published")


def test_history_shows_what_changed_and_leads_back(somebody: Open, service: Served) -> None:
    ann = somebody("rolled")
    before = live_text(service, "rolled")
    ann.add_line(EVENT_LINE, FIRST)
    ann.publish()
    ann.press("History")
    versions = ann.dialog.get_by_role("listitem")
    expect(versions).to_have_count(2)
    expect(ann.dialog.locator("ins")).to_contain_text(FIRST)
    ann.visitor.check()
    versions.nth(1).get_by_role("button").click()
    ann.dialog.get_by_label("Show each version").select_option("against the text in the editor")
    expect(ann.dialog.get_by_role("group", name="From this version to the text in the editor")).to_contain_text(FIRST)
    ann.dialog.get_by_role("button", name="Roll back to this…").click()
    ann.answer("Roll back")
    expect(ann.said).to_contain_text("is live again")
    assert live_text(service, "rolled") == before == ann.text.input_value()


def test_drift_is_resolved_by_a_person_who_sees_both(somebody: Open, service: Served, transforms: Path) -> None:
    ann = somebody("drifted")
    ann.add_line(EVENT_LINE, FIRST)
    ann.publish()
    expect(ann.page.get_by_text("drifted.yaml still differs")).to_be_visible()
    ann.press("Compare and decide")
    expect(ann.dialog.locator("del")).to_contain_text(FIRST)
    ann.visitor.check()
    ann.answer("Keep the live version")
    expect(ann.said).to_contain_text("written into the file")
    assert (transforms / "drifted.yaml").read_text() == live_text(service, "drifted")
    expect(ann.page.get_by_role("button", name="Compare and decide")).to_have_count(0)
    ann.replace(ann.text.input_value().replace(FIRST, SECOND))
    ann.publish()
    assert SECOND in live_text(service, "drifted")
    ann.press("Compare and decide")
    ann.answer("Take the file")
    expect(ann.said).to_contain_text("The file is live.")
    assert FIRST in live_text(service, "drifted")
    assert FIRST in ann.text.input_value()


def test_what_was_made_here_is_taken_out_here_and_what_a_file_made_with_its_file(
    somebody: Open, service: Served, transforms: Path
) -> None:
    ann = somebody("unpublished")
    unpublish = ann.page.get_by_role("button", name="Unpublish…")
    unpublish.click()
    expect(ann.dialog).to_contain_text("The live version comes from the file unpublished.yaml: delete that file")
    ann.visitor.check()
    ann.answer("Close")
    (transforms / "unpublished.yaml").unlink()
    ann.add_line(EVENT_LINE, FIRST)
    ann.publish()
    unpublish.click()
    expect(ann.dialog).to_contain_text("ignored as no_transform")
    ann.answer("Cancel")
    assert FIRST in live_text(service, "unpublished")
    unpublish.click()
    ann.visitor.check()
    ann.answer("Unpublish")
    expect(ann.said).to_contain_text("is unpublished")
    expect(unpublish).to_be_hidden()
    assert service.get("/api/v1/transforms/unpublished", ADMIN_TOKEN).json["live"] is None
    # The text is still there, and goes live again by a click.
    ann.publish()
    assert FIRST in live_text(service, "unpublished")
    expect(somebody("_default").page.get_by_role("button", name="Unpublish…")).to_be_hidden()


def test_the_editor_tells_times_in_the_zone_that_the_browser_chose(somebody: Open, service: Served) -> None:
    ann = somebody("kept")
    published = service.get("/api/v1/transforms/kept", ADMIN_TOKEN).json["live"]["published_at"]
    standing = ann.page.locator("#standing")
    for zone in ("Asia/Kathmandu", "America/St_Johns", ""):
        ann.page.set_viewport_size(NARROW)
        ann.page.get_by_text("Change", exact=True).click()
        ann.page.get_by_label("Time zone in this browser").fill(zone)
        ann.visitor.check()
        ann.page.get_by_role("button", name="Use it").click()
        expect(ann.page.get_by_text("Times on this page are in")).to_have_text(
            f"Times on this page are in {zone or 'UTC'}."
        )
        local = datetime.fromisoformat(published).astimezone(ZoneInfo(zone or "UTC"))
        expect(standing).to_contain_text(local.strftime("%Y-%m-%d %H:%M"))


def test_unsaved_text_outlives_leaving_and_an_ended_session(somebody: Open, service: Served) -> None:
    ann = somebody("kept")
    ann.add_line(EVENT_LINE, FIRST)
    asked: list[str] = []

    def leave(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    ann.page.on("dialog", leave)
    ann.page.context.clear_cookies()
    ann.page.keyboard.press("Control+s")
    expect(ann.said.get_by_role("alert")).to_contain_text("You are signed out")
    assert FIRST in ann.text.input_value()
    ann.page.reload()
    assert asked == ["beforeunload"]
    ann.page.get_by_label("Admin token").fill(ADMIN_TOKEN)
    ann.page.keyboard.press("Enter")
    ann.ready()
    expect(ann.said).to_contain_text("Your unsaved text is back.")
    assert FIRST in ann.text.input_value()
    assert draft_of(service, "kept") is None
    ann.text.focus()
    ann.save()
    assert FIRST in str(draft_of(service, "kept"))


def test_a_draft_is_discarded_only_after_a_yes_and_can_be_brought_back(somebody: Open, service: Served) -> None:
    ann = somebody("discarded")
    ann.add_line(EVENT_LINE, FIRST)
    ann.save()
    ann.press("Discard draft")
    ann.page.keyboard.press("Escape")
    expect(ann.dialog).to_have_count(0)
    assert draft_of(service, "discarded")
    ann.press("Discard draft")
    ann.answer("Discard draft")
    expect(ann.said).to_contain_text("The draft is discarded.")
    assert draft_of(service, "discarded") is None
    assert ann.text.input_value() == live_text(service, "discarded")
    ann.press("Bring mine back")
    assert FIRST in ann.text.input_value()
