"""The documentation leads somewhere: relative links and anchors resolve, and what is committed stands by itself."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import DOCS, PAGES, ROOT, section_of, without_blocks

# What a person reads in a checkout: prose, code and its comments, files that are shipped.
READABLE = {".md", ".py", ".html", ".js", ".css", ".yaml", ".toml", ".lua", ".sh", ".conf", ".service", ".example", ""}
FOLDERS = ("app", "benchmarks", "deploy", "docs", "metrics", "tests", "tools", "transforms")
# Reports of other projects, each cited by its public address.
PUBLIC_REPORTS = ROOT / "tests" / "cases" / "field.yaml"
OUTSIDE = re.compile(
    # A folder beside the checkout, as in `../contracts/x.md`. Pages link to `../README.md`, which is in it.
    r"\.\./(?:\.\./)*[\w-]+/[\w./-]+\.md"
    r"|/(?:work|home|root)/\w+"
    r"|\b[Ii]ssues? #?\d+\b"
)


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them of its headings."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(page.read_text(encoding="utf-8")), re.MULTILINE)
    anchors = set[str]()
    for heading in headings:
        anchor = plain = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        while anchor in anchors:
            number += 1
            anchor = f"{plain}-{number}"
        anchors.add(anchor)
    return anchors


def links_of(page: Path) -> list[str]:
    text = re.sub(r"`[^`\n]*`", "", without_blocks(page.read_text(encoding="utf-8")))
    return re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    dead = []
    for link in links_of(page):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        in_checkout = target.is_relative_to(ROOT) and target.exists()
        if not in_checkout or (anchor and anchor not in anchors_of(target)):
            dead.append(link)
    assert not dead


def test_what_the_program_says_of_the_docs_is_there() -> None:
    dead = []
    for path in readable():
        if not path.is_relative_to(ROOT / "app"):
            continue
        for name, heading in re.findall(r"docs/([\w-]+\.md)(?:, \"(.+?)\")?", path.read_text(encoding="utf-8")):
            page = DOCS / name
            if not page.exists() or (heading and f"# {heading}\n" not in page.read_text(encoding="utf-8")):
                dead.append(f"{path.relative_to(ROOT)}: {name} {heading}")
    assert not dead


def readable() -> Iterator[Path]:
    yield from (
        path for path in ROOT.iterdir() if path.suffix in {".md", ".toml"} or path.name in {"Makefile", "Procfile"}
    )
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix in READABLE and path not in {PUBLIC_REPORTS, Path(__file__)}:
                yield path


def test_nothing_that_is_committed_cites_a_folder_outside_or_a_numbered_task() -> None:
    cited = []
    for path in readable():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            cited += [f"{path.relative_to(ROOT)}:{number}: {found}" for found in OUTSIDE.findall(line)]
    assert not cited


def test_a_section_ends_at_the_next_heading_of_its_level() -> None:
    text = section_of(DOCS / "operate.md", "## Logs")
    assert "one line per call" in text
    assert "Limits under load" not in text
