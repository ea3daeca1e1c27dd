"""What needs a person among the kept calls: those that were rejected, that conflict, or that no transform takes.

A thousand calls that fail in one way are one problem. What tells the ways apart is the transform, its version, the
reason, and the sentence without what differs from call to call: quoted values and numbers go, paths stay.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from app.catalog.live import KIND
from app.core.outcome import Outcome, Reason
from app.core.times import format_time
from app.core.transform_schema import FIELDS
from app.store.engine import Database
from app.store.ids import first_id_at, micros_of
from app.store.problems import ProblemRow, Window, find_window, list_problem_rows, list_unmapped_rows
from app.store.publications import list_live
from app.store.review_events import ID_MAX

LOOKED_AT = 5_000
"""Calls that one look reads at most."""

GROUPS_MAX = 100
"""Groups that are told; of the others only their number."""

_OUTCOMES = (Outcome.REJECTED, Outcome.CONFLICT)
_PATH_CHARS = 200
_SENTENCE_CHARS = 400
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"

_IN_BACKQUOTES = re.compile(r"(`[^`]*`)")
# As Python writes text: 'it' or "it's". An apostrophe inside a word begins nothing.
_QUOTED = re.compile(r"""(?<!\w)'(?:[^'\\]|\\.)*'(?!\w)|"(?:[^"\\]|\\.)*\"""")
_INDEX = re.compile(r"\[\d+\]")
# A limit, or the place of an argument, is the same for all calls, and says what is wrong.
_NUMBER = re.compile(r"(?<![\w,.])(?<!argument )(?<!at most )(?<!than )(?<!from )(?<!to )-?\d[\d,]*(?:\.\d+)?\b")
_STEP = re.compile(r"(?<=\.)\d+(?=\.|$)")
_OF_SCHEMA = re.compile(r"(.+?) breaks input_schema: (.*)", re.DOTALL)
_REQUIRED = re.compile(r"`(.+)` is required")
_OF_TRANSFORM = re.compile(r"((?:event|when|each)\b.*?): ")
_OF_EVENT = re.compile(rf"(?:a key of )?((?:{'|'.join(FIELDS)})\b.*?)(?=: | is | has | holds | nest)")
_THE_CALL = "the call"


class Way(NamedTuple):
    """How calls go wrong, without what differs from call to call."""

    path: str
    """Where: in the call, in the event or in the transform; "" where the sentence names no place."""
    sentence: str


class Group(msgspec.Struct, kw_only=True):
    """Calls that go wrong in one way."""

    outcome: str
    reason: str | None
    transform: str | None
    version: str | None
    """Of the transform that decided, in hexadecimal digits."""
    is_live: bool
    """The version is the one that is live now: running these calls again will change nothing."""
    path: str
    sentence: str
    count: int
    first_at: int
    last_at: int
    sample: str
    """Id of the newest of these calls."""

    @property
    def words(self) -> dict[str, str]:
        """Return what to ask a replay for: it knows no paths, so it may be more calls than these."""
        given = {"outcome": self.outcome, "reason": self.reason, "by": self.transform, "version": self.version}
        return {name: value for name, value in given.items() if value is not None}


class Unmapped(msgspec.Struct, kw_only=True):
    """Calls of one type and event that no transform takes."""

    type: str | None
    event: str | None
    count: int
    first_at: int
    last_at: int
    sample: str

    @property
    def words(self) -> dict[str, str]:
        """Return what to ask a replay for."""
        given = {"outcome": Outcome.IGNORED.value, "reason": Reason.NO_TRANSFORM.value, "event": self.event}
        return {name: value for name, value in given.items() if value is not None}


class Seen(msgspec.Struct, kw_only=True):
    """How far back a look went."""

    calls: int
    since: int | None
    """Time of the oldest call that was looked at, where older ones are left; None where all were."""
    before: str | None
    """Where to go on from."""


class Problems(msgspec.Struct, kw_only=True):
    """What was found."""

    groups: list[Group]
    """The largest first."""
    more: int
    """Groups that are not told."""
    seen: Seen
    unmapped: list[Unmapped]
    unmapped_more: int
    unmapped_seen: Seen


def find_problems(
    database: Database, since: int | None, *, before: int | None = None, unmapped_before: int | None = None
) -> Problems:
    """Group the calls since a time (microseconds since 1970; None: since ever).

    `before`, `unmapped_before`: only calls below these ids, as `Seen.before` gave them.

    Raises:
        Unavailable: the database cannot be read now.

    """
    first = 0 if since is None else min(first_id_at(since), ID_MAX)
    with database.reading() as conn:
        window = find_window(conn, _OUTCOMES, first, before or ID_MAX, LOOKED_AT)
        rows = list_problem_rows(conn, _OUTCOMES, window)
        ignored = find_window(conn, (Outcome.IGNORED,), first, unmapped_before or ID_MAX, LOOKED_AT)
        unmapped_rows = list_unmapped_rows(conn, ignored)
        live = {one.digest for one in list_live(conn, KIND).values() if one.digest is not None} if rows else set()
    groups = to_groups(rows, live)
    unmapped = sorted(
        (
            Unmapped(
                type=row.type,
                event=row.event,
                count=row.count,
                first_at=micros_of(row.first_id),
                last_at=micros_of(row.last_id),
                sample=str(row.last_id),
            )
            for row in unmapped_rows
        ),
        key=lambda one: (-one.count, -one.last_at),
    )
    return Problems(
        groups=groups[:GROUPS_MAX],
        more=max(0, len(groups) - GROUPS_MAX),
        seen=_to_seen(window, sum(one.count for one in groups)),
        unmapped=unmapped[:GROUPS_MAX],
        unmapped_more=max(0, len(unmapped) - GROUPS_MAX),
        unmapped_seen=_to_seen(ignored, sum(one.count for one in unmapped)),
    )


_Key = tuple[object, ...]


def to_groups(rows: Iterable[ProblemRow], live: set[bytes]) -> list[Group]:
    """Put together what goes wrong in one way, the most calls first; `live` are the digests of what is live."""
    groups: dict[_Key, Group] = {}
    newest: dict[_Key, int] = {}
    said: dict[_Key, set[str | None]] = {}
    for row in rows:
        way = parse_way(row.reason, row.detail)
        key: _Key = (row.outcome, row.reason, row.transform, row.transform_digest, way)
        said.setdefault(key, set()).add(row.detail)
        group = groups.get(key)
        if group is None:
            newest[key] = row.last_id
            groups[key] = Group(
                outcome=row.outcome,
                reason=row.reason,
                transform=row.transform,
                version=row.transform_digest.hex() if row.transform_digest is not None else None,
                is_live=row.transform_digest is not None and row.transform_digest in live,
                path=way.path[:_PATH_CHARS],
                sentence=way.sentence,
                count=row.count,
                first_at=micros_of(row.first_id),
                last_at=micros_of(row.last_id),
                sample=str(row.last_id),
            )
            continue
        group.count += row.count
        group.first_at = min(group.first_at, micros_of(row.first_id))
        if row.last_id > newest[key]:
            newest[key] = row.last_id
            group.last_at, group.sample = micros_of(row.last_id), str(row.last_id)
    for key, group in groups.items():
        # Where all were told the same, that is what stands there, with its numbers.
        [*sentences] = said[key]
        sentence = sentences[0] if len(sentences) == 1 and sentences[0] else group.sentence
        group.sentence = sentence if len(sentence) <= _SENTENCE_CHARS else f"{sentence[:_SENTENCE_CHARS]}{_ELLIPSIS}"
    return sorted(groups.values(), key=lambda one: (-one.count, -one.last_at))


def parse_way(reason: str | None, detail: str | None) -> Way:
    """Read how a call went wrong from the reason and the sentence that it was told.

    What differs from call to call gives way to `...` or, as an index of an array, to `*`; paths stay.
    """
    if reason == Reason.CONFLICT:
        return Way("idempotency_id", "an event with this id is already there, with other content")
    if not detail:
        return Way("", "")
    if reason == Reason.INPUT_SCHEMA and (found := _OF_SCHEMA.fullmatch(detail)):
        # The rule is quoted from the schema: its numbers are the same for all calls.
        path = _STEP.sub("*", found[1])
        required = _REQUIRED.fullmatch(found[2])
        here = "" if path == _THE_CALL else path
        whole = f"{here}.{required[1]}".lstrip(".") if required else here
        return Way(whole, f"{path} breaks input_schema: {found[2]}")
    sentence = _without_values(detail)
    place = None
    if reason == Reason.TRANSFORM_ERROR:
        place = _OF_TRANSFORM.match(sentence)
    elif reason == Reason.EVENT_INVALID:
        place = _OF_EVENT.match(sentence)
    if place is not None:
        return Way(place[1], sentence)
    quoted = _IN_BACKQUOTES.search(sentence)
    return Way(quoted[1].strip("`") if quoted else "", sentence)


def _without_values(text: str) -> str:
    parts = _IN_BACKQUOTES.split(text)
    for at, part in enumerate(parts):
        plain = part if at % 2 else _QUOTED.sub(_ELLIPSIS, part)
        plain = _INDEX.sub("[*]", plain)
        parts[at] = plain if at % 2 else _NUMBER.sub(_ELLIPSIS, plain)
    return "".join(parts)


def _to_seen(window: Window, calls: int) -> Seen:
    return Seen(
        calls=calls,
        since=None if window.whole else micros_of(window.first),
        before=None if window.whole else str(window.first),
    )


def to_document(found: Problems) -> dict[str, object]:
    """Return what was found as JSON-ready values, times as RFC 3339."""

    def told(one: Group | Unmapped) -> dict[str, object]:
        fields = msgspec.structs.asdict(one)
        times = {"first_at": format_time(one.first_at), "last_at": format_time(one.last_at)}
        return {**fields, **times, "replay": one.words}

    def seen(one: Seen) -> dict[str, object]:
        since = None if one.since is None else format_time(one.since)
        return {"calls": one.calls, "since": since, "before": one.before}

    return {
        "groups": [told(one) for one in found.groups],
        "more": found.more,
        "seen": seen(found.seen),
        "unmapped": [told(one) for one in found.unmapped],
        "unmapped_more": found.unmapped_more,
        "unmapped_seen": seen(found.unmapped_seen),
    }
