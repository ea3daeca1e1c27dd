"""Renders Markdown as HTML for a page: no raw HTML, the anchors of GitHub, and only permitted links."""

import re
from collections.abc import Callable, Iterator
from itertools import pairwise

import msgspec
from markdown_it import MarkdownIt
from markdown_it.token import Token

ToAddress = Callable[[str], str | None]
"""(link as written) -> its address on the page; None: only its text is shown."""

_PARSER = MarkdownIt("commonmark", {"html": False}).enable("table")
_TITLE = 3
"""The number of tokens of the title: its beginning, its text, its end."""


class Heading(msgspec.Struct, frozen=True):
    """A heading and its anchor."""

    text: str
    anchor: str


class Article(msgspec.Struct, frozen=True):
    """A rendered text."""

    title: Heading
    sections: tuple[Heading, ...]
    html: str
    """What follows the title."""


def render(text: str, to_address: ToAddress) -> Article:
    """Render a text that begins with its title."""
    tokens = _PARSER.parse(text)
    title, *sections = _anchor(tokens)
    for before, inline, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if inline.children is None:
            continue
        # Columns are aligned by a style attribute, which the content-security policy forbids.
        before.attrs.pop("style", None)
        inline.children = list(_linked(inline.children, to_address))
        if before.type == "paragraph_open" and not inline.children:
            before.hidden = after.hidden = True
    html = _PARSER.renderer.render(list(_framed(tokens[_TITLE:])), _PARSER.options, {})
    return Article(title, tuple(sections), html)


def _anchor(tokens: list[Token]) -> list[Heading]:
    """Set the anchor of each heading; return the title and the headings of the level below it."""
    headings = []
    anchors = set[str]()
    for heading, inline in pairwise(tokens):
        if heading.type != "heading_open":
            continue
        text = "".join(child.content for child in inline.children or ())
        anchor = plain = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        number = 0
        while anchor in anchors:
            number += 1
            anchor = f"{plain}-{number}"
        anchors.add(anchor)
        heading.attrSet("id", anchor)
        if heading.tag in {"h1", "h2"}:
            headings.append(Heading(text, anchor))
    return headings


def _linked(children: list[Token], to_address: ToAddress) -> Iterator[Token]:
    """Yield the parts of a line, with the addresses of links and without pictures."""
    address: str | None = None
    for child in children:
        if child.type == "image":
            continue
        if child.type == "link_open":
            address = to_address(str(child.attrGet("href")))
            child.attrSet("href", address or "")
        # Links do not nest: the next end belongs to the last beginning.
        if address is not None or child.type not in {"link_open", "link_close"}:
            yield child


def _framed(tokens: list[Token]) -> Iterator[Token]:
    """Wrap what may be wider than the page in a frame that scrolls, also by keyboard."""
    for token in tokens:
        is_code = token.type in {"fence", "code_block"}
        if is_code or token.type == "table_open":
            yield Token("frame_open", "div", 1, attrs={"class": "scroll", "tabindex": "0"}, block=True)
        yield token
        if is_code or token.type == "table_close":
            yield Token("frame_close", "div", -1, block=True)
