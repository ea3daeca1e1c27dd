"""The origin of each field of an event: its expression, and the file that contains it."""

from collections.abc import Iterator
from typing import Any

import msgspec

from app.core.transform.schema import FIELDS
from app.core.transform.transform import Transform

_ALL = "*"


class FieldOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """One field, or one key below `properties`."""

    path: tuple[str, ...]
    """Its keys; `("event",)` for one expression that makes the whole event."""
    expression: str | None
    """The JMESPath expression over the call; None for a constant or a copy."""
    sentence: str | None
    """Describes a constant, or a copy of all properties; None for an expression."""
    file: str
    """The name of the transform that defines it."""


def list_field_origins(transform: Transform, default: Transform | None) -> list[FieldOrigin]:
    """Return the origin of each field; `default` is the version that the transform inherits from."""
    event = transform.source.value.get("event", {})
    spec = transform.source.value
    origins = [_expression((key,), spec[key], transform.name) for key in ("when", "each") if key in spec]
    if isinstance(event, str):
        origins.append(_expression(("event",), event, transform.name))
        event = {}
    inherited = default.source.value.get("event", {}) if default is not None else {}
    for field in FIELDS:
        if field in event:
            origins += _origins((field,), event[field], transform.name)
        elif isinstance(inherited, dict) and field in inherited and default is not None:
            origins += _origins((field,), inherited[field], default.name)
    return origins


def _origins(path: tuple[str, ...], spec: Any, file: str) -> Iterator[FieldOrigin]:
    if isinstance(spec, str):
        if spec == _ALL and path[-1] == "properties":
            yield _sentence(path, "all properties of the call", file)
        else:
            yield _expression(path, spec, file)
    elif set(spec) == {"const"}:
        yield _sentence(path, f"the constant {msgspec.json.encode(spec['const']).decode()}", file)
    else:
        for key, inner in spec.items():
            if key == _ALL:
                yield _sentence((*path, key), _all_but(inner or {}), file)
            else:
                yield from _origins((*path, key), inner, file)


def _all_but(spec: dict[str, Any]) -> str:
    renamed = ", ".join(f"{old} as {new}" for old, new in spec.get("rename", {}).items())
    dropped = ", ".join(spec.get("drop", ()))
    more = [text for text in (renamed, f"without {dropped}" if dropped else "") if text]
    return "; ".join(["all properties of the call", *more])


def _expression(path: tuple[str, ...], text: str, file: str) -> FieldOrigin:
    return FieldOrigin(path=path, expression=text, sentence=None, file=file)


def _sentence(path: tuple[str, ...], sentence: str, file: str) -> FieldOrigin:
    return FieldOrigin(path=path, expression=None, sentence=sentence, file=file)
