"""A transform: which calls it takes, and the JMESPath that makes Lotus events of them.

    parse_transform(name, text, default) -> Transform      one file of transforms/
    TransformSet(transforms).choose(call) -> Choice         which ones take this call
    transform.apply(call, received_at) -> events            the events it makes of the call

A file may leave out any field of `event`; it is then taken from `_default.yaml`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec

from app.core.fault import ELLIPSIS
from app.core.jmespath.expression import Expression
from app.core.jmespath.functions.scopes import Scope
from app.core.jmespath.limits import MAX_EACH_STEPS, Budget, size_of
from app.core.lotus import DIGEST_BYTES, LotusEvent, make_event, to_id_text
from app.core.segment import Call
from app.core.transform.document import SourceText
from app.core.transform.fields import Fields, Search, compile_fields, compile_search, located
from app.core.transform.input_schema import InputCheck, SchemaUnusable
from app.core.transform.match import Match, compile_match
from app.errors import EventInvalid, ExpressionFailed, TransformInvalid

DEFAULT = "_default"

MAIN_LANE = "main"
"""The lane of all transforms but those with `also`, each of which has one of its own name."""

# Part of every digest: an engine change that can change events makes new versions of all transforms.
ENGINE = 3

MAX_EVENTS_PER_CALL = 1000
"""A call of 32 KB, Segment's limit, cannot have more items; this bounds the cost of one call."""

MAX_CHARS_PER_CALL = 1_000_000
"""For the properties of all events of one call; a thousand events that each copy the whole call exceed it."""


class Filtered(Exception):
    """The transform takes the call, but makes no event of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform:
    """One version of one transform, compiled."""

    name: str
    digest: bytes
    """Identifies this version permanently: 16 bytes over the name, the text, what it inherits and the engine."""
    text: str
    inherits: bytes | None
    """Digest of the `_default` version that missing fields are inherited from; None for `_default` itself."""
    match: Match
    priority: int
    also: bool
    enabled: bool
    when: Search | None
    each: Search | None
    when_expression: Expression | None = field(repr=False, compare=False)
    each_expression: Expression | None = field(repr=False, compare=False)
    input_check: InputCheck | None
    fields: Fields
    free_size: int | None
    """The size of the largest call that is mapped without counting steps; None if no call needs counting."""
    lookups: dict[str, dict[str, Any]]
    source: SourceText = field(repr=False, compare=False)
    pseudonym_key: bytes | None = field(repr=False, compare=False)

    def accepts(self, call: Call) -> bool:
        """Tell whether this version takes `call`, if no other transform takes it first."""
        return self.match.accepts(call)

    def apply(self, call: Call, received_at: int) -> tuple[LotusEvent, ...]:
        """Make the events of a call that was received at `received_at` (microseconds since 1970).

        Raises:
            Filtered: `when` is false or null, or `each` gives no items.
            CallRejected: the call breaks `input_schema`.
            ExpressionFailed: an expression met a value of the wrong type, or a limit; names the expression.
            EventInvalid: the event breaks a rule of Lotus; names the field.

        """
        document = call.document
        if self.input_check is not None:
            self.input_check.verify(document)
        scope = Scope(document=document, received_at=received_at, lookups=self.lookups, secret=self.pseudonym_key)
        # Only False and null mean no. 0 does not: it equals False only in Python.
        if self.when is not None:
            condition = _search_at("when", self.when, document, scope)
            if condition is None or condition is False:
                raise Filtered(f"`when` of {self.name} is false or null")
        if self.each is None:
            fields = self.fields
            if self.free_size is not None and size_of(document, self.free_size) > self.free_size:
                fields = fields.counted(Budget())
            return (self._event(fields, document, scope, ""),)
        return self._each(document, scope, self.each)

    def _each(self, document: dict[str, Any], scope: Scope, each: Search) -> tuple[LotusEvent, ...]:
        items = _search_at("each", each, document, scope)
        if items is not None and type(items) is not list:
            raise ExpressionFailed("each: must give a list, or null", path="each")
        if not items:
            raise Filtered(f"`each` of {self.name} gives no items")
        if len(items) > MAX_EVENTS_PER_CALL:
            why = f"items, and {MAX_EVENTS_PER_CALL} is the most"
            raise ExpressionFailed(f"each: gives {len(items)} {why}", path="each", kind=f"each: gives {ELLIPSIS} {why}")
        fields = self.fields
        if len(items) * fields.steps(size_of(document, MAX_EACH_STEPS)) > MAX_EACH_STEPS:
            # Each item may read the whole call. Only calls that could exceed the limit are counted; few ever are.
            fields = fields.counted(Budget())
        events: list[LotusEvent] = []
        first: dict[str, int] = {}
        chars = 0
        for index, item in enumerate(items):
            try:
                event = self._event(fields, {**document, "item": item, "index": index}, scope, f":{index}")
            except ExpressionFailed as error:
                raise ExpressionFailed(_at(error.message, index), path=error.path, kind=_at(error.kind)) from None
            except EventInvalid as error:
                message, kind = _at(error.message, index), _at(error.kind)
                raise EventInvalid(error.field, message, path=error.path, kind=kind) from None
            if (twin := first.setdefault(event.idempotency_id, index)) != index:
                what = "idempotency_id is the same for the events of index"
                kind = f"{what} {ELLIPSIS} and {ELLIPSIS} of this call"
                raise EventInvalid("idempotency_id", f"{what} {twin} and {index} of this call", kind=kind)
            chars += len(event.properties)
            if chars > MAX_CHARS_PER_CALL:
                sentence = f"the properties of its events have more than {MAX_CHARS_PER_CALL:,} characters together"
                raise ExpressionFailed(f"each: {sentence}, which is the limit", path="each")
            events.append(event)
        return tuple(events)

    def _event(self, fields: Fields, document: dict[str, Any], scope: Scope, suffix: str) -> LotusEvent:
        values, own_id = fields.search(document, scope)
        name, idempotency, customer, time, properties = values
        if name is None or idempotency is None or customer is None or time is None:
            raise fields.explain(values, document)
        if not own_id and (self.also or suffix):
            # The call's id alone would not be unique: the main lane and the other items use it as well.
            lane = f":{self.name}" if self.also else ""
            idempotency = f"{to_id_text('idempotency_id', idempotency)}{lane}{suffix}"
        return make_event(name, idempotency, customer, time, properties)


def _at(sentence: str, index: int | str = ELLIPSIS) -> str:
    return f"{sentence} (index {index})"


def _search_at(place: str, search: Search, document: dict[str, Any], scope: Scope) -> Any:
    """Evaluate an expression; an error names its place."""
    try:
        return search(document, scope)
    except ExpressionFailed as error:
        raise located(error, place) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The transforms that take one call."""

    main: Transform | None
    also: tuple[Transform, ...]
    passed_over: tuple[Transform, ...] = ()
    """Those that would take it if `main` did not come first."""

    @property
    def all(self) -> tuple[Transform, ...]:
        """All that make events of the call, `main` first."""
        return self.also if self.main is None else (self.main, *self.also)


class TransformSet:
    """The transforms that are active together, in the order in which they are tried.

    The highest priority comes first, then the name that sorts first; `_default` takes what no other does. Those with
    `also: true` all add their events.
    """

    def __init__(self, transforms: Iterable[Transform]) -> None:
        self._ordered = sorted(
            transforms, key=lambda transform: (transform.name == DEFAULT, -transform.priority, transform.name)
        )
        self._position = {transform.name: position for position, transform in enumerate(self._ordered)}
        self.transforms: tuple[Transform, ...] = tuple(sorted(self._ordered, key=lambda transform: transform.name))
        # There may be thousands. Most are found by the call's name; those without exact names are tried one by one.
        self._by_name: dict[tuple[str, str], list[int]] = {}
        self._unnamed: dict[str, list[int]] = {}
        for position, transform in enumerate(self._ordered):
            for event in transform.match.events:
                self._by_name.setdefault((transform.match.type, event), []).append(position)
            if transform.match.patterns or not transform.match.events:
                self._unnamed.setdefault(transform.match.type, []).append(position)
        # The choice for a type and event name, where only those decide; if sources are used, each call is checked.
        self._choices: dict[tuple[str, str | None], Choice] = {}
        self._by_source = any(transform.match.sources for transform in self._ordered)

    def choose(self, call: Call) -> Choice:
        """Return the transforms that take `call`."""
        if self._by_source:
            return self._find(call)
        key = (call.type, call.event)
        choice = self._choices.get(key)
        if choice is None:
            choice = self._find(call)
            if len(call.type) + len(call.event or "") <= _CACHED_CHARS:
                if len(self._choices) >= _CACHED_CHOICES:
                    self._choices.clear()
                self._choices[key] = choice
        return choice

    def goes_before(self, other: Transform, transform: Transform) -> bool:
        """Tell whether `other` is tried first, so that `transform` never sees the calls it takes."""
        return not other.also and not transform.also and self._position[other.name] < self._position[transform.name]

    def list_takers(self, kind: str, event: str | None) -> list[Transform]:
        """Return the transforms that take a type and event name, leaving sources aside, in their order."""
        named = () if event is None else self._by_name.get((kind, event), ())
        candidates = [at for at in self._unnamed.get(kind, ()) if self._ordered[at].match.accepts_name(kind, event)]
        return [self._ordered[at] for at in sorted({*named, *candidates})]

    def list_takers_of_all(self, kind: str) -> list[Transform]:
        """Return the transforms that take all calls of a type, whatever the event name, in their order."""
        candidates = [self._ordered[at] for at in self._unnamed.get(kind, ())]
        return [transform for transform in candidates if not transform.match.events and not transform.match.patterns]

    def _find(self, call: Call) -> Choice:
        takers = [transform for transform in self.list_takers(call.type, call.event) if transform.accepts(call)]
        main = [transform for transform in takers if not transform.also]
        also = tuple(transform for transform in takers if transform.also)
        return Choice(main=main[0] if main else None, also=also, passed_over=tuple(main[1:]))


# Senders choose event names: made-up ones must not fill our memory.
_CACHED_CHOICES = 10_000
_CACHED_CHARS = 200


def parse_transform(name: str, text: str, default: Transform | None, pseudonym_key: bytes | None = None) -> Transform:
    """Read one transform file. `default` is the `_default` it inherits from, None for `_default` itself.

    `pseudonym_key` is the key of `sha256()`. It belongs to the installation and not to the version: it is not part of
    the digest (which is stored and shown, and must not let anybody test a guess of the key), the repr or any sentence.
    The cost: with another key the same version makes other pseudonyms, so an event that is made again is a conflict
    and not a duplicate. The key must be kept as long as the events are.

    Raises:
        TransformInvalid: names the file, line and column, and the fault.

    """
    source = SourceText(name, text)
    document = source.value
    also = document.get("also", False)
    if name == MAIN_LANE and also:
        raise source.invalid(("also",), f"a transform with `also` cannot be called {MAIN_LANE}: that lane is taken")
    if name == DEFAULT and also:
        raise source.invalid(("also",), f"{DEFAULT} takes what no other does, and so it cannot add to others")
    fields = compile_fields(source, default.fields if default else None)
    each = _compile_optional(source, "each")
    when = _compile_optional(source, "when")
    return Transform(
        name=name,
        digest=_digest(source, default),
        text=text,
        inherits=default.digest if default else None,
        match=compile_match(source),
        priority=document.get("priority", 0),
        also=also,
        enabled=document.get("enabled", True),
        when=when.search_in if when else None,
        each=each.search_in if each else None,
        when_expression=when,
        each_expression=each,
        input_check=_input_check(source),
        fields=fields,
        free_size=fields.free_size(),
        lookups=document.get("lookup", {}),
        source=source,
        pseudonym_key=pseudonym_key,
    )


def _compile_optional(source: SourceText, key: str) -> Expression | None:
    return compile_search(source, (key,), source.value[key]) if key in source.value else None


def _input_check(source: SourceText) -> InputCheck | None:
    if "input_schema" not in source.value:
        return None
    try:
        return InputCheck(source.value["input_schema"])
    except SchemaUnusable as error:
        raise source.invalid(("input_schema", *error.path), str(error)) from error


def _digest(source: SourceText, default: Transform | None) -> bytes:
    inherits = default.digest.hex() if default else None
    parts = {"engine": ENGINE, "name": source.name, "text": source.text, "inherits": inherits}
    try:
        encoded = msgspec.json.encode(parts, order="deterministic")
    except UnicodeEncodeError as error:
        sentence = f"{source.name!r} or its text holds half of a surrogate pair, which is no text"
        raise TransformInvalid(sentence) from error
    return blake2b(encoded, digest_size=DIGEST_BYTES).digest()
