"""What the address of the calls page asks for. All of the view is in it, so that a view can be shared."""

from collections.abc import Iterable, Mapping
from urllib.parse import urlencode

import msgspec

from app.store.query import CALL_PARAMETERS, parse_call_filters, parse_id
from app.store.review_sources import CallFilters
from app.web.parameters import to_texts

SINCE_DEFAULT = "7d"
EVER = "all"

RANGES = (
    ("1h", "Last hour"),
    ("1d", "Last 24 hours"),
    ("7d", "Last 7 days"),
    ("30d", "Last 30 days"),
    (EVER, "All time"),
)

ACCEPTED = (*CALL_PARAMETERS, "q", "before")


class CallQuery(msgspec.Struct, frozen=True, kw_only=True):
    """One view of the calls."""

    texts: dict[str, str]
    """The filters as they were written, without those that are empty."""
    filters: CallFilters
    q: str | None
    before: int | None
    since: str
    """What the time begins with, as it is chosen on the page."""

    @property
    def fields(self) -> dict[str, str]:
        """What stands in each field of the form."""
        return {name: self.texts.get(name, "") for name in ACCEPTED}

    @property
    def live(self) -> bool:
        """Whether new calls belong on this page."""
        return self.before is None and self.filters.until is None

    @property
    def narrowed(self) -> bool:
        """Whether anything but the time leaves calls out."""
        return bool(self.texts.keys() - {"since"})

    def address(self, path: str = "/calls", **changes: str | None) -> str:
        """Return the address of this view, with some filters changed, or left out for None."""
        wanted = {**self.texts, **changes}
        query = urlencode([(name, text) for name, text in wanted.items() if text], errors="replace")
        return f"{path}?{query}" if query else path


def read_query(given: Iterable[tuple[str, list[str]]], now: int) -> CallQuery:
    """Read the parameters of an address; `now` in microseconds since 1970. Raises BadQuery.

    A form sends its empty fields too: they count as not given.
    """
    texts = to_texts(given, ACCEPTED)
    before = texts.pop("before", None)
    narrow = {name: text for name, text in texts.items() if name in CALL_PARAMETERS}
    # An id leads to its call however old that is.
    since = narrow.get("since") or (EVER if "id" in narrow else SINCE_DEFAULT)
    narrow.pop("since", None)
    if since != EVER:
        narrow["since"] = since
    return CallQuery(
        texts=texts,
        filters=parse_call_filters(narrow, now),
        q=texts.get("q"),
        before=None if before is None else parse_id("before", before),
        since=since,
    )


def written(given: Mapping[str, str]) -> CallQuery:
    """Return a view for a query that cannot be used: its texts, to be corrected."""
    return CallQuery(
        texts=dict(given), filters=CallFilters(), q=None, before=None, since=given.get("since", SINCE_DEFAULT)
    )
