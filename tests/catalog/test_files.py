"""The folder of transform files, and what `check` finds in it."""

from pathlib import Path

import pytest

from app.catalog.check import CheckReport, check
from app.catalog.files import fingerprint, read_folder, to_name, to_path, write_file
from app.core.transform.transform import DEFAULT, TransformSet
from app.errors import TransformInvalid
from tests.builders import DEFAULT_TEXT, NOW, a_call, some_transforms

ROOT = Path(__file__).parent.parent.parent
ORDER = "match: {event: Order}\nevent: {properties: {total: properties.total}}\n"


def a_folder(path: Path, **texts: str) -> Path:
    for name, text in {"_default": DEFAULT_TEXT, **texts}.items():
        (path / f"{name}.yaml").write_text(text, encoding="utf-8")
    return path


def check_folder(folder: Path) -> CheckReport:
    found = read_folder(folder)
    return check(found.texts, found.problems)


def blocking(checked: CheckReport) -> list[str]:
    return [problem.sentence for problem in checked.problems if problem.blocking]


def test_every_yaml_file_of_a_folder_is_a_transform_of_its_name(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, order=ORDER, z_page="match: {type: page}")
    for name in ("README.md", "off.yaml.off", ".order.yaml.swp", ".#order.yaml", ".hidden.yaml", "next.draft.yaml"):
        (folder / name).write_text("{{{")
    checked = check_folder(folder)
    assert blocking(checked) == []
    assert sorted(checked.transforms) == ["_default", "order", "z_page"]
    assert {one.digest for one in checked.transforms.values()} == {
        one.digest for one in some_transforms(order=ORDER, z_page="match: {type: page}").transforms
    }, "where a text comes from is no part of its version"


def test_the_transforms_that_are_shipped_are_fit() -> None:
    checked = check_folder(ROOT / "transforms")
    assert blocking(checked) == []
    assert checked.fit_names() == checked.names
    chosen = TransformSet(checked.transforms.values()).choose(a_call(event="Anything")).main
    assert chosen is not None
    assert chosen.name == DEFAULT
    assert chosen.apply(a_call(), NOW)[0].customer_id == "customer-1"


def test_a_folder_without_a_default_is_not_fit(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        assert blocking(check_folder(folder)) == ["there is no _default.yaml, which all transforms inherit from"]


def test_a_file_with_a_mistake_is_told_with_its_place_and_keeps_no_other_from_being_used(tmp_path: Path) -> None:
    checked = check_folder(a_folder(tmp_path, order="event:\n  customer_id: 'a ||'\n", good=ORDER))
    [sentence] = blocking(checked)
    assert sentence.startswith("order.yaml:2:21: ")
    assert sentence.endswith("^")
    assert sorted(checked.transforms) == ["_default", "good"]


def test_a_file_that_cannot_be_read_is_told_by_name(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    (folder / "latin.yaml").write_bytes(b"description: caf\xe9\n")
    (folder / "large.yaml").write_bytes(b"#" * (256 * 1024 + 1))
    (folder / "folder.yaml").mkdir()
    (folder / "a name.yaml").write_text(ORDER)
    problems = read_folder(folder).problems
    assert problems["latin"] == "latin.yaml is not UTF-8 at byte 16"
    assert problems["large"].startswith("large.yaml is larger")
    assert problems["folder"].startswith("folder.yaml cannot be read")
    assert problems["a name"].startswith("a name.yaml cannot be used")


def test_examples_that_do_not_hold_are_told_with_their_place(tmp_path: Path) -> None:
    text = ORDER + "examples:\n  - {given: {}, expect: filtered}\n  - {given: {}, expect: stored}\n"
    checked = check_folder(a_folder(tmp_path, order=text))
    assert checked.examples == 2
    [sentence] = blocking(checked)
    assert sentence.startswith("order.yaml:4:5: ")


def test_every_change_of_a_file_changes_the_fingerprint(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, order=ORDER)
    seen = {fingerprint(folder)}
    write_file(folder / "order.yaml", ORDER)
    seen.add(fingerprint(folder))
    write_file(folder / "other.yaml", ORDER)
    seen.add(fingerprint(folder))
    (folder / "order.yaml").unlink()
    seen.add(fingerprint(folder))
    (folder / ".other.yaml.swp").write_text("x")
    (folder / "other.draft.yaml").write_text("x")
    seen.add(fingerprint(folder))
    assert len(seen) == 4
    assert fingerprint(folder / "missing") == ()


def test_a_file_is_written_as_a_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "order.yaml"
    path.write_text("before")
    path.chmod(0o640)
    write_file(path, "after \N{SNOWMAN}\r\n")
    assert path.read_bytes() == "after \N{SNOWMAN}\r\n".encode()
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["", "../up", "a/b", "a b", ".hidden", "-option", "x" * 101, "a\n", "\N{SNOWMAN}"])
def test_what_is_no_name_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(TransformInvalid):
        to_path(tmp_path, name)


def test_a_draft_has_the_name_that_it_will_have(tmp_path: Path) -> None:
    assert to_name(to_path(tmp_path, "order", draft=True)) == to_name(to_path(tmp_path, "order")) == "order"
