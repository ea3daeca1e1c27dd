"""Where each field of an event comes from: what its transform writes for it, and in which file."""

from collections.abc import Iterator
from typing import Any

import msgspec

from app.core.transform.schema import FIELDS
from app.core.transform.transform import Transform

_ALL = "*"


class FieldOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """One field, or one key below `properties`."""

    path: tuple[str, ...]
    """Its keys; `("event",)` for an expression that makes the whole event."""
    expression: str | None
    """The JMESPath over the call; None for what is no expression."""
    sentence: str | None
    """What it is instead: a constant, or a copy of all properties."""
    file: str
    """The name of the transform that writes it."""


def tell_fields(transform: Transform, default: Transform | None) -> list[FieldOrigin]:
    """Return where each field comes from; `default` is the version that the transform inherits from."""
    said = transform.source.value.get("event", {})
    whole = transform.source.value
    found = [_expression((key,), whole[key], transform.name) for key in ("when", "each") if key in whole]
    if isinstance(said, str):
        found.append(_expression(("event",), said, transform.name))
        said = {}
    inherited = default.source.value.get("event", {}) if default is not None else {}
    for field in FIELDS:
        if field in said:
            found += _written((field,), said[field], transform.name)
        elif isinstance(inherited, dict) and field in inherited and default is not None:
            found += _written((field,), inherited[field], default.name)
    return found


def _written(path: tuple[str, ...], written: Any, file: str) -> Iterator[FieldOrigin]:
    if isinstance(written, str):
        if written == _ALL and path[-1] == "properties":
            yield _sentence(path, "all properties of the call", file)
        else:
            yield _expression(path, written, file)
    elif set(written) == {"const"}:
        yield _sentence(path, f"the constant {msgspec.json.encode(written['const']).decode()}", file)
    else:
        for key, inner in written.items():
            if key == _ALL:
                yield _sentence((*path, key), _all_but(inner or {}), file)
            else:
                yield from _written((*path, key), inner, file)


def _all_but(said: dict[str, Any]) -> str:
    renamed = ", ".join(f"{old} as {new}" for old, new in said.get("rename", {}).items())
    dropped = ", ".join(said.get("drop", ()))
    more = [text for text in (renamed, f"without {dropped}" if dropped else "") if text]
    return "; ".join(["all properties of the call", *more])


def _expression(path: tuple[str, ...], text: str, file: str) -> FieldOrigin:
    return FieldOrigin(path=path, expression=text, sentence=None, file=file)


def _sentence(path: tuple[str, ...], sentence: str, file: str) -> FieldOrigin:
    return FieldOrigin(path=path, expression=None, sentence=sentence, file=file)
