"""A transform: which calls it takes, and the JMESPath that makes the Lotus event.

    parse_transform(name, text, default) -> Transform      one file of transforms/
    TransformSet(transforms).choose(call) -> Transform      which one takes this call
    transform.apply(call) -> events                         what it makes of it

A file may leave out any field of `event`; it is then taken from `_default.yaml`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec
from jsonschema import Draft202012Validator

from app.core.expression import compile_expression
from app.core.lotus import DIGEST_BYTES, LotusEvent, make_event
from app.core.segment import Call
from app.core.yaml_text import YamlDocument, YamlInvalid, parse_yaml
from app.errors import ExpressionInvalid, TransformInvalid

DEFAULT = "_default"
FIELDS = ("event_name", "idempotency_id", "customer_id", "time_created", "properties")

# Part of every digest: a change of the engine that can change an event makes new versions of all transforms.
ENGINE = b"1"

_Search = Callable[[Any], Any]

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "A Segment-Lotus transform",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "description": {"type": "string"},
        "match": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "type": {"enum": ["track", "identify", "page", "screen", "group", "alias", "delete"]},
                "event": {
                    "oneOf": [
                        {"type": "string", "minLength": 1},
                        {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
                    ]
                },
            },
        },
        "event": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                **{field: {"type": "string", "minLength": 1} for field in FIELDS},
                "properties": {"$ref": "#/$defs/properties"},
            },
        },
    },
    "$defs": {
        "properties": {
            "oneOf": [
                {"type": "string", "minLength": 1},
                {"type": "object", "additionalProperties": {"$ref": "#/$defs/properties"}},
            ]
        }
    },
}
_VALIDATOR = Draft202012Validator(SCHEMA)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform:
    """One version of one transform, compiled."""

    name: str
    digest: bytes
    """Names this version for ever: 16 bytes over the name, the text, what it inherits and the engine."""
    text: str
    inherits: bytes | None
    """Digest of the `_default` version that the missing fields came from; None for `_default` itself."""
    type: str
    events: frozenset[str]
    """Names of track events it takes; empty: all that no other transform takes."""
    fields: tuple[_Search, _Search, _Search, _Search, _Search]
    """One compiled expression per Lotus field, in the order of FIELDS."""

    def accepts(self, call: Call) -> bool:
        """Tell whether this version takes `call`, where no other transform goes first."""
        return call.type == self.type and (not self.events or call.event in self.events)

    def apply(self, call: Call) -> tuple[LotusEvent, ...]:
        """Make the events of a call.

        Raises:
            ExpressionFailed: an expression met a value of the wrong type, or a limit.
            EventInvalid: the event breaks a rule of Lotus; names the field.

        """
        document = call.document
        name, idempotency, customer, time, properties = self.fields
        return (
            make_event(name(document), idempotency(document), customer(document), time(document), properties(document)),
        )


class TransformSet:
    """The transforms that are active together, and the order in which they are asked.

    A transform that names a call's event goes before one that takes every call of that type; among equals the name
    that sorts first wins.
    """

    def __init__(self, transforms: Iterable[Transform]) -> None:
        self.transforms: tuple[Transform, ...] = tuple(sorted(transforms, key=lambda one: one.name))
        self._by_event: dict[tuple[str, str], Transform] = {}
        self._by_type: dict[str, Transform] = {}
        for transform in self.transforms:
            for event in transform.events:
                self._by_event.setdefault((transform.type, event), transform)
            if not transform.events and transform.name != DEFAULT:
                self._by_type.setdefault(transform.type, transform)
        for transform in self.transforms:
            if transform.name == DEFAULT and not transform.events:
                self._by_type.setdefault(transform.type, transform)

    def choose(self, call: Call) -> Transform | None:
        """Return the transform that takes `call`, or None."""
        return self._by_event.get((call.type, call.event or "")) or self._by_type.get(call.type)


def parse_transform(name: str, text: str, default: Transform | None) -> Transform:
    """Read one transform file. `default` is the `_default` it inherits from, None for `_default` itself.

    Raises:
        TransformInvalid: names the file, line and column, and says what is wrong there.

    """
    document = _parse_document(name, text)
    event = document.value.get("event", {})
    searches: list[_Search] = []
    for position, field in enumerate(FIELDS):
        if field in event:
            searches.append(_compile(name, document, ("event", field), event[field]))
        elif default is not None:
            searches.append(default.fields[position])
        else:
            raise _invalid(name, document, ("event",), f"{name} must say where {field} comes from")
    match = document.value.get("match", {})
    events = match.get("event", [])
    first, second, third, fourth, fifth = searches
    return Transform(
        name=name,
        digest=_digest(name, text, default),
        text=text,
        inherits=default.digest if default else None,
        type=match.get("type", "track"),
        events=frozenset([events] if isinstance(events, str) else events),
        fields=(first, second, third, fourth, fifth),
    )


def _parse_document(name: str, text: str) -> YamlDocument:
    try:
        document = parse_yaml(text)
    except YamlInvalid as error:
        raise TransformInvalid(f"{name}.yaml:{error.line}:{error.column}: {error}") from error
    # Only the first problem: the ones behind it are often its echo.
    for problem in sorted(_VALIDATOR.iter_errors(document.value), key=lambda one: list(map(str, one.absolute_path))):
        deepest = min(problem.context or [problem], key=lambda one: -len(one.absolute_path))
        raise _invalid(name, document, tuple(deepest.absolute_path), deepest.message)
    return document


def _invalid(name: str, document: YamlDocument, path: tuple[str | int, ...], message: str) -> TransformInvalid:
    line, column = document.place(path)
    where = ".".join(map(str, path))
    return TransformInvalid(f"{name}.yaml:{line}:{column}: {where + ': ' if where else ''}{message}")


def _compile(name: str, document: YamlDocument, path: tuple[str | int, ...], written: Any) -> _Search:
    """Compile an expression, or a map of expressions into one function that builds the map."""
    if isinstance(written, str):
        try:
            return compile_expression(written).search
        except ExpressionInvalid as error:
            raise _invalid(name, document, path, error.message) from error
    parts = [(key, _compile(name, document, (*path, key), inner)) for key, inner in written.items()]
    return lambda call: {key: search(call) for key, search in parts}


def _digest(name: str, text: str, default: Transform | None) -> bytes:
    parts: Mapping[str, object] = {
        "engine": ENGINE.decode(),
        "name": name,
        "text": text,
        "inherits": default.digest.hex() if default else None,
    }
    return blake2b(msgspec.json.encode(parts, order="deterministic"), digest_size=DIGEST_BYTES).digest()
