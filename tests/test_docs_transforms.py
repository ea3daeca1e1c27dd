"""docs/transforms.md is true: its files are read, its calls run, its events and its error sentences compared.

The page is a row of fenced blocks, told apart by what stands behind the language:

    yaml transform NAME    a file (`example` where no name is given; the shipped file, where there is one of that name)
    json call              a call, as in `examples`: what is left out is filled in
    json event             what it becomes: an event or a list of them, of which the written fields are compared
    text outcome           what it becomes: outcome and reason, and the sentence below
    text error             what `segment-lotus check` says of the files
    sh                     what is typed; each command and option is one that there is

Files that follow each other are active together, beside `_default`. A heading begins anew.
"""

import contextlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from app.core.json_text import decode
from app.core.lotus import CUSTOMER_ID_MAX, EVENT_NAME_MAX, IDEMPOTENCY_ID_MAX
from app.core.pipeline import Run, run
from app.core.times import parse_time
from app.core.transform.examples import run_examples, to_call, to_document
from app.core.transform.schema import SCHEMA
from app.core.transform.transform import DEFAULT, MAX_EVENTS_PER_CALL, Transform, TransformSet, parse_transform
from app.service.commands import main

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "transforms.md"
SHIPPED = ROOT / "transforms"

KINDS = {"sh", "yaml transform", "json call", "json event", "text outcome", "text error"}

RECEIVED_AT = parse_time("2026-01-01T00:00:01Z")

KIT = (
    *("@path", "@template", "@literal", "@if", '"exists"', '"blank"', "@case", "@replace", "@arrayPath", "@merge"),
    *("@flatten", "@json", "@transform", "@excludeWhenNull", "@liquid", "divided_by", "| date:"),
)
"""What Segment's mapping kit has; each has a line beside it."""


class Block(NamedTuple):
    kind: str
    name: str
    text: str
    line: int


class Claim(NamedTuple):
    """One thing that the page says, with all that it says it of."""

    files: tuple[Block, ...]
    call: Block | None
    said: Block


def blocks() -> Iterator[Block | None]:
    """Every fenced block of the page in order, and None for a heading."""
    fence, start, lines = "", 0, list[str]()
    for number, line in enumerate(PAGE.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```") and not fence:
            fence, start, lines = line.removeprefix("```"), number, []
        elif line == "```":
            words = fence.split()
            yield Block(" ".join(words[:2]), "".join(words[2:]) or "example", "\n".join(lines) + "\n", start)
            fence = ""
        elif fence:
            lines.append(line)
        elif line.startswith("#"):
            yield None
    assert not fence, f"the block of line {start} has no end"


def claims() -> Iterator[Claim]:
    files: tuple[Block, ...] = ()
    call: Block | None = None
    finished = True
    for block in blocks():
        if block is None:
            files, call, finished = (), None, True
        elif block.kind == "yaml transform":
            files, call, finished = ((block,) if finished else (*files, block)), None, False
        elif block.kind == "json call":
            call = block
        elif block.kind != "sh":
            finished = True
            yield Claim(files, call, block)


CLAIMS = list(claims())


def by_line(some: list[Claim]) -> list[str]:
    return [f"line {claim.said.line}" for claim in some]


def those_that_say(*kinds: str) -> list[Claim]:
    return [claim for claim in CLAIMS if claim.said.kind in kinds]


def the_default() -> Transform:
    return parse_transform(DEFAULT, (SHIPPED / f"{DEFAULT}.yaml").read_text(encoding="utf-8"), None)


def read_files(claim: Claim) -> tuple[Transform, ...]:
    default = the_default()
    return tuple(parse_transform(block.name, block.text, default) for block in claim.files)


def run_call(claim: Claim) -> Run:
    assert claim.call is not None, f"line {claim.said.line} says what becomes of a call, and there is none above it"
    files = read_files(claim)
    given = json.loads(claim.call.text)
    # Without a file the page gives the call whole.
    raw = msgspec.json.encode(to_call(given, files[-1]) if files else given)
    return run(raw, decode(raw), TransformSet([the_default(), *files]), RECEIVED_AT)


def check_files(claim: Claim, folder: Path) -> Result:
    """Type `segment-lotus check transforms` in a folder that has the files of the page."""
    (folder / "transforms").mkdir()
    (folder / "transforms" / f"{DEFAULT}.yaml").write_bytes((SHIPPED / f"{DEFAULT}.yaml").read_bytes())
    for block in claim.files:
        (folder / "transforms" / f"{block.name}.yaml").write_text(block.text, encoding="utf-8")
    with contextlib.chdir(folder):
        return CliRunner().invoke(main, ["check", "transforms"])


# --- The blocks


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    strange = [f"line {block.line}: {block.kind}" for block in blocks() if block and block.kind not in KINDS]
    assert not strange


def test_nothing_stands_on_the_page_without_a_claim_about_it() -> None:
    shown = {block.line for block in blocks() if block and block.kind in {"yaml transform", "json call"}}
    told = {block.line for claim in CLAIMS for block in (*claim.files, *([claim.call] if claim.call else []))}
    # `export_finished` is shown in the making: its first form is tried, its second is right. Both have a call.
    assert shown == told


@pytest.mark.parametrize("claim", those_that_say("json event"), ids=by_line(those_that_say("json event")))
def test_a_call_becomes_the_events_beside_it(claim: Claim) -> None:
    done = run_call(claim)
    assert done.outcome is None, f"{done.outcome} {done.reason}: {done.detail}"
    made = [to_document(event) for lane in done.lanes for event in lane.events]
    said = json.loads(claim.said.text)
    expected = [said] if isinstance(said, dict) else said
    shown = [{field: event[field] for field in want} for want, event in zip(expected, made, strict=True)]
    # As text: 1, 1.0 and true are not the same here.
    assert json.dumps(shown, sort_keys=True) == json.dumps(expected, sort_keys=True)


@pytest.mark.parametrize("claim", those_that_say("text outcome"), ids=by_line(those_that_say("text outcome")))
def test_a_call_ends_as_it_is_said(claim: Claim) -> None:
    done = run_call(claim)
    assert f"{done.outcome} {done.reason}\n{done.detail}\n" == claim.said.text


@pytest.mark.parametrize("claim", those_that_say("text error"), ids=by_line(those_that_say("text error")))
def test_check_refuses_a_file_in_these_words(claim: Claim, tmp_path: Path) -> None:
    result = check_files(claim, tmp_path)
    assert claim.said.text in result.output
    assert result.exit_code == 1


@pytest.mark.parametrize("claim", those_that_say("json event"), ids=by_line(those_that_say("json event")))
def test_the_examples_inside_a_file_hold(claim: Claim) -> None:
    for transform in read_files(claim):
        assert [result.difference for result in run_examples(transform) if result.difference] == []


def test_a_file_that_is_shipped_is_shown_as_it_is() -> None:
    shown = [block for block in blocks() if block and (SHIPPED / f"{block.name}.yaml").exists()]
    assert "api_call" in {block.name for block in shown}
    for block in shown:
        assert block.text == (SHIPPED / f"{block.name}.yaml").read_text(encoding="utf-8"), f"line {block.line}"


def test_the_first_event_on_the_page_is_whole() -> None:
    first = json.loads(those_that_say("json event")[0].said.text)
    assert list(first) == ["event_name", "idempotency_id", "customer_id", "time_created", "properties"]


# --- The text


def keys_of(schema: Any) -> Iterator[str]:
    """Every key that a file may have, wherever it stands."""
    if not isinstance(schema, dict):
        return
    yield from schema.get("properties", {})
    inner = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values(), *schema.get("oneOf", ())]
    for each in (*inner, schema.get("items"), schema.get("additionalProperties")):
        yield from keys_of(each)


@pytest.mark.parametrize("key", sorted(set(keys_of(SCHEMA))))
def test_every_key_of_a_file_is_explained(key: str) -> None:
    prose = re.sub(r"^```.*?^```", "", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    code = " ".join(re.findall(r"`([^`\n]+)`", prose))
    name = re.escape(key)
    assert re.search(rf"(?<![\w-]){name}(?![\w-])", code), f"{key} is not named between backticks"


@pytest.mark.parametrize("part", KIT)
def test_everything_the_mapping_kit_can_do_has_a_line_beside_it(part: str) -> None:
    comments = [line.strip() for block in blocks() if block for line in block.text.splitlines() if "# {" in line]
    assert any(part in line for line in comments)


def commands_in(text: str) -> Iterator[list[str]]:
    """Everything that is to be typed, as words: in a block of the shell or between backticks."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("segment-lotus "):
                yield shlex.split(line, comments=True)
    for typed in re.findall(r"`(segment-lotus [^`]+)`", " ".join(text.split())):
        yield shlex.split(typed.replace("<call id>", "ID"))


def test_what_is_to_be_typed_can_be_typed() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    # `segment-lotus backup` and the like: what follows is in the table of docs/cli.md.
    typed = [words for page in pages for words in commands_in(page.read_text(encoding="utf-8")) if len(words) > 2]
    assert len(typed) > 60
    for _, *words in typed:
        command: click.Command = main
        while isinstance(command, click.Group):
            assert words, f"{command.name} alone is no command"
            assert words[0] in command.commands, f"there is no command {' '.join(words)}"
            command = command.commands[words.pop(0)]
        known = {"--help", *(name for parameter in command.params for name in parameter.opts)}
        assert {word for word in words if word.startswith("--")} <= known, f"{command.name} {' '.join(words)}"


def test_limits_are_those_of_the_program() -> None:
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert f"text, 1 to {EVENT_NAME_MAX} characters" in text
    assert f"text or number, 1 to {IDEMPOTENCY_ID_MAX} characters" in text
    assert f"text or number, 1 to {CUSTOMER_ID_MAX} characters" in text
    assert f"The limits are {MAX_EVENTS_PER_CALL:,} items" in text


def test_links_within_the_page_and_to_other_pages_lead_somewhere() -> None:
    text = PAGE.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif not target.startswith("https://"):
            assert (PAGE.parent / target.partition("#")[0]).exists(), target
