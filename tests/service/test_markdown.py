"""Markdown as HTML: what may be on a page of ours, and what never is."""

from pathlib import Path

import html5lib
import pytest

from app.service.markdown import Heading, render
from tests.docs import DOCS
from tests.test_docs_links import anchors_of


def html_of(text: str) -> str:
    """The HTML of a text below a title, where only `ours.md` and addresses of the web lead somewhere."""
    html = render(f"# Title\n\n{text}", {"ours.md": "/ours", "https://example.com": "https://example.com"}.get).html
    html5lib.HTMLParser(strict=True).parseFragment(html)
    return html.strip()


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"),
        ("a <b onclick=x()>word</b>", "<p>a &lt;b onclick=x()&gt;word&lt;/b&gt;</p>"),
        ("<!-- a comment -->", "<p>&lt;!-- a comment --&gt;</p>"),
        ("`<i>`", "<p><code>&lt;i&gt;</code></p>"),
        ("[a](javascript:alert)", "<p>[a](javascript:alert)</p>"),
        ("[a](JaVaScRiPt:alert)", "<p>[a](JaVaScRiPt:alert)</p>"),
        ("<javascript:alert>", "<p>&lt;javascript:alert&gt;</p>"),
        ("[a](data:text/html,x)", "<p>[a](data:text/html,x)</p>"),
        ("[a](//example.com)", "<p>a</p>"),
        ("[a `b`](../README.md) c", "<p>a <code>b</code> c</p>"),
        ("[a](ours.md), [b](theirs.md), [c](ours.md)", '<p><a href="/ours">a</a>, b, <a href="/ours">c</a></p>'),
        ("<https://example.com>", '<p><a href="https://example.com">https://example.com</a></p>'),
        ('[a](ours.md "x\\" onclick=y")', '<p><a href="/ours" title="x&quot; onclick=y">a</a></p>'),
        ("![a picture](https://example.com/p.png)", ""),
        ("before ![a picture](p.png) after", "<p>before  after</p>"),
        ("```sh example\n<a>\n```", '<pre><code class="language-sh">&lt;a&gt;\n</code></pre>'),
        ('```x"onclick=y\na\n```', '<pre><code class="language-x&quot;onclick=y">a\n</code></pre>'),
    ],
)
def test_a_text_becomes_no_html_but_that_of_its_markdown(text: str, html: str) -> None:
    frame = '<div class="scroll" tabindex="0">\n'
    assert html_of(text).removeprefix(frame).removesuffix("\n</div>") == html


def test_a_table_scrolls_in_a_frame_and_has_no_style_of_its_own() -> None:
    html = html_of("|a|b|\n|-|-:|\n|1||")
    assert html.startswith('<div class="scroll" tabindex="0">\n<table>')
    assert html.endswith("</table>\n</div>")
    assert "<td>1</td>\n<td></td>" in html
    assert "style" not in html


def test_headings_have_the_anchors_of_github() -> None:
    article = render("# A & B\n\n## `x`: one's [Way](ours.md)\n\n### deeper\n\n## x: ones way\n", lambda _link: None)
    assert article.title == Heading("A & B", "a--b")
    assert article.sections == (Heading("x: one's Way", "x-ones-way"), Heading("x: ones way", "x-ones-way-1"))
    assert '<h3 id="deeper">' in article.html


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_the_anchors_of_a_page_are_those_that_its_links_are_checked_against(page: Path) -> None:
    article = render(page.read_text(encoding="utf-8"), lambda _link: None)
    below = html5lib.parseFragment(article.html, namespaceHTMLElements=False).iter()
    assert {article.title.anchor, *(each.get("id") for each in below if each.get("id"))} == anchors_of(page)
