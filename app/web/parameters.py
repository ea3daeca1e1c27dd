"""Parses requests: query parameters, forms, and a body that is a JSON object. Makes addresses with parameters."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes, urlencode

from flask import Request, request

from app.errors import BadQuery
from app.store.query import parse_id, parse_limit
from app.web.sessions import CSRF_FIELD

_CHARS_MAX = 500

_NO_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def check_address() -> None:
    """Raise BadQuery if the address of this request is not valid text: Flask would fail, or search for another text.

    NUL is refused, too: PostgreSQL does not accept it, and no stored text has one.
    """
    query = request.query_string
    if _NO_ESCAPE.search(query):
        raise BadQuery(
            "the address holds a % that is not followed by two hexadecimal digits: a % itself is written %25"
        )
    try:
        texts = (unquote_to_bytes(query).decode(), request.path)
    except UnicodeDecodeError:
        raise BadQuery("the address is not UTF-8 text") from None
    if any("\0" in text for text in texts):
        raise BadQuery("the address holds a NUL character")


def read_parameters(*accepted: str) -> dict[str, str]:
    """Return the query parameters. Raises BadQuery for one that is unknown, empty or repeated.

    `outcome` may be repeated; its values are joined by commas.
    """
    texts: dict[str, str] = {}
    for name, values in request.args.lists():
        if name not in accepted:
            taken = f"there are {', '.join(accepted)}" if accepted else "this takes none"
            raise BadQuery(f"there is no parameter {name[:40]!a}: {taken}")
        if len(values) > 1 and name != "outcome":
            raise BadQuery(f"{name} is there {len(values)} times; it can have one value")
        if not all(values):
            raise BadQuery(f"{name} is empty: give it a value or leave it out")
        texts[name] = ",".join(values)
    return texts


def read_list_parameters(*accepted: str) -> tuple[dict[str, str], int | None, int]:
    """Return the query parameters of a list that is paged by id, with its `before` and `limit`. Raises BadQuery."""
    texts = read_parameters(*accepted, "before", "limit")
    before = parse_id("before", texts["before"]) if "before" in texts else None
    return texts, before, parse_limit(texts.get("limit"))


def to_texts(
    parameters: Iterable[tuple[str, list[str]]],
    accepted: Collection[str],
    chars_max: int = _CHARS_MAX,
    verbatim: str | None = None,
) -> dict[str, str]:
    """Return the parameters of a page that have a value; several outcomes are joined by commas. Raises BadQuery.

    A form sends its empty fields too: they count as absent. `verbatim`: the parameter whose outer spaces are kept.
    """
    texts: dict[str, str] = {}
    for name, values in parameters:
        filled = [value if name == verbatim else value.strip() for value in values if value.strip()]
        if name not in accepted:
            raise BadQuery(f"there is no parameter {name[:40]!a}: there are {', '.join(accepted)}")
        if len(filled) > 1 and name != "outcome":
            raise BadQuery(f"{name} is there {len(filled)} times; it can have one value")
        if any(len(value) > chars_max for value in filled):
            raise BadQuery(f"{name} is longer than {chars_max:,} characters")
        if filled:
            texts[name] = ",".join(filled)
    return texts


def to_address(path: str, texts: Mapping[str, str | None]) -> str:
    """Return an address with the parameters that are not empty."""
    query = urlencode([(name, text) for name, text in texts.items() if text], errors="replace")
    return f"{path}?{query}" if query else path


def read_form(*accepted: str, chars_max: int = _CHARS_MAX) -> dict[str, str]:
    """Return the fields of the form that have a value, without the CSRF token. Raises BadQuery."""
    fields = ((name, texts) for name, texts in request.form.lists() if name != CSRF_FIELD)
    return to_texts(fields, accepted, chars_max)


def read_json_object() -> dict[str, Any] | None:
    """Return the JSON object in the body of this request, whatever its content type; None if it is not one."""
    try:
        # Decoded first: from bytes, Python would also accept UTF-16 and UTF-32.
        document = json.loads(request.get_data().decode())
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def full_address(incoming: Request) -> str:
    """Return path and query as in a link; invalid UTF-8 is replaced."""
    query = incoming.query_string.decode(errors="replace")
    return f"{incoming.path}?{query}" if query else incoming.path
