"""Editing a transform in a browser: what is typed is tried on a real call, saved, published, replayed."""

import json
import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.browser.conftest import NARROW, WIDE, Visitor
from tests.browser.editing import EVENT_LINE, Editor
from tests.builders import SECRET, a_document, to_raw
from tests.served import ADMIN_TOKEN, ROOT, Served, served, wait_until

FIX = "customer_id: coalesce(userId, context.groupId)"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service with the transforms that are shipped, in a folder of its own."""
    folder = tmp_path_factory.mktemp("editor")
    shutil.copytree(ROOT / "transforms", folder / "transforms")
    url, transforms = f"sqlite:///{folder / 'test.db'}", str(folder / "transforms")
    with served(url, folder, SEGMENT_SHARED_SECRETS=SECRET, TRANSFORMS_DIR=transforms) as running:
        yield running


@pytest.fixture
def editor(visitor: Visitor) -> Editor:
    """Somebody who is signed in."""
    visitor.sign_in()
    return Editor(visitor)


def send(service: Served, **members: object) -> str:
    """Send a call; return its id."""
    document = a_document(**members)
    assert service.post(to_raw(document)).status == 200
    return str(service.get(f"/api/v1/calls?id={document['messageId']}", ADMIN_TOKEN).json["calls"][0]["id"])


def outcome_of(service: Served, call_id: str) -> str:
    return str(service.get(f"/api/v1/calls/{call_id}", ADMIN_TOKEN).json["outcome"])


def test_a_rejected_call_is_fixed_published_and_replayed(editor: Editor, service: Served) -> None:
    for number in range(3):
        send(service, messageId=f"usual-{number}")
    group = {"groupId": "acme"}
    rejected = send(service, messageId="no-user", userId=None, context=group, properties={"input_tokens": 12})
    assert outcome_of(service, rejected) == "rejected"
    page = editor.page
    editor.open("api_call", f"?call={rejected}")
    expect(editor.result).to_contain_text("customer_id is null: `userId` gives null for this call")
    editor.add_line(EVENT_LINE, FIX)
    expect(editor.result).to_contain_text('"customer_id": "acme"')
    expect(editor.result).to_contain_text("rejected by the live version")
    expect(editor.result).to_contain_text("Examples: 2 of 2 pass")
    editor.visitor.check()
    editor.save()
    assert service.get("/api/v1/transforms/api_call", ADMIN_TOKEN).json["draft"]["text"] == editor.text.input_value()
    assert outcome_of(service, send(service, messageId="still-rejected", userId=None, context=group)) == "rejected"
    editor.press("Publish…")
    expect(editor.dialog).to_contain_text("Same3")
    expect(editor.dialog).to_contain_text("Newly mapped2")
    expect(editor.dialog.get_by_role("group", name="From the live version to the draft").first).to_contain_text("acme")
    editor.visitor.check()
    editor.answer("Publish")
    expect(editor.said).to_contain_text("Published")
    page.get_by_role("button", name="Replay what this transform maps now").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Replay")
    page.get_by_role("main").get_by_role("button", name="Replay").first.click()
    wait_until(lambda: outcome_of(service, rejected) == "stored")


def test_a_problem_is_underlined_listed_and_led_to_and_keeps_the_text_from_being_published(editor: Editor) -> None:
    editor.open("tokens")
    editor.add_line("model: properties.model", "wrong: coalesce(1 +")
    expect(editor.problems).to_have_count(1)
    expect(editor.problems.first).to_contain_text("`+` cannot stand here")
    expect(editor.page.locator(".p-grave")).to_have_text("+")
    expect(editor.result).to_contain_text("The text cannot be parsed")
    editor.put_caret_after("description: ")
    place = editor.problems.get_by_role("button")
    line, column = map(int, place.inner_text().split(":"))
    place.click()
    before = editor.text.evaluate("(area) => area.value.slice(0, area.selectionStart)").split("\n")
    assert (len(before), len(before[-1]) + 1) == (line, column)
    assert before[-1].endswith("coalesce(1 ")
    editor.visitor.check()
    editor.press("Publish…")
    expect(editor.said.get_by_role("alert")).to_contain_text("The draft is saved, but it cannot be published yet")
    editor.press("Discard draft")
    editor.answer("Discard draft")
    expect(editor.said).to_contain_text("The draft is discarded.")
    # A browser's console names each answer that is a no; here one was expected.
    editor.visitor.complaints.clear()


def test_paths_and_functions_complete_by_keyboard_alone(editor: Editor, service: Served) -> None:
    send(service, messageId="to-complete", event="Storage Measured", properties={"bytes": 5, "Bucket Name": "b"})
    keyboard = editor.page.keyboard
    editor.open("storage")
    editor.put_caret_after("gigabytes: round(divide(properties.bytes, `1000000000`), `6`)")
    keyboard.press("Enter")
    keyboard.type("raw: prop")
    expect(editor.completions.first).to_contain_text("properties")
    keyboard.type("erties.b")
    expect(editor.completions).to_have_count(2)
    expect(editor.completions.first).to_contain_text("properties.bytes")
    expect(editor.completions.first).to_have_attribute("aria-selected", "true")
    keyboard.press("ArrowDown")
    chosen = editor.page.locator(f"#{editor.text.get_attribute('aria-activedescendant')}")
    expect(chosen).to_contain_text('properties."Bucket Name"')
    editor.visitor.check()
    keyboard.press("Enter")
    keyboard.press("Enter")
    keyboard.type("size: to_str")
    expect(editor.completions.first).to_contain_text("text as it is, anything else as JSON text")
    keyboard.press("Tab")
    keyboard.type("properties.bytes")
    keyboard.press("Escape")
    expect(editor.completions.first).to_be_hidden()
    assert '    raw: properties."Bucket Name"\n    size: to_string(properties.bytes)\n' in editor.text.input_value()
    expect(editor.result).to_contain_text('"size": "5"')
    keyboard.press("Control+Space")
    expect(editor.completions.first).to_be_visible()
    keyboard.press("Escape")


def test_whoever_types_fast_has_one_preview_under_way_and_sees_that_of_the_last_text(editor: Editor) -> None:
    editor.open("storage")
    editor.press("Examples")
    editor.page.get_by_role("button", name="example 1").first.click()
    expect(editor.result).to_contain_text('"gigabytes": 1.5')
    under_way: list[int] = [0]
    most: list[int] = [0]

    def count(step: int, url: str) -> None:
        if url.endswith("/preview"):
            under_way[0] += step
            most[0] = max(most[0], under_way[0])

    editor.page.on("request", lambda request: count(1, request.url))
    editor.page.on("requestfinished", lambda request: count(-1, request.url))
    editor.put_caret_after("event_name: {const: ")
    for number in range(12):
        editor.page.keyboard.type(f"{number}_", delay=70)
    expect(editor.result).to_contain_text('"event_name": "0_1_2_3_4_5_6_7_8_9_10_11_storage"')
    assert most == [1]


def test_what_a_preview_took_is_a_number_whatever_its_digits(editor: Editor) -> None:
    def answer(route: Route) -> None:
        body = re.sub(r'"took_ms":[0-9.]+', '"took_ms":6.0', route.fetch().text())
        route.fulfill(body=body, content_type="application/json")

    editor.page.route("**/preview", answer)
    editor.open("seats")
    expect(editor.page.locator("#took")).to_have_text("Run in 6.0 ms")


def test_the_keyboard_is_never_caught_in_the_text(editor: Editor) -> None:
    editor.open("seats")
    editor.put_caret_after("role: lower(")
    text = editor.text.input_value()
    editor.page.keyboard.press("Tab")
    expect(editor.text).not_to_be_focused()
    editor.page.keyboard.press("Shift+Tab")
    expect(editor.text).to_be_focused()
    assert editor.text.input_value() == text


def test_enter_keeps_the_indent_and_undo_takes_back_what_was_completed(editor: Editor) -> None:
    editor.open("seats")
    before = editor.text.input_value()
    editor.put_caret_after("role: lower(properties.role)")
    editor.page.keyboard.press("Enter")
    editor.page.keyboard.type("who: user")
    editor.page.keyboard.press("Tab")
    expect(editor.text).to_have_value(before.replace("(properties.role)\n", "(properties.role)\n    who: userId\n", 1))
    for _ in range(30):
        editor.page.keyboard.press("Control+z")
    expect(editor.text).to_have_value(before)


def test_a_call_can_be_pasted_or_be_an_example_of_the_text(editor: Editor) -> None:
    editor.open("storage")
    editor.press("Examples")
    editor.page.get_by_role("button", name="example 1").first.click()
    expect(editor.result).to_contain_text('"gigabytes": 1.5')
    expect(editor.page.get_by_role("group", name="The call", exact=True)).to_contain_text('"messageId": "example-1"')
    editor.press("Edit a copy")
    field = editor.page.get_by_role("textbox", name="A call as JSON")
    field.fill(field.input_value().replace("1500000000", "3000000000"))
    expect(editor.result).to_contain_text('"gigabytes": 3')
    field.fill("{")
    expect(editor.page.locator("#paste-said")).to_contain_text("is no JSON")
    editor.visitor.check()


def test_a_call_is_saved_as_an_example_and_passes(editor: Editor, service: Served) -> None:
    call = send(
        service,
        messageId="example-of",
        event="Member Added",
        context={"groupId": "acme: the #1", "ip": "10.0.0.1"},
        properties={"role": "Admin", "note": "ann@example.org", "yes": "no", "big": 12345678901234567890},
    )
    editor.open("seats", f"?call={call}&example=1")
    expect(editor.said).to_contain_text("The example is written into the text")
    expect(editor.result).to_contain_text("Examples: 4 of 4 pass")
    written = editor.text.input_value().split("- name: a call of ")[1]
    assert 'groupId: "acme: the #1"' in written
    assert "person-1@example.com" in written
    assert '"yes": "no"' in written
    assert "big: 12345678901234567890" in written
    assert "10.0.0.1" not in written
    editor.save()


def test_a_transform_is_begun_for_a_call_that_none_took(editor: Editor, service: Served) -> None:
    call = send(service, messageId="export-1", event="Export Finished", properties={"rows": 12, "format": "CSV"})
    editor.visitor.go(f"/transforms/new?call={call}")
    editor.ready()
    assert editor.page.url == editor.visitor.url(f"/transforms/export_finished?call={call}")
    expect(editor.page.get_by_text("nothing named export_finished is live yet")).to_be_visible()
    assert "event: Export Finished" in editor.text.input_value()
    expect(editor.result).to_contain_text('"event_name": "export_finished"')
    editor.visitor.check()
    editor.publish()
    wait_until(lambda: service.get("/api/v1/transforms/export_finished", ADMIN_TOKEN).json["live"])
    expect(editor.page.locator("#standing")).to_contain_text("live")


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_in_both_schemes_and_widths(
    chromium: Browser, service: Served, scheme: str, viewport: object
) -> None:
    send(service, messageId=f"seen-{scheme}", event="Completion Finished", properties={"usage": {"input_tokens": 3}})
    context = chromium.new_context(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
    visitor = Visitor(context, service)
    visitor.sign_in()
    editor = Editor(visitor).open("tokens")
    panes = ("Call", "Transform", "Event") if viewport is NARROW else ("",)
    for pane in panes:
        if pane:
            editor.press(pane)
        visitor.check()
    if viewport is NARROW:
        editor.press("Transform")
        editor.add_line("model: properties.model", "more: properties.us")
        editor.press("Event")
        expect(editor.result).to_contain_text('"more": null')
        editor.press("History")
        visitor.check()
    context.close()


def test_hostile_calls_are_shown_as_text(editor: Editor, service: Served) -> None:
    hostile = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    call = send(
        service,
        messageId="hostile",
        event="Completion Created",
        userId=hostile[:40],
        properties={"__proto__": {"x": 1}, hostile: hostile, "turned": "\u202eevil", "id": 9007199254740993},
    )
    editor.open("tokens", f"?call={call}")
    shown = editor.page.get_by_role("group", name="The call", exact=True)
    expect(shown).to_contain_text(json.dumps(hostile))
    expect(shown).to_contain_text("9007199254740993")
    expect(shown).to_contain_text("\\u202eevil")
    expect(shown).to_contain_text('"__proto__"')
    editor.put_caret_after("input_tokens: coalesce(")
    editor.page.keyboard.type("properties.")
    expect(editor.completions.first).to_be_visible()
    editor.page.keyboard.press("Escape")
    editor.replace('match: {event: Completion Created}\nevent: {properties: properties}\n# <img src=x onerror="1">\n')
    expect(editor.result).to_contain_text(json.dumps(hostile))
    expect(editor.result).to_contain_text("9007199254740993")
    assert "taken" not in editor.page.title()
    assert editor.page.locator("main img, main script").count() == 0
    editor.visitor.check()


def test_a_call_of_megabytes_is_shown_in_part_and_tried_whole(editor: Editor, service: Served) -> None:
    assert service.post(to_raw(a_document(messageId="large", properties={"text": "x" * 5_000_000}))).status == 200
    call = service.get("/api/v1/calls?limit=1", ADMIN_TOKEN).json["calls"][0]
    editor.open("tokens", f"?call={call['id']}")
    shown = editor.page.get_by_role("group", name="The call", exact=True)
    expect(shown).to_contain_text("more characters")
    expect(editor.result).to_contain_text(call["detail"])
    editor.visitor.check()
