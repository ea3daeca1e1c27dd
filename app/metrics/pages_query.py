"""The parameters in the address of the usage pages. They hold the whole view, so that a view can be shared."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, tzinfo
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from app.core.json_text import encode
from app.core.text import to_visible
from app.core.times import format_time
from app.errors import BadQuery
from app.metrics.answer import BY_ARRIVAL
from app.metrics.parameters import USAGE_PARAMETERS
from app.metrics.windows import Unit, window_at
from app.web.parameters import to_address, to_texts
from app.zones import find_zone, to_wall

PAGE_PARAMETERS = ("metric", *USAGE_PARAMETERS, "page", "verify", "period")
EVENTS_PARAMETERS = ("metric", *(name for name in USAGE_PARAMETERS if name not in {"window", "fill"}), "group", "after")

_PAGES_MAX = 10_000
_CHARS_MAX = 4000
_ADDRESS_MAX = 3500
"""The server rejects longer addresses, and a group may hold any text."""

# Characters that HTML cannot carry; other odd ones are sent back as they came.
_NOT_HTML = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff]")


class UsageView(msgspec.Struct, frozen=True, kw_only=True):
    """One view: a metric and the query parameters."""

    texts: dict[str, str]
    """The parameters as they were sent, without the empty ones."""
    page_zone: str
    """The time zone where none was asked for."""

    @property
    def metric(self) -> str:
        """The name of the metric; empty if none is chosen."""
        return self.texts.get("metric", "")

    @property
    def usage(self) -> dict[str, str]:
        """The parameters for `parse_usage_query`."""
        return {"tz": self.page_zone, **{name: text for name, text in self.texts.items() if name in USAGE_PARAMETERS}}

    @property
    def zone(self) -> tzinfo | None:
        """The time zone that was asked for; None if there is no such zone."""
        return find_zone(self.usage["tz"])

    @property
    def fields(self) -> dict[str, str]:
        """The text of each field of the form; empty for a parameter that was not sent."""
        return {name: to_typed(self.texts.get(name, "")) for name in (*PAGE_PARAMETERS, "group")}

    @property
    def page(self) -> int:
        """The page number of the table, from 1. Raises BadQuery."""
        text = self.texts.get("page", "1")
        if not (re.fullmatch(r"[0-9]{1,5}", text) and 1 <= int(text) <= _PAGES_MAX):
            raise BadQuery(f"page must be a whole number from 1 to {_PAGES_MAX:,}; it is {text[:40]!a}")
        return int(text)

    @property
    def verify(self) -> bool:
        """Whether to verify the answer with raw events. Raises BadQuery."""
        text = self.texts.get("verify")
        if text not in {None, "1"}:
            raise BadQuery(f"verify must be 1, or left out; it is {text[:40]!a}")
        return text is not None

    def address(self, path: str = "/usage", **changes: str | None) -> str:
        """Return the address of this view with some parameters changed (None: removed), on its first page."""
        return to_address(path, {**self.texts, "page": None, "after": None, "verify": None, **changes})

    def csv_address(self) -> str:
        """Return the address of the whole answer as a CSV file."""
        return to_address(f"/api/v1/metrics/{quote(self.metric)}/usage", {**self.usage, "format": "csv"})

    def events_csv_address(self) -> str:
        """Return the address of all events of this view as a CSV file."""
        path = f"/api/v1/metrics/{quote(self.metric)}/events.csv"
        return to_address(path, {**self.usage, "group": self.texts.get("group")})

    def events_address(
        self, start: int, end: int, customer_id: str | None = None, group: Mapping[str, str | None] | None = None
    ) -> str | None:
        """Return the address of the events of a period, or of one customer and group in it.

        None if it would be too long to be sent.
        """
        address = self.address(
            "/usage/events",
            window=None,
            fill=None,
            customer_id=self.texts.get("customer_id") if customer_id is None else customer_id,
            start=format_time(start),
            end=format_time(end),
            group=encode(group).decode() if group else None,
        )
        return address if len(address) <= _ADDRESS_MAX else None


class Preset(NamedTuple):
    """A period that takes one click."""

    title: str
    start: str | None
    end: str | None
    is_chosen: bool

    @property
    def name(self) -> str:
        """Its name in an address."""
        return self.title.lower().replace(" ", "-")


def to_typed(text: str) -> str:
    """Return the text for a form field: unchanged, unless it has characters that HTML cannot carry."""
    return to_visible(text) if _NOT_HTML.search(text) else text


def read_address(params: Iterable[tuple[str, list[str]]], accepted: tuple[str, ...], page_zone: str) -> UsageView:
    """Parse the parameters of an address. Raises BadQuery."""
    # A group is JSON text, and spaces at its ends may belong to it.
    return UsageView(texts=to_texts(params, accepted, _CHARS_MAX, verbatim="group"), page_zone=page_zone)


def list_presets(view: UsageView, now: int) -> list[Preset]:
    """Return the common periods. Each is a button of the form, which so sends what was typed beside it."""
    zone = view.zone or UTC
    before, this = _months(zone, now)
    period = (view.texts.get("start"), view.texts.get("end"))
    return [
        Preset(title, start, end, (start, end) == period)
        for title, start, end in (
            ("This month", None, None),
            ("Last month", before, this),
            ("Last 7 days", "7d", None),
            ("Last 24 hours", "24h", None),
            ("Last 365 days", "365d", None),
        )
    ]


def address_of_preset(view: UsageView, now: int) -> str | None:
    """Return the address of the view with the period that its `period` names; None without one. Raises BadQuery."""
    name = view.texts.get("period")
    if name is None:
        return None
    presets = {preset.name: preset for preset in list_presets(view, now)}
    if name not in presets:
        raise BadQuery(f"period must be one of {', '.join(presets)}; it is {name[:40]!a}")
    return view.address(start=presets[name].start, end=presets[name].end, period=None)


def _months(zone: tzinfo, now: int) -> tuple[str, str]:
    this = window_at(zone, Unit.MONTH, now)[0]
    return to_day(zone, window_at(zone, Unit.MONTH, this - 1)[0]), to_day(zone, this)


def as_of_text(zone: tzinfo, as_of: int | None, *, by_arrival: bool) -> str | None:
    """Return the sentence about the moment of an answer; None if it was asked as of now."""
    if as_of is None:
        return None
    meaning = "what was stored and not void by then, by the definition that was live then"
    return f"As of {to_wall(zone, as_of)}: {meaning}{'; ' + BY_ARRIVAL if by_arrival else ''}."


def to_day(zone: tzinfo, micros: int) -> str:
    """Return the date of a moment in a zone: `2026-11-23`."""
    return to_wall(zone, micros)[:10]
