"""The documentation that the service shows: every page of docs/, every link, and what each page links to."""

import re
from html import unescape
from xml.etree.ElementTree import Element

import html5lib
import pytest

from app.service.help import to_address
from tests.docs import DOCS, ROOT
from tests.sites import Site
from tests.web.visiting import page

NAMES = sorted(file.stem for file in DOCS.glob("*.md"))
TEMPLATES = ROOT / "app" / "web" / "templates"

# Where the frame of all pages leads.
FRAME = {"/", "/calls", "/problems", "/deliveries", "/transforms", "/usage", "/setup"}

# Where the link "Help" of each page leads.
HELP = {
    "/": "/help",
    "/calls": "/help/responses#outcomes",
    "/problems": "/help/responses#outcomes",
    "/deliveries": "/help/forward#look-at-deliveries",
    "/transforms": "/help/transforms",
    "/transforms/_default": "/help/transforms#reference",
    "/usage": "/help/metrics",
    "/replays": "/help/cli#replay",
    "/setup": "/help/segment",
    "/help": "/help",
    "/help/metrics": "/help",
}


def to_title(name: str) -> str:
    first = (DOCS / f"{name}.md").read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("# ")


class Shown:
    """A page as a browser sees it: where its links lead, and where links can lead to."""

    def __init__(self, text: str) -> None:
        document: Element = html5lib.parse(text, namespaceHTMLElements=False)
        elements = list(document.iter())
        self.attributes = {name for each in elements for name in each.attrib}
        self.ids = [each.get("id", "") for each in elements if each.get("id")]
        self.links = {each.get("href", "") for each in elements if each.tag == "a"}
        self.pictures = [each.get("src", "") for each in elements if each.tag == "img"]


@pytest.fixture
def shown(visited: Site) -> dict[str, Shown]:
    """Every page of the documentation by its address."""
    addresses = ["/help", *(f"/help/{name}" for name in NAMES)]
    return {address: Shown(visited.client.get(address).get_data(as_text=True)) for address in addresses}


def test_every_link_of_the_documentation_leads_to_what_is_shown(shown: dict[str, Shown]) -> None:
    dead = []
    for address, text in shown.items():
        assert len(text.ids) == len(set(text.ids)), address
        assert not {name for name in text.attributes if name == "style" or name.startswith("on")}
        assert len(text.pictures) == 1, "the sign in the head of the page, and none of a checkout"
        for link in text.links:
            place, _, anchor = link.partition("#")
            target = shown.get(place or address)
            if place.startswith("/help") or not place:
                dead += [(address, link)] * (target is None or (anchor != "" and anchor not in target.ids))
            else:
                assert place in FRAME or link.startswith("https://"), link
    assert dead == []
    assert set(shown) - {"/help/index"} <= shown["/help"].links, "the index leads to every page"


def test_every_page_of_the_documentation_is_valid_html(visited: Site) -> None:
    for name in NAMES:
        assert f">{to_title(name)}</h1>" in page(visited, f"/help/{name}")


def test_it_is_a_page_as_all_are_behind_the_sign_in(site: Site, visited: Site) -> None:
    policies = {
        visited.client.get(path).headers["Content-Security-Policy"] for path in ("/setup", "/help", "/help/cli")
    }
    assert len(policies) == 1
    visited.client.post("/sign-out", data={"csrf": re.findall(r'name="csrf" value="(.+?)"', page(visited, "/help"))[0]})
    for path in ("/help", "/help/transforms", "/help/nothing"):
        text = page(visited, path, 401)
        assert f'name="next" value="{path}"' in text
        assert "Help</a>" not in text


@pytest.mark.parametrize("name", ["nothing", "..", "index.md", "docs", "%2e%2e", "metric.schema", "INDEX"])
def test_a_name_that_is_none_of_a_page_is_not_found(visited: Site, name: str) -> None:
    assert "<h1>Not found</h1>" in page(visited, f"/help/{name}", 404)


@pytest.mark.parametrize(
    ("link", "address"),
    [
        ("index.md", "/help"),
        ("transforms.md", "/help/transforms"),
        ("transforms.md#each", "/help/transforms#each"),
        ("#each", "#each"),
        ("https://example.com/x.md", "https://example.com/x.md"),
        ("../README.md", None),
        ("../CONTRIBUTING.md#documentation", None),
        ("metric.schema.json", None),
        ("transforms", None),
        ("/etc/passwd.md", None),
        ("http://example.com", None),
        ("//example.com", None),
        ("javascript:alert(1)", None),
        ("", ""),
    ],
)
def test_a_link_leads_to_a_page_that_is_shown_or_is_none(link: str, address: str | None) -> None:
    assert to_address(link) == address


def test_each_page_links_to_its_place_in_the_documentation(visited: Site) -> None:
    links = {path: unescape(*re.findall(r'<a class="to-help" href="(.+?)"', page(visited, path))) for path in HELP}
    assert links == HELP


def test_whatever_a_page_links_to_in_the_documentation_is_there(shown: dict[str, Shown]) -> None:
    texts = {file.name: file.read_text(encoding="utf-8") for file in TEMPLATES.glob("*.html")}
    links = {name: re.findall(r'/help\b[^"{%]*', text) for name, text in texts.items()}
    # The overview and the documentation itself lead to the index, as the frame of all pages says.
    without = {name for name, text in texts.items() if "block main" in text and "block help" not in text}
    assert without == {"overview.html", "help.html", "sign_in.html", "sign_in_link.html"}
    for name in texts:
        for link in links[name]:
            place, _, anchor = link.partition("#")
            assert not anchor or anchor in shown[place].ids, (name, link)
            assert place in shown, (name, link)
