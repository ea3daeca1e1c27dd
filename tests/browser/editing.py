"""A person at the editor of a transform."""

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Visitor

EVENT_LINE = "event_name: {const: api_call}"
"""The line of api_call.yaml behind which tests write."""


class Editor:
    """The page of one transform, as somebody sees it who looks at it or has it read out."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor
        self.page: Page = visitor.page

    @property
    def text(self) -> Locator:
        return self.page.get_by_role("textbox", name="Transform", exact=True)

    @property
    def said(self) -> Locator:
        """What was said of the last act."""
        return self.page.locator("#said")

    @property
    def result(self) -> Locator:
        """The pane of the event."""
        return self.page.get_by_role("region", name="Event", exact=True)

    @property
    def dialog(self) -> Locator:
        return self.page.get_by_role("dialog")

    @property
    def completions(self) -> Locator:
        return self.page.get_by_role("option")

    @property
    def problems(self) -> Locator:
        return self.page.get_by_role("list", name="Problems").get_by_role("listitem")

    def open(self, name: str, query: str = "") -> "Editor":
        """Open the editor of a transform, and wait until it has said what it makes of the call."""
        self.visitor.go(f"/transforms/{name}{query}")
        self.ready()
        return self

    def ready(self) -> None:
        """Wait until the text is there and was run."""
        expect(self.text).to_be_editable()
        expect(self.page.locator("#took")).not_to_be_empty()

    def press(self, name: str) -> None:
        """Press a button of the page."""
        self.page.get_by_role("button", name=name, exact=True).click()

    def answer(self, name: str) -> None:
        """Press a button of the dialog."""
        self.dialog.get_by_role("button", name=name, exact=True).click()
        expect(self.dialog).to_have_count(0)

    def put_caret_after(self, part: str) -> None:
        """Put the caret behind a part of the text, as a click would."""
        self.text.evaluate(
            "(area, part) => { const end = area.value.indexOf(part) + part.length;"
            " area.focus(); area.setSelectionRange(end, end); }",
            part,
        )

    def add_line(self, after: str, line: str) -> None:
        """Type a line below another."""
        self.put_caret_after(after)
        self.page.keyboard.press("Enter")
        self.page.keyboard.type(line)
        self.page.keyboard.press("Escape")

    def replace(self, text: str) -> None:
        """Put another text in the place of all, as somebody does who pastes one."""
        self.text.press("Control+a")
        self.page.keyboard.insert_text(text)

    def save(self) -> None:
        """Save the draft by keyboard."""
        self.page.keyboard.press("Control+s")
        expect(self.said).to_contain_text("The draft is saved.")

    def publish(self) -> None:
        """Publish, and say yes."""
        self.press("Publish…")
        self.answer("Publish")
        expect(self.said).to_contain_text("Published")
