"""Makes request bodies as senders write them, and as no sender should: JSON text, member by member, from one seed.

Text and not values, since what breaks a reader is mostly what a JSON library would not write.
"""

import random
from collections.abc import Callable, Sequence
from functools import partial

ODD_NUMBERS = (
    *(b"-0", b"0.0", b"-0.0", b"1.0", b"1e0", b"10e-1", b"1E+2", b"0.1", b"1e-7", b"5e-324", b"1e-400"),
    *(b"1e308", b"1e309", b"1e400", b"-1e400", b"1e99999", b"9007199254740993", b"18446744073709551616"),
    *(b"99999999999999999999", b"-99999999999999999999.5", b"9" * 309, b"9" * 400, b"9" * 401, b"7" * 5000),
    *(b"0." + b"3" * 400, b"1e" + b"0" * 300 + b"1"),
)
NO_NUMBERS = (b"NaN", b"Infinity", b"-Infinity", b"01", b"1.", b".5", b"+1", b"0x10", b"1_000", b"--1", b"1e", b"nan")
ODD_TEXTS = (
    *(rb'""', rb'" "', rb'"undefined"', rb'"null"', rb'"NaN"', rb'"[object Object]"', rb'"\u0000"', rb'"a\u0000b"'),
    *(rb'"\ud83d"', rb'"\ude00"', rb'"\ude00\ud83d"', rb'"half \ud83d of a pair"', rb'"\ud83d\ude00"', rb'"\uFFFF"'),
    *(rb'"\\u0000"', rb'"\\\u0000"', rb'"\ufeff"', rb'"\u202e\u2066"', rb'"\u001b[31m\u0007\u007f\u0085"'),
    *(rb'"<script>alert(1)</script>"', rb'"\"\u0027`{{7*7}}{% raw %}${x}%s%n"', rb'"=1+1"', rb'"@SUM(A1)"'),
    *(rb'"a\nb\r\n\tc"', rb'"../../etc/passwd"', rb'"\/\b\f"', rb'"__proto__"', rb'"5"', rb'"1e400"', rb'"-0"'),
    *('"m\u00fcller \u05e9\u05dc"'.encode(), '"\U0001f600"'.encode(), b'"' + b"x" * 101 + b'"'),
    *(b'"' + b"y" * 256 + b'"', b'"' + b"z" * 4096 + b'"', b'"' + rb"\u00e9" * 300 + b'"', b'"' + b"q" * 70_000 + b'"'),
)
NO_TEXTS = (
    *(b'"\xff"', b'"\xed\xa0\xbd"', b'"\xc0\x80"', b'"\xf5\x80\x80\x80"', b'"\xe2\x82"', b'"\\x41"', b'"\\u12"'),
    *(b'"\\ud83"', b'"a\nb"', b'"a\x00b"', b'"\x1f"', b"'single'", b'"open', b'"\\"'),
)
ODD_TIMES = (
    *(b'"2026-11-01"', b'"2026-11-01T10:00:00+05:30"', b'"2026-11-01T10:00:00.123456789Z"', b'"2026-1-1T1:1:1Z"'),
    *(b'"0001-01-01T00:00:00Z"', b'"9999-12-31T23:59:59.999Z"', b'"9999-12-31T23:59:59-23:59"', b'"1970-01-01"'),
    *(b'"2026-02-30T00:00:00Z"', b'"2026-11-01T24:00:00Z"', b'"2026-11-01T10:00:60Z"', b"1793527200", b"1793527200123"),
    *(b'"1793527200"', b"-1", b"0", b"1e18", b"1793527200.5", b'"+010000-01-01T00:00:00Z"', b'"now"', b"true", b"{}"),
    *(b'"2026-11-01 10:00:00"', b'"20261101T100000Z"', b'"2026-W44-7"', rb'"2026-11-01T10:00:00\u0000Z"'),
)
ODD_KEYS = (
    *(rb'""', rb'"__proto__"', rb'"a.b"', rb'"a b"', rb'"*"', rb'"\u0000"', rb'"\ud83d"', rb'"\"quoted\""', rb'"$ref"'),
    *('"schl\u00fcssel"'.encode(), rb'"constructor"', b'"' + b"k" * 300 + b'"'),
)
EVENTS = (b"API Call", b"Order Completed", b"Everything", b"Seats", b"Storage", b"Report Exported")
TYPES = (*[b"track"] * 18, b"identify", b"page", b"screen", b"group", b"alias", b"delete")
COMMON = (
    *("type", "event", "messageId", "userId", "anonymousId", "timestamp", "sentAt", "originalTimestamp", "receivedAt"),
    *("context", "integrations", "properties", "traits", "version", "channel", "writeKey", "batch", "json", "groupId"),
    *("event_name", "customer_id", "idempotency_id", "time_created"),
)
SPACES = (b"", b"", b"", b"", b" ", b"\n", b"\t", b"\r\n  ")

_DEPTHS = (40, 150, 194, 196, 198, 199, 200, 201, 205, 330, 900, 990, 1100, 5000)
_WORDS = (b"true", b"false", b"null")
_COMMON_IDS = 400
"""Ids that many calls share, so that they meet as duplicates and conflicts."""

_SENT_AGAIN = 0.2


class Grammar:
    """Writes JSON text by one source of chance; what it writes is a matter of the seed alone."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def value(self, depth: int = 0) -> bytes:
        """Return any JSON value, and now and then what is none."""
        rng = self._rng
        kind = rng.randrange(100)
        if kind < 25:
            return self.number()
        if kind < 55:
            return self.text()
        if kind < 67:
            return rng.choice(_WORDS) if kind < 65 else rng.choice(NO_TEXTS + NO_NUMBERS)
        if kind < 69 and depth < 2:
            return self.nested(self.text())
        return self._container(depth) if depth <= 4 else b"null"

    def _container(self, depth: int) -> bytes:
        if self._rng.random() < 0.5:
            return self.object(depth + 1)
        return self.array(partial(self.value, depth + 1))

    def number(self) -> bytes:
        """Return a number, often an odd one."""
        rng = self._rng
        if rng.random() < 0.4:
            return rng.choice(ODD_NUMBERS)
        return str(rng.choice((rng.randrange(10), rng.randrange(100_000), round(rng.random() * 100, 2)))).encode()

    def text(self) -> bytes:
        """Return a string, often an odd one."""
        rng = self._rng
        return rng.choice(ODD_TEXTS) if rng.random() < 0.5 else b'"word-%d"' % rng.randrange(50)

    def object(self, depth: int = 0) -> bytes:
        """Return an object, keys repeated now and then."""
        rng = self._rng
        members = [(self.key(), self.value(depth)) for _ in range(rng.choice((0, 1, 2, 3, 5)))]
        if members and rng.random() < 0.1:
            members.append((rng.choice(members)[0], self.value(depth)))
        return self.join(members)

    def key(self) -> bytes:
        """Return a key with its quotes."""
        rng = self._rng
        return rng.choice(ODD_KEYS) if rng.random() < 0.2 else b'"%s"' % rng.choice((b"a", b"b", b"n", b"price", b"x"))

    def array(self, item: Callable[[], bytes]) -> bytes:
        """Return an array of what `item` gives."""
        rng = self._rng
        count = rng.choice((0, 1, 2, 3, 4))
        comma = rng.choice(SPACES) + b"," + rng.choice(SPACES)
        return b"[" + rng.choice(SPACES) + comma.join(item() for _ in range(count)) + rng.choice(SPACES) + b"]"

    def nested(self, core: bytes) -> bytes:
        """Return a value that stands below many brackets."""
        rng = self._rng
        opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")))
        depth = rng.choice(_DEPTHS)
        return opening * depth + core + closing * depth

    def join(self, members: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Return an object of (quoted key, value)."""
        space = self._rng.choice(SPACES)
        return b"{" + (b"," + space).join(key + b":" + space + value for key, value in members) + space + b"}"

    def identifier(self, word: bytes) -> bytes:
        """Return an id: often one that others have too."""
        rng = self._rng
        if rng.random() < 0.4:
            return b'"%s-%d"' % (word, rng.randrange(_COMMON_IDS))
        return b'"%s-%x"' % (word, rng.getrandbits(48))

    def time(self) -> bytes:
        """Return a time within some weeks."""
        rng = self._rng
        return b'"2026-%02d-%02dT%02d:%02d:%02d.%03dZ"' % (
            rng.randrange(10, 12),
            rng.randrange(1, 29),
            rng.randrange(24),
            rng.randrange(60),
            rng.randrange(60),
            rng.randrange(1000),
        )

    def tame(self) -> bytes:
        """Return a value of a property as products send it; few different ones, so that contents are often equal."""
        rng = self._rng
        return rng.choice((b"1", b"2", b"2.0", b"0.1", b"-3", b'"eu"', b'"us"', b"true", b"null", b"[1,2]", b'{"a":1}'))

    def properties(self, event: bytes) -> bytes:
        """Return properties that fit an event."""
        rng = self._rng
        members = [(b'"n"', rng.choice((b"1", b"2", b"3.5"))), (b'"region"', rng.choice((b'"eu"', b'"us"', b"null")))]
        if event == b"Order Completed":
            products = [
                self.join([(b'"product_id"', b'"p%d"' % number), (b'"price"', rng.choice((b"1", b"19.99", b'"5"')))])
                for number in range(rng.choice((0, 1, 2, 3)))
            ]
            members += [(b'"order_id"', self.identifier(b"order")), (b'"products"', b"[" + b",".join(products) + b"]")]
        elif rng.random() < 0.3:
            members.append((b'"extra"', self.tame()))
        return self.join(members)

    def call(self) -> bytes:
        """Return a Segment call: most of them good, the others with odd members; some are sent again and again."""
        if self._rng.random() < _SENT_AGAIN:
            return Grammar(random.Random(f"call {self._rng.randrange(_COMMON_IDS)}")).new_call()
        return self.new_call()

    def new_call(self) -> bytes:
        """Return a call that is no copy of another."""
        rng = self._rng
        kind, event = rng.choice(TYPES), rng.choice(EVENTS)
        members = [(b'"type"', b'"%s"' % kind)]
        if kind == b"track":
            members.append((b'"event"', b'"%s"' % event))
        members += [
            (b'"messageId"', self.identifier(b"message")),
            (b'"userId"', self.identifier(b"user") if rng.random() < 0.1 else b'"customer-%d"' % rng.randrange(20)),
            (b'"timestamp"', self.time()),
            (b'"properties"' if kind == b"track" else b'"traits"', self.properties(event)),
        ]
        if rng.random() < 0.3:
            members.append((b'"context"', b'{"groupId":"acme","ip":"10.0.0.1"}'))
        if rng.random() < 0.35:
            self._spoil(members)
        if rng.random() < 0.1:
            rng.shuffle(members)
        return self.join(members)

    def lotus_event(self) -> bytes:
        """Return an event in Lotus's own form; some are sent again and again."""
        if self._rng.random() < _SENT_AGAIN:
            return Grammar(random.Random(f"event {self._rng.randrange(_COMMON_IDS)}")).new_event()
        return self.new_event()

    def new_event(self) -> bytes:
        """Return an event that is no copy of another."""
        rng = self._rng
        members = [
            (b'"event_name"', b'"%s"' % rng.choice(EVENTS)),
            (b'"idempotency_id"', self.identifier(b"native")),
            (b'"customer_id"', b'"customer-%d"' % rng.randrange(20)),
            (b'"time_created"', self.time()),
            (b'"properties"', self.properties(b"")),
        ]
        if rng.random() < 0.4:
            self._spoil(members)
        return self.join(members)

    def _spoil(self, members: list[tuple[bytes, bytes]]) -> None:
        """Make one to three members odd: another value, none, twice, or one that does not belong there."""
        rng = self._rng
        for _ in range(rng.choice((1, 1, 2, 3))):
            place = rng.randrange(len(members))
            key, _ = members[place]
            kind = rng.randrange(10)
            if kind < 2 and b"ime" in key:
                members[place] = (key, rng.choice(ODD_TIMES))
            elif kind < 5:
                members[place] = (key, self.value())
            elif kind == 5 and len(members) > 1:
                del members[place]
            elif kind == 6:
                members.append((key, self.value()))
            elif kind == 7:
                members.append((b'"%s"' % rng.choice(COMMON).encode(), self.value()))
            elif kind == 8:
                members[place] = (key, rng.choice((self.text(), rng.choice(ODD_TIMES), self.number())))
            else:
                members[place] = (key, self.object())
