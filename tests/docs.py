"""The documentation as data: its pages, and the fenced blocks on them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = (README, ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md", *sorted(DOCS.glob("*.md")))

_FENCE = re.compile(r"^( *)```(.*?)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """One fenced block."""

    info: str
    """What stands behind the opening fence: `sh`, `sh example`, `json`."""
    text: str
    place: str
    """Page and line, for messages."""
    follows: bool
    """Only blank lines lie between it and the block before."""


def blocks_of(page: Path) -> Iterator[Block]:
    """Give the blocks of a page in order."""
    text = page.read_text(encoding="utf-8")
    end = -1
    for match in _FENCE.finditer(text):
        place = f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}"
        follows = end >= 0 and not text[end : match.start()].strip()
        yield Block(match[2].strip(), match[3], place, follows)
        end = match.end()


def without_blocks(markdown: str) -> str:
    """Return the prose of a page."""
    return _FENCE.sub("", markdown)


def section_of(page: Path, heading: str) -> str:
    """Return what stands below a heading, up to the next one of its level."""
    text = page.read_text(encoding="utf-8")
    level = heading.partition(" ")[0]
    _, found, rest = text.partition(f"\n{heading}\n")
    assert found, f"{page.name} has no heading {heading!r}"
    return rest.partition(f"\n{level} ")[0]


def first_cells(markdown: str, columns: int = 1) -> list[tuple[str, ...]]:
    """Return the first cells of each row of all tables, header rows left out."""
    rows = []
    lines = markdown.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("|") and not line.startswith("|---") and not following.startswith("|---"):
            rows.append(tuple(cell.strip() for cell in line.strip("|").split("|")[:columns]))
    return rows
