"""The query of the page of deliveries. The whole view is in the address, so that it can be shared."""

from collections.abc import Iterable, Mapping

import msgspec

from app.core.times import format_time
from app.forward.outbox import DELIVERY_PARAMETERS, parse_delivery_filters
from app.forward.sql_search import DeliveryFilters
from app.store.query import parse_id
from app.web.pages import Localize
from app.web.parameters import to_address, to_texts

RANGES = (("1h", "Last hour"), ("1d", "Last 24 hours"), ("7d", "Last 7 days"), ("30d", "Last 30 days"))

_ACCEPTED = (*DELIVERY_PARAMETERS, "before")


class DeliveryQuery(msgspec.Struct, frozen=True, kw_only=True):
    """One view of the deliveries."""

    texts: dict[str, str]
    """The filters as entered, without empty ones."""
    filters: DeliveryFilters
    before: int | None = None
    asked: dict[str, str] = {}
    """The filters as the API takes them, with times that say their offset."""

    @property
    def fields(self) -> dict[str, str]:
        """The text of each field of the form."""
        return {name: self.texts.get(name, "") for name in DELIVERY_PARAMETERS}

    def address(self, **changes: str | None) -> str:
        """Return the address of this view, with some filters changed, or removed where the change is None."""
        return to_address("/deliveries", {**self.texts, **changes})

    def csv_address(self, tz: str) -> str:
        """Return the address of all deliveries of this view as a CSV file, with its times in a zone."""
        return to_address("/api/v1/deliveries.csv", {**self.asked, "tz": tz})

    def export_address(self, **changes: str | None) -> str:
        """Return the address of the export of this view, with some filters changed."""
        bounds = {"since": self.filters.since, "until": self.filters.until}
        # Typed times are those of the page's zone; the API's are UTC.
        times = {name: format_time(at) for name, at in bounds.items() if at is not None}
        return to_address("/api/v1/deliveries/export", {**self.texts, **times, **changes})


def read_deliveries_query(parameters: Iterable[tuple[str, list[str]]], now: int, localize: Localize) -> DeliveryQuery:
    """Parse the parameters of the address; `now` in microseconds since 1970. Raises BadQuery."""
    texts = to_texts(parameters, _ACCEPTED)
    before = texts.pop("before", None)
    asked = localize(texts)
    return DeliveryQuery(
        texts=texts,
        asked=asked,
        filters=parse_delivery_filters(asked, now),
        before=None if before is None else parse_id("before", before),
    )


def to_unusable_query(parameters: Mapping[str, list[str]]) -> DeliveryQuery:
    """Return the view of an invalid query: no filters, but its texts in the form, to be corrected."""
    texts = {name: parameters[name][0] for name in DELIVERY_PARAMETERS if parameters.get(name)}
    return DeliveryQuery(texts=texts, filters=DeliveryFilters())
