"""The fields of the forms of corrections: which events, and the values that they get."""

from collections.abc import Mapping
from typing import Any

from app.clock import clock
from app.corrections.amendment import (
    FIELDS,
    PROPERTY,
    Amendment,
    parse_amendment,
    parse_assignments,
    to_assignment,
)
from app.corrections.selection import MEMBERS, Selection, parse_selection

SELECTION = ("id", *(name for name in MEMBERS if name != "ids"))
"""`id` is one idempotency id."""

_SET = "set_"
AMENDMENT = (*(f"{_SET}{name}" for name in FIELDS), "set_properties", "unset_properties")
"""The last two have a property on each line: `tokens=12`, and `tokens`."""


_LABELS = {"sha256": "SHA-256", "of": "holds", "bad": "bad lines left out"}
"""Of what a backfill says of its file."""


def parse_form_selection(texts: Mapping[str, str]) -> Selection:
    """Parse which events a form is about; it may have other fields. Raises BadQuery."""
    values: dict[str, Any] = {name: text for name, text in texts.items() if name in MEMBERS}
    return parse_selection({**values, "ids": [texts["id"]] if "id" in texts else None}, clock())


def to_selection_fields(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of a form that mean this selection; several ids are only shown."""
    ids = values.get("ids")
    shown = {
        _LABELS.get(name, name): str(value) for name, value in values.items() if name != "ids" and value is not None
    }
    return ({"id": ", ".join(ids)} if ids else {}) | shown


def parse_form_amendment(texts: Mapping[str, str]) -> Amendment | None:
    """Parse the values that a form sets; None if it has none of these fields. Raises BadQuery."""
    if not texts.keys() & set(AMENDMENT):
        return None
    lines = filter(str.strip, texts.get("set_properties", "").splitlines())
    properties = parse_assignments(lines)
    fields = {name: texts[f"{_SET}{name}"] for name in FIELDS if f"{_SET}{name}" in texts}
    removed = [name.strip() for name in texts.get("unset_properties", "").splitlines() if name.strip()]
    return parse_amendment(
        {**fields, **{f"{PROPERTY}{name}": value for name, value in properties.items()}},
        [f"{PROPERTY}{name}" for name in removed],
    )


def to_amendment_fields(amendment: Amendment | None) -> dict[str, str]:
    """Return the fields of a form that mean this amendment."""
    if amendment is None:
        return {}
    fields = {f"{_SET}{name}": str(value) for name, value in amendment.fields.items()}
    lines = [to_assignment(name, value) for name, value in amendment.properties.items()]
    fields |= {"set_properties": "\n".join(lines)} if lines else {}
    return fields | ({"unset_properties": "\n".join(amendment.unset)} if amendment.unset else {})
