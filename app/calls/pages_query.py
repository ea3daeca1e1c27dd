"""The query of the calls page. Its address holds all of it, so that a view can be shared."""

from collections.abc import Iterable, Mapping

import msgspec

from app.core.outcome import Outcome
from app.store.query import CALL_PARAMETERS, parse_call_filters, parse_id
from app.store.review_sources import CallFilters
from app.web.pages import Localize
from app.web.parameters import to_address, to_texts

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
    """The filters as typed, without empty ones."""
    filters: CallFilters
    q: str | None
    before: int | None
    since: str
    """The start of the period, as chosen on the page."""
    asked: dict[str, str] = {}
    """The filters as the API takes them, with times that say their offset."""

    @property
    def fields(self) -> dict[str, str]:
        """The text of each field of the form."""
        return {name: self.texts.get(name, "") for name in ACCEPTED}

    @property
    def live(self) -> bool:
        """Whether new calls belong on this page."""
        return self.before is None and self.filters.until is None

    @property
    def narrowed(self) -> bool:
        """Whether there is a filter besides the period."""
        return bool(self.texts.keys() - {"since"})

    def corrections_address(self) -> str | None:
        """Return the address of a correction of the events of these calls; None if they cannot be named there."""
        names = {"event": "call_event", "customer": "customer", "transform": "transform"}
        filters = {name: self.texts[own] for own, name in names.items() if own in self.texts}
        if not filters or not self.texts.keys() <= {*names, "since", "until", "outcome"}:
            return None
        if self.filters.outcomes and Outcome.STORED not in self.filters.outcomes:
            return None
        since = None if self.since == EVER else self.since
        return to_address(
            "/corrections", {**filters, "received_since": since, "received_until": self.texts.get("until")}
        )

    def address(self, path: str = "/calls", **changes: str | None) -> str:
        """Return the address of this view with some filters changed, or removed if None."""
        return to_address(path, {**self.texts, **changes})

    def csv_address(self, tz: str) -> str:
        """Return the address of all calls of this view as a CSV file, with its times in a zone."""
        return to_address("/api/v1/calls.csv", {**self.asked, "q": self.q, "tz": tz})


def parse_query(params: Iterable[tuple[str, list[str]]], now: int, localize: Localize) -> CallQuery:
    """Parse the parameters of an address; `now` in microseconds since 1970. Raises BadQuery."""
    texts = to_texts(params, ACCEPTED)
    before = texts.pop("before", None)
    filter_texts = {name: text for name, text in texts.items() if name in CALL_PARAMETERS}
    # A call is found by its id however old it is.
    since = filter_texts.get("since") or (EVER if "id" in filter_texts else SINCE_DEFAULT)
    filter_texts.pop("since", None)
    if since != EVER:
        filter_texts["since"] = since
    asked = localize(filter_texts)
    return CallQuery(
        texts=texts,
        asked=asked,
        filters=parse_call_filters(asked, now),
        q=texts.get("q"),
        before=None if before is None else parse_id("before", before),
        since=since,
    )


def invalid_query(texts: Mapping[str, str]) -> CallQuery:
    """Return the view of an invalid query: its texts, for correction in the form."""
    return CallQuery(
        texts=dict(texts), filters=CallFilters(), q=None, before=None, since=texts.get("since", SINCE_DEFAULT)
    )
