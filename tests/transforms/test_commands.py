"""Working on transforms from the command line, in this process and on both databases."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app.core.text import schema_text
from app.core.transform.schema import SCHEMA
from app.core.yaml_text import parse_yaml
from app.service import commands
from app.service.build import build_watcher
from app.settings import SETTINGS, Settings
from app.store.engine import Database, connect
from tests.builders import DEFAULT_TEXT, a_document, a_record_of, some_transforms, store, to_raw

ROOT = Path(__file__).parent.parent.parent
ONE = "match: {event: Order}\nevent: {properties: {version: '`1`'}}\nexamples: [{given: {}, expect: stored}]\n"
TWO, THREE = (ONE.replace("1", number) for number in "23")


class Desk:
    """A folder in which somebody types commands; the service runs on the same database now and then."""

    def __init__(self, folder: Path, database: Database, url: str) -> None:
        self.folder = folder
        self.database = database
        self.settings = Settings(database_url=url, transforms_dir=folder / "transforms")

    def __call__(self, *words: str, **more: object) -> Result:
        """Type a command."""
        return CliRunner().invoke(commands.main, words, **more)  # type: ignore[arg-type]

    def write(self, **texts: str) -> None:
        (self.folder / "transforms").mkdir(exist_ok=True)
        for name, text in texts.items():
            (self.folder / "transforms" / f"{'_default' if name == 'default' else name}.yaml").write_text(text)

    def read(self, name: str) -> str:
        return (self.folder / "transforms" / name).read_text()

    def run_service(self) -> None:
        """Let the service look once."""
        watcher, _, _ = build_watcher(self.settings, self.database)
        watcher.begin()

    def states(self) -> dict[str, str]:
        lines = [json.loads(line) for line in self("transforms", "list", "--json").stdout.splitlines()]
        return {line["name"]: line["state"] for line in lines}

    def versions(self, name: str) -> list[str]:
        return [line.split()[1] for line in self("transforms", "history", name).stdout.splitlines()]


@pytest.fixture
def type_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A folder with transforms, and no database."""
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.setenv("DATABASE_URL", "sqlite:///there/is/none.db")
    monkeypatch.chdir(tmp_path)
    desk = Desk(tmp_path, None, "sqlite:///there/is/none.db")  # type: ignore[arg-type]
    desk.write(default=DEFAULT_TEXT, order=ONE)
    return desk


@pytest.fixture
def desk(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A folder with transforms that are live, and their database."""
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.setenv("DATABASE_URL", migrated_url)
    monkeypatch.chdir(tmp_path)
    database = connect(migrated_url)
    desk = Desk(tmp_path, database, migrated_url)
    desk.write(default=DEFAULT_TEXT, order=ONE)
    desk.run_service()
    yield desk
    database.close()


def said(result: Result, code: int = 0) -> str:
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


# --- check and schema


def test_check_needs_no_database_and_says_that_all_is_well(type_: Desk) -> None:
    assert said(type_("check")) == "2 transforms, 1 example: all is well.\n"
    assert said(type_("transforms", "check")) == "2 transforms, 1 example: all is well.\n"
    assert not (type_.folder / "there").exists()


def test_check_points_at_what_is_wrong_and_ends_with_1(type_: Desk) -> None:
    type_.write(order="match: {event: Order}\nevent:\n  customer_id: 'a ||'\n")
    lines = said(type_("check"), 1).splitlines()
    assert lines[0].startswith("error: transforms/order.yaml:3:21: ")
    assert lines[1:3] == ["      customer_id: 'a ||'", " " * 24 + "^"]
    assert lines[-1] == "2 transforms, 0 examples: 1 file cannot be published."


def test_a_hint_does_not_fail_the_check(type_: Desk) -> None:
    type_.write(order="match: {event: Order}\n")
    output = said(type_("check"))
    assert "hint: transforms/order.yaml:" in output
    assert output.endswith("2 transforms, 0 examples: can be published, with 1 hint.\n")


def test_check_looks_through_the_folder_that_is_named(type_: Desk) -> None:
    assert said(type_("check", str(ROOT / "transforms"))).splitlines()[-1].startswith("7 transforms, ")
    assert said(type_("check", "missing"), 1) == "error: there is no folder and no file missing\n"
    (type_.folder / "empty").mkdir()
    assert "there is no _default.yaml" in said(type_("check", "empty"), 1)


def test_the_published_schema_is_current(type_: Desk) -> None:
    assert said(type_("schema")) == schema_text(SCHEMA)
    assert (ROOT / "docs" / "transform.schema.json").read_text() == schema_text(SCHEMA), (
        "run `segment-lotus schema > docs/transform.schema.json`"
    )


# --- try


def test_a_call_in_a_file_is_tried_without_a_database(type_: Desk) -> None:
    (type_.folder / "call.json").write_bytes(to_raw(a_document(event="Order")))
    output = said(type_("try", "call.json"))
    for step in ("ok  parsed", "ok  transform  order at version", "ok  mapped", "ok  checked"):
        assert step in output
    assert '"version": 1' in output
    assert "µs" in output


def test_a_draft_is_tried_instead_and_standard_input_is_taken(type_: Desk) -> None:
    (type_.folder / "order.draft.yaml").write_text(TWO)
    raw = to_raw(a_document(event="Order"))
    output = said(type_("try", "-", "--transform", "order.draft.yaml", input=raw))
    assert '"version": 2' in output
    output = said(type_("try", "-", "--transform", "order.draft.yaml", input=to_raw(a_document(event="Other"))))
    assert "does not match this call" in output
    broken = type_.folder / "broken.yaml"
    broken.write_text("match: [")
    assert said(type_("try", "-", "--transform", "broken.yaml", input=raw), 1).startswith("error: broken.yaml:1:")


def test_every_call_of_a_batch_is_tried_and_a_rejected_one_gives_1(type_: Desk) -> None:
    batch = to_raw([a_document(event="Order"), a_document(event="Order", userId=""), {"type": "identify"}])
    output = said(type_("try", "-", input=batch), 1)
    assert output.count("by the files in transforms") == 3
    assert "no  checked" in output


def test_a_stored_call_is_tried_by_what_is_live_and_nothing_is_stored(desk: Desk) -> None:
    record = a_record_of(a_document(event="Order", messageId="m-1"), some_transforms())
    store(desk.database, record)
    for identifier in ("m-1", str(record.id)):
        output = said(desk("try", identifier))
        assert "order at version" in output
        assert '"version": 1' in output
    desk.write(order=TWO)
    assert '"version": 1' in said(desk("try", "m-1")), "the file is not live"
    assert '"version": 2' in said(desk("try", "m-1", "--transform", "transforms/order.yaml"))
    assert "there is no file 'm-2'" in said(desk("try", "m-2"), 1)


def test_check_looks_at_one_draft_as_if_it_were_in_its_place(type_: Desk) -> None:
    draft = type_.folder / "transforms" / "order.draft.yaml"
    draft.write_text("match: {event: Order}\nevent:\n  customer_id: 'a ||'\n")
    output = said(type_("check", str(draft)), 1)
    assert output.startswith(f"error: {draft}:3:21: ")
    assert output.endswith(f"{draft}: cannot be published.\n")
    draft.write_text(ONE)
    type_.write(other="not: a transform\n")
    assert said(type_("check", str(draft))) == f"{draft}: can be published.\n"
    assert said(type_("check", "transforms/other.yaml"), 1).startswith("error: transforms/other.yaml:1:1: ")


# --- new


def test_a_starter_is_a_draft_that_is_fit_and_is_not_overwritten(type_: Desk) -> None:
    output = said(type_("new", "Seat Added"))
    draft = type_.folder / "transforms" / "seat_added.draft.yaml"
    assert str(draft.relative_to(type_.folder)) in output
    assert said(type_("check")) == "2 transforms, 1 example: all is well.\n", "nothing maps by a draft"
    assert "exists already" in said(type_("new", "Seat Added"), 1)
    draft.rename(draft.with_name("seat_added.yaml"))
    assert said(type_("check")) == "3 transforms, 2 examples: all is well.\n"
    assert "exists already" in said(type_("new", "Seat Added"), 1)


def test_a_starter_from_calls_without_a_user_says_so_and_guesses_who_is_billed(desk: Desk) -> None:
    for number, properties in enumerate(({"rows": 1, "account_id": "a-1"}, {"account_id": 7})):
        document = a_document(event="Export", messageId=f"m-{number}", userId=None, properties=properties)
        store(desk.database, a_record_of(document, some_transforms()))
    said(desk("new", "Export", "--from-calls"))
    text = desk.read("export.draft.yaml")
    assert "None of these calls has a userId" in text
    assert "  # customer_id: properties.account_id\n" in text
    draft = desk.folder / "transforms" / "export.draft.yaml"
    draft.write_text(text.replace("  # customer_id:", "  customer_id:"))
    assert "expected event_invalid, and it is stored" in said(desk("check", str(draft)), 1)


def test_a_starter_names_the_schema_that_editors_complete_by(type_: Desk) -> None:
    type_("new", "One")
    hint = "# yaml-language-server: $schema="
    assert type_.read("one.draft.yaml").startswith(f"{hint}transform.schema.json\n")
    assert type_.read("transform.schema.json") == schema_text(SCHEMA)
    (type_.folder / "docs").mkdir()
    (type_.folder / "docs" / "transform.schema.json").write_text(schema_text(SCHEMA))
    type_("new", "Two")
    assert type_.read("two.draft.yaml").startswith(f"{hint}../docs/transform.schema.json\n")


def test_a_starter_from_calls_holds_their_properties_and_one_of_them_as_an_example(desk: Desk) -> None:
    calls: list[dict[str, Any]] = [
        {"tokens": 5, "model": "m-1", "user email": "ann@acme.example", "note": "x" * 50, "deep": {"yes": "no"}},
        {"tokens": 1.5, "model": None, "list": [{"by": "ann@acme.example"}, "2026-01-01", "on", " a: b #c"] * 3},
        {"tokens": "7", "empty": {}, "none": []},
    ]
    names = {name for properties in calls for name in properties}
    for number, properties in enumerate(calls):
        document = a_document(
            event="Chat: Done*", messageId=f"m-{number}", userId="ann@acme.example", properties=properties,
            context={"groupId": "acme", "ip": "1.2.3.4", "library": {"name": "x"}},
        )  # fmt: skip
        store(desk.database, a_record_of(document, some_transforms()))
    said(desk("new", "Chat: Done*", "--from-calls"))
    text = desk.read("chat_done.draft.yaml")
    for private in ("ann@acme", "x" * 50, "1.2.3.4", "library"):
        assert private not in text
    document = parse_yaml(text).value
    assert document["match"] == {"event": "Chat: Done*"}
    assert document["event"]["properties"]["user email"] == 'properties."user email"'
    assert set(document["event"]["properties"]) == names
    [line] = [line for line in text.splitlines() if line.lstrip().startswith("tokens: properties.tokens")]
    assert line.split("# ")[1] == "number or text"
    [line] = [line for line in text.splitlines() if line.lstrip().startswith("deep: ")]
    assert line.split("# ")[1] == "object, in 1 of 3 calls"
    [example] = document["examples"]
    assert example["given"]["properties"]["tokens"] == 5
    assert example["given"]["context"] == {"groupId": "acme"}
    assert example["given"]["properties"]["user email"] == "person-1@example.com"
    assert example["expect"]["properties"]["deep"] == {"yes": "no"}
    draft = desk.folder / "transforms" / "chat_done.draft.yaml"
    draft.rename(draft.with_name("chat_done.yaml"))
    assert said(desk("check")).startswith("3 transforms, 2 examples")


def test_without_a_stored_call_there_is_no_starter_from_calls(desk: Desk) -> None:
    assert "no stored track call has the event 'Nobody'" in said(desk("new", "Nobody", "--from-calls"), 1)
    assert list((desk.folder / "transforms").glob("*.draft.yaml")) == []


# --- Versions


def test_list_shows_how_every_file_stands_to_what_is_live(desk: Desk) -> None:
    assert desk.states() == {"_default": "same", "order": "same"}
    desk.write(order="match: [", another=TWO.replace("Order", "Another"))
    assert desk.states() == {"_default": "same", "order": "broken", "another": "new"}
    output = said(desk("transforms", "list"))
    assert "the file is not used, the live version stays" in output
    assert "goes live when the service runs" in output
    assert "order.yaml:1:9: " in output
    (desk.folder / "transforms" / "order.yaml").unlink()
    assert desk.states()["order"] == "no_file"


def test_show_gives_the_text_of_every_version(desk: Desk) -> None:
    desk.write(order=TWO)
    desk.run_service()
    second, first = desk.versions("order")
    assert desk("transforms", "show", "order").stdout == TWO
    assert desk("transforms", "show", "order", "--version", first).stdout == ONE
    assert second in desk("transforms", "show", "order").stderr
    assert "has no version" in said(desk("transforms", "show", "order", "--version", "00000000"), 1)
    assert "nothing is live under the name 'nothing'" in said(desk("transforms", "show", "nothing"), 1)


def test_diff_shows_what_the_file_changes(desk: Desk) -> None:
    assert "is the same as the live version" in said(desk("transforms", "diff", "order"))
    first = desk.versions("order")[0]
    desk.write(order=TWO)
    lines = said(desk("transforms", "diff", "order")).splitlines()
    assert lines[:2] == [f"--- live {first}", "+++ transforms/order.yaml"]
    assert [line for line in lines[3:] if line[0] in "+-"] == ["-" + ONE.splitlines()[1], "+" + TWO.splitlines()[1]]
    desk.run_service()
    assert "is the same as the live version" in said(desk("transforms", "diff", "order"))
    assert "-event" in said(desk("transforms", "diff", "order", "--version", first))
    desk.write(new=ONE.replace("Order", "New"))
    assert "+++ transforms/new.yaml" in said(desk("transforms", "diff", "new"))


def test_rollback_shows_drift_which_publish_or_pull_resolves(desk: Desk) -> None:
    desk.write(order=TWO)
    desk.run_service()
    output = said(desk("transforms", "rollback", "order"))
    assert "+event: {properties: {version: '`1`'}}" in output
    assert desk.states()["order"] == "drift"
    assert "publish order, or pull order" in said(desk("transforms", "list"))
    desk.run_service()
    assert desk("transforms", "show", "order").stdout == ONE

    output = said(desk("transforms", "pull", "order"))
    assert "waits until a person publishes it: segment-lotus transforms publish order" in output
    assert desk.read("order.yaml") == ONE
    assert desk.states()["order"] == "same"
    assert "already" in said(desk("transforms", "pull", "order"))

    desk.write(order=THREE)
    desk.run_service()
    assert desk.states()["order"] == "drift"
    output = said(desk("transforms", "publish", "order"))
    assert "-event: {properties: {version: '`1`'}}" in output
    assert desk.states()["order"] == "same"
    assert "is live and the same as its file" in said(desk("transforms", "publish", "order"))
    lines = [line.split()[2] for line in said(desk("transforms", "history", "order")).splitlines()]
    assert lines == ["file", "editor", "file", "file"]


def test_a_file_that_cannot_be_used_is_not_published(desk: Desk) -> None:
    desk.write(order=ONE.replace("expect: stored", "expect: filtered"))
    output = said(desk("transforms", "publish", "order"), 1)
    assert output.startswith("error: order.yaml:3:12: ")
    assert desk("transforms", "show", "order").stdout == ONE
    assert "nothing is live under that name" in said(desk("transforms", "publish", "nothing"), 1)
    assert "is not a valid transform name" in said(desk("transforms", "publish", "../nothing"), 1)


def test_a_transform_without_a_file_is_taken_out_after_asking(desk: Desk) -> None:
    (desk.folder / "transforms" / "order.yaml").unlink()
    assert said(desk("transforms", "publish", "order", input="n\n"), 1).startswith("There is no transforms/order.yaml.")
    assert desk.states()["order"] == "no_file"
    assert "is unpublished" in said(desk("transforms", "publish", "order", input="y\n"))
    assert desk.states() == {"_default": "same"}
    assert "unpublished" in said(desk("transforms", "history", "order"))
    desk.write(order=ONE)
    assert desk.states()["order"] == "drift"
    assert "was unpublished" in said(desk("transforms", "list"))


def test_a_transform_is_unpublished_after_asking_unless_its_file_keeps_it_live(desk: Desk) -> None:
    assert "order comes from transforms/order.yaml: delete that file" in said(
        desk("transforms", "unpublish", "order", "--yes"), 1
    )
    desk.write(order=ONE + "# changed\n")
    said(desk("transforms", "publish", "order"))
    said(desk("transforms", "rollback", "order"))
    assert said(desk("transforms", "unpublish", "order", input="n\n"), 1).startswith(
        "Unpublish order? Its calls then go to"
    )
    assert desk.states()["order"] == "drift"
    assert "is unpublished" in said(desk("transforms", "unpublish", "order", "--yes"))
    assert "nothing is live under the name 'order'" in said(desk("transforms", "unpublish", "order", "--yes"), 1)
    assert "cannot be unpublished" in said(desk("transforms", "unpublish", "_default", "--yes"), 1)


def test_a_new_default_says_what_was_published_anew(desk: Desk) -> None:
    desk.write(default=DEFAULT_TEXT + "# changed\n")
    output = said(desk("transforms", "publish", "_default"))
    assert "Also published again, since they inherit from it: order" in output


def test_commands_that_need_a_database_say_so(type_: Desk) -> None:
    for words in (["list"], ["show", "order"], ["history", "order"], ["publish", "order"], ["rollback", "order"]):
        assert "segment-lotus migrate" in said(type_("transforms", *words), 1)
