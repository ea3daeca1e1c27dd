"""Odd calls that are sent again in other spellings, and with other content: what has to become of each.

The expectation is of the contract alone: contents of one row below are equal, those of two rows are not.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any

_CALL = '{"type":"track","event":"Odd","messageId":"%s","userId":"odd \u00e9","timestamp":"2026-11-01T10:00:00Z"%s}'


def _nested(leaf: str, levels: int) -> str:
    return '{"a":' * levels + leaf + "}" * levels


# A call may nest 200 levels deep, and its properties are inside of it.
_DEEPEST = 199

NOT_STORED = "rejected"

# What each has in `properties`; "" is a call without any. In a row are spellings of one content, the last row of some
# is of contents that no event can have.
CONTENTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "half a pair": (('{"x":"half \\ud83d"}',), ('{"x":"other \\ud83d"}', '{ "x":"other \\uD83D"}'), ('{"x":"half "}',)),
    "half a pair as a key": (('{"\\ud83d":1}', '{"\\ud83d":1.0}'), ('{"\\ud83d":2}',), ('{"\\ud83e":1}',)),
    "a number": (('{"n":2}', '{"n":2.0}', '{"n":2e0}', '{"n":0.2E+1}'), ('{"n":3}', '{"n":3.0}'), ('{"n":2.5}',)),
    "nothing": (('{"n":0}', '{"n":0.0}', '{"n":-0}', '{"n":-0.0}', '{"n":0e5}'), ('{"n":1}',), ('{"n":false}',)),
    "past a double": (('{"n":9007199254740993}',), ('{"n":9007199254740992}', '{"n":9007199254740992.0}')),
    "past 64 bits": (('{"n":10000000000000000000000}', '{"n":1e22}'), ('{"n":1e23}',)),
    "small": (('{"n":1e-7}', '{"n":0.0000001}', '{"n":0.10e-6}'), ('{"n":1.5e-7}',), ('{"n":5e-324}',)),
    "numbers inside": (('{"a":[1,{"b":2.0}]}', '{"a":[1.0,{"b":2}]}'), ('{"a":[2,{"b":1}]}',)),
    "as deep as can be": ((_nested("1", _DEEPEST), _nested("1.0", _DEEPEST)), (_nested("2", _DEEPEST),)),
    "too deep": ((_nested("1", _DEEPEST - 1),), (_nested("1", _DEEPEST + 1), _nested("1", 4 * _DEEPEST))),
    "NaN": (('{"n":1}',), ('{"n":NaN}', '{"n":-Infinity}', '{"n":1,"m":[NaN]}')),
    "NUL": (('{"x":" "}',), ('{"x":"\\u0000"}', '{"\\u0000":1}')),
    "empty": (("", "null", "{}", "{ }"), ('{"a":""}',), ('{"":""}',)),
    "Unicode forms": (
        ('{"x":"\u00e9"}', '{"x":"\\u00e9"}', '{"x":"\\u00E9"}'),
        ('{"x":"e\u0301"}', '{"x":"e\\u0301"}'),
    ),
    "order of keys": (('{"a":1,"b":{"c":2,"d":3}}', '{"b":{"d":3.0,"c":2},"a":1}'), ('{"b":1,"a":{"c":2,"d":3}}',)),
    "odd keys": (('{"":1,"a.b":2,"@":3,"`":[],"$ref":{}}',), ('{"":1,"a":{"b":2},"@":3,"`":[],"$ref":{}}',)),
}
_WITH_NOT_STORED = ("too deep", "NaN", "NUL")

# Ids as JSON writes them: what looks alike is not the same. A correction adds `~2` to them, for which there is room.
IDS = (
    " blanks \\t around ",
    "\u00e9",
    "e\u0301",
    "E\u0301",
    "\u202e\U0001f600 \\ud83d\\ude00 \u00df",
    "a/b?c=%00&d#\\\"'`{{x}}<b>",
    "ends in ~2",
    "i" * 250,
)
# No event can have these.
_IDS_OF_NONE = ("half \\ud83d", "\\u0000", "x\\u0000y", "i" * 256)


@dataclass(frozen=True)
class OddCall:
    """One spelling of a call."""

    message: str
    """Its message id."""
    content: int
    """What it has in common with other spellings."""
    raw: bytes
    stored: bool
    """Whether an event can be made of it."""


def _make_calls() -> list[OddCall]:
    made = []
    for name, rows in CONTENTS.items():
        for row, spellings in enumerate(rows):
            stored = name not in _WITH_NOT_STORED or row < len(rows) - 1
            made += [_make_call(f"odd {name}", row, spelling, stored=stored) for spelling in spellings]
    for id_ in (*IDS, *_IDS_OF_NONE):
        for row, spellings in enumerate((('{"n":1}', '{"n":1.0}'), ('{"n":2}',))):
            made += [_make_call(id_, row, spelling, stored=id_ in IDS) for spelling in spellings]
    return made


def _make_call(message: str, row: int, properties: str, *, stored: bool) -> OddCall:
    member = properties and f',"properties":{properties}'
    return OddCall(json.loads(f'"{message}"'), row, (_CALL % (message, member)).encode(), stored)


def an_odd_call(message: str) -> OddCall:
    """Return a call of which nothing is odd but its event."""
    return _make_call(message, 0, '{"n":1}', stored=True)


CALLS = _make_calls()


@dataclass
class OddBook:
    """Remembers which call of a message came first, and so what becomes of each."""

    _first: dict[str, OddCall] = field(default_factory=dict)
    outcomes: dict[bytes, list[str]] = field(default_factory=dict)
    """Of all that were sent, in the order of sending, by their bytes."""

    def take(self, sent: Iterable[OddCall]) -> Counter[str]:
        """Note calls in the order in which they are sent; return what has to become of them."""
        taken: Counter[str] = Counter()
        for call in sent:
            outcome = self._settle(call)
            self.outcomes.setdefault(call.raw, []).append(outcome)
            taken[outcome] += 1
        return taken

    def _settle(self, call: OddCall) -> str:
        if not call.stored:
            return NOT_STORED
        first = self._first.setdefault(call.message, call)
        if first is call and call.raw not in self.outcomes:
            return "stored"
        return "duplicate" if first.content == call.content else "conflict"

    @property
    def events(self) -> dict[str, dict[str, Any]]:
        """The properties that the event of each message has to have."""
        return {message: read_properties(call.raw) for message, call in self._first.items()}


def read_properties(raw: bytes) -> dict[str, Any]:
    """Read the properties of a call with exact numbers."""
    return json.loads(raw, parse_float=Decimal).get("properties") or {}


def shuffled(chance: Random) -> list[OddCall]:
    """Return each spelling twice, in any order."""
    deck = [*CALLS, *CALLS]
    chance.shuffle(deck)
    return deck
