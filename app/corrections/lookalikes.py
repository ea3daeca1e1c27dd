"""Lookalikes: events of one customer with the same name and content under different ids, close in time.

A sender that makes a new message id on each retry is billed twice, and nothing in its calls says so. But a heartbeat is
the same event again and again, too: so each group says whether it looks ordinary, and only the others are pre-selected.
"""

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import msgspec

from app.core.lotus import DIGEST_BYTES
from app.core.times import format_time
from app.errors import BadQuery
from app.store.engine import Connection
from app.store.query import check_texts, parse_moment
from app.store.record import KEY_MAX

MEMBERS = ("metric", "customer", "event_name", "since", "until", "within")

WITHIN = "5m"
PERIOD = "31d"
"""Without `since`: the events of so long."""

RETRIES_MAX = 5
"""Events of one group: more are a loop or a heartbeat, and no retries of one call."""

AROUND_MICROS = 86_400_000_000
"""How far before and after the period it is looked whether an event comes again and again."""

SCANNED_MAX = 5_000_000
"""Events of one customer that are compared at a time: some 60 bytes of memory each."""

_EVEN = 1.25
"""Gaps are even if the longest is at most so many times the shortest."""

_WITHIN = re.compile(r"([1-9]\d{0,5})([smh])")
_SECONDS_OF = {"s": 1, "m": 60, "h": 3600}
_WITHIN_MAX = 86_400_000_000


class Ordinary(StrEnum):
    """Why events that look alike are taken for ordinary ones."""

    RECURS = "the same event comes at other times too"
    MANY = f"there are more than {RETRIES_MAX}"
    STEADY = "they come at even intervals"
    EMPTY = "they have no properties that could tell them apart"
    ONE_CALL = "one call made several of them"


class Counted(NamedTuple):
    """Which events a metric counts."""

    event_name: str
    counts: Callable[[str], bool]
    """Tells whether it counts an event with these properties, a JSON object as text."""


class FindCounted(Protocol):
    """Finds which events a metric counts."""

    def __call__(self, conn: Connection, metric: str) -> Counted:
        """Return it for a live metric. Raises NotFound."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are compared; times in microseconds since 1970."""

    since: int
    within: int
    """The longest gap between two events of a group, in microseconds."""
    until: int | None = None
    metric: str | None = None
    customer: str | None = None
    event_name: str | None = None


class Member(NamedTuple):
    """One event of a group."""

    time_created: int
    id: int


class LookalikeGroup(msgspec.Struct, kw_only=True):
    """Events that look alike, by time; the first of them stays if the others are made void."""

    content: bytes
    members: list[Member]
    why_ordinary: str | None
    """None: it is pre-selected."""


class LookalikeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a group, as it is shown."""

    idempotency_id: str
    call_id: str
    time_created: str


class Lookalikes(msgspec.Struct, frozen=True, kw_only=True):
    """A group as it is shown."""

    customer_id: str
    event_name: str
    properties: msgspec.Raw
    count: int
    selected: bool
    why_ordinary: str | None
    events: list[LookalikeEvent]
    """The first of them."""

    @property
    def spare_ids(self) -> list[str]:
        """The idempotency ids of all but the first; empty if it has more events than are shown."""
        return [event.idempotency_id for event in self.events[1:]] if len(self.events) == self.count else []


class LookalikesPage(msgspec.Struct, kw_only=True):
    """The groups of some customers."""

    groups: list[Lookalikes] = []
    """The pre-selected ones first, each by time."""
    total: int = 0
    """Groups, also those that are not shown."""
    selected: int = 0
    """Pre-selected groups, also those that are not shown."""
    doubles: int = 0
    """Events of these, without the first of each."""
    next: str | None = None
    """The customer after whom to go on; None: there are no more."""


def parse_question(values: Mapping[str, Any], now: int) -> Question:
    """Parse a question; `values` has some of MEMBERS, None for one that is not used; `now` in microseconds.

    Raises:
        BadQuery: names the member that is wrong, and says what is accepted.

    """
    texts = {name: value for name, value in values.items() if value is not None}
    if wrong := next((name for name in texts if name not in MEMBERS), None):
        raise BadQuery(f"there is no {wrong[:40]!a}: there are {', '.join(MEMBERS)}")
    for name, text in texts.items():
        if not (isinstance(text, str) and 0 < len(text) <= KEY_MAX):
            raise BadQuery(f"{name} must be a text of 1 to {KEY_MAX} characters; leave it out if it does not matter")
    check_texts(texts)
    question = Question(
        since=parse_moment("since", texts.get("since", PERIOD), now),
        until=parse_moment("until", texts["until"], now) if "until" in texts else None,
        within=_parse_within(texts.get("within", WITHIN)),
        metric=texts.get("metric"),
        customer=texts.get("customer"),
        event_name=texts.get("event_name"),
    )
    if question.until is not None and question.since >= question.until:
        raise BadQuery("since must be before until: the period includes since, but not until")
    return question


def _parse_within(text: str) -> int:
    parts = _WITHIN.fullmatch(text.strip())
    micros = int(parts[1]) * _SECONDS_OF[parts[2]] * 1_000_000 if parts else 0
    if not 0 < micros <= _WITHIN_MAX:
        raise BadQuery(f"within must be a duration of at most 24h, such as 30s, 5m or 1h; it is {text[:40]!a}")
    return micros


class Scan:
    """The events of one customer, packed: their contents, times and ids."""

    def __init__(self) -> None:
        self._contents = bytearray()
        self._chunks: list[tuple[int, str, str]] = []
        self.events = 0

    def add(self, contents: bytes, times: str, ids: str) -> None:
        """Add events: their digests one after the other; times and ids with a comma between two.

        Raises:
            BadQuery: there are too many.

        """
        count = len(contents) // DIGEST_BYTES
        self._contents += contents
        self._chunks.append((count, times, ids))
        self.events += count
        if self.events > SCANNED_MAX:
            raise BadQuery(f"a customer has more than {SCANNED_MAX:,} events in this period: ask for a shorter one")

    def find_recurring(self) -> dict[bytes, list[Member]]:
        """Return the events whose content is there more than once, by content, each in order of time."""
        heads = array("q")
        heads.frombytes(bytes(self._contents))
        # Half of a digest finds the candidates; the whole of it decides.
        heads = heads[:: DIGEST_BYTES // heads.itemsize]
        recurring = {head for head, count in Counter(heads).items() if count > 1}
        members: dict[bytes, list[Member]] = {}
        start = 0
        for count, times_text, ids_text in self._chunks if recurring else ():
            picked = [place for place, head in enumerate(heads[start : start + count]) if head in recurring]
            if picked:
                times, ids = times_text.split(","), ids_text.split(",")
                for place in picked:
                    at = (start + place) * DIGEST_BYTES
                    content = bytes(self._contents[at : at + DIGEST_BYTES])
                    members.setdefault(content, []).append(Member(int(times[place]), int(ids[place])))
            start += count
        return {content: sorted(same) for content, same in members.items() if len(same) > 1}


def find_groups(recurring: Mapping[bytes, Sequence[Member]], question: Question) -> Iterator[LookalikeGroup]:
    """Yield the groups of a customer's events that recur: chains in which no gap is longer than `within`.

    The events may reach beyond the period, which says whether they are ordinary; a group has those inside it.
    """
    until = question.until
    for content, same in recurring.items():
        inside = [member for member in same if member.time_created >= question.since]
        if until is not None:
            inside = [member for member in inside if member.time_created < until]
        for chain in _chains(inside, question.within):
            if len(chain) > 1:
                yield LookalikeGroup(content=content, members=chain, why_ordinary=_why_ordinary(chain, len(same)))


def _chains(members: Iterable[Member], within: int) -> Iterator[list[Member]]:
    chain: list[Member] = []
    for member in members:
        if chain and member.time_created - chain[-1].time_created > within:
            yield chain
            chain = []
        chain.append(member)
    yield chain


def _why_ordinary(chain: Sequence[Member], occurrences: int) -> str | None:
    if occurrences > len(chain):
        return Ordinary.RECURS
    if len(chain) > RETRIES_MAX:
        return Ordinary.MANY
    gaps = [after.time_created - before.time_created for before, after in pairwise(chain)]
    if len(gaps) > 1 and 0 < max(gaps) <= _EVEN * min(gaps):
        return Ordinary.STEADY
    return None


def to_shown_event(idempotency_id: str, call_id: int, time_created: int) -> LookalikeEvent:
    """Return one event of a group, as it is shown."""
    return LookalikeEvent(idempotency_id=idempotency_id, call_id=str(call_id), time_created=format_time(time_created))
