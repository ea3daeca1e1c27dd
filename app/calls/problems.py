"""Stored calls that need attention: rejected, in conflict, or taken by no transform.

A thousand calls that fail in one way are one problem; `app.core.problem` distinguishes the ways.
"""

from collections.abc import Iterable

import msgspec

from app.calls.sql_problems import (
    ProblemRow,
    Scan,
    SharedIdRow,
    UnmappedRow,
    Window,
    list_problem_rows,
    list_shared_ids,
    list_unmapped_rows,
)
from app.catalog.live import KIND
from app.core.jmespath.functions.choices import PLACEHOLDERS
from app.core.outcome import Outcome, Reason
from app.core.problem import parse_problem, problem_key
from app.core.times import format_time
from app.store.engine import Database
from app.store.ids import ID_MAX, first_id_at, micros_of
from app.store.publications import list_live

CALLS_MAX = 5_000
"""Calls that one scan reads at most."""

SECONDS = 0.05
"""A scan takes at most this long: rows that have not been read for long come from the disk one by one."""

GROUPS_MAX = 100
"""Groups that are listed; the others are only counted."""

_BLANKS_MAX = 8
_NO_IDS = (*PLACEHOLDERS, *(" " * length for length in range(1, _BLANKS_MAX + 1)))
"""Placeholder ids to search for, each in an index; of blanks only spaces."""

_OUTCOMES = (Outcome.REJECTED, Outcome.CONFLICT)
_PATH_CHARS = 200
_SENTENCE_CHARS = 400
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


class ProblemGroup(msgspec.Struct, kw_only=True):
    """Calls that fail in one way."""

    outcome: str
    reason: str | None
    transform: str | None
    version: str | None
    """Version of the transform that decided, in hexadecimal digits."""
    is_live: bool
    """This version is live now: replaying these calls would change nothing."""
    path: str
    sentence: str
    count: int
    first_at: int
    last_at: int
    sample: str
    """Id of the newest of these calls."""
    key: str
    """Identifies the group."""

    @property
    def words(self) -> dict[str, str]:
        """Return the parameters of a replay of exactly these calls, and of those like them outside the period."""
        # The key alone would be enough; the others let indexes find the calls.
        filters = {"outcome": self.outcome, "reason": self.reason, "by": self.transform, "version": self.version}
        return {**{name: value for name, value in filters.items() if value is not None}, "problem": self.key}


class Unmapped(msgspec.Struct, kw_only=True):
    """Calls of one type and event that no transform takes."""

    type: str | None
    event: str | None
    count: int
    first_at: int
    last_at: int
    sample: str
    key: str
    """Identifies unmapped calls of this type, whatever their event."""

    @property
    def words(self) -> dict[str, str]:
        """Return the parameters of a replay of these calls."""
        event = {} if self.event is None else {"event": self.event}
        return {"outcome": Outcome.IGNORED, "reason": Reason.NO_TRANSFORM, **event, "problem": self.key}


class SharedId(msgspec.Struct, kw_only=True):
    """Events that count under a placeholder id: a blank, `undefined`, `null` ..."""

    field: str
    """`customer_id` or `idempotency_id`."""
    id: str
    count: int
    is_more: bool
    """Whether there are more than `count`."""
    last_at: int
    sample: str
    """Id of the newest of their calls."""


class ScanSummary(msgspec.Struct, kw_only=True):
    """How far back a scan reached."""

    calls: int
    since: int | None
    """Time of the oldest call that was read, if older ones are left; None if all were read."""
    before: str | None
    """Where the next scan continues."""


class Problems(msgspec.Struct, kw_only=True):
    """The result of `find_problems`."""

    groups: list[ProblemGroup]
    """The largest first."""
    more: int
    """Groups that are not listed."""
    scan: ScanSummary
    unmapped: list[Unmapped]
    unmapped_more: int
    unmapped_scan: ScanSummary
    shared_ids: list[SharedId]


def find_problems(
    database: Database, since: int | None, *, before: int | None = None, unmapped_before: int | None = None
) -> Problems:
    """Group the calls received since a time (microseconds since 1970; None: all).

    `before`, `unmapped_before`: only calls below these ids, from `ScanSummary.before` of an earlier result.

    Raises:
        Unavailable: the database cannot be read now.

    """
    first = 0 if since is None else first_id_at(since)
    with database.reading() as conn:
        rows, scan = list_problem_rows(conn, _OUTCOMES, _window(first, before))
        unmapped_rows, unmapped_scan = list_unmapped_rows(conn, _window(first, unmapped_before))
        shared = list_shared_ids(conn, _NO_IDS, first, CALLS_MAX + 1)
        live = (
            {publication.digest for publication in list_live(conn, KIND).values() if publication.digest is not None}
            if rows
            else set()
        )
    groups = to_groups(rows, live)
    unmapped = to_unmapped(unmapped_rows)
    return Problems(
        groups=groups[:GROUPS_MAX],
        more=max(0, len(groups) - GROUPS_MAX),
        scan=_to_scan_summary(scan),
        unmapped=unmapped[:GROUPS_MAX],
        unmapped_more=max(0, len(unmapped) - GROUPS_MAX),
        unmapped_scan=_to_scan_summary(unmapped_scan),
        shared_ids=[_to_shared_id(row) for row in shared],
    )


def _to_shared_id(row: SharedIdRow) -> SharedId:
    return SharedId(
        field=row.field,
        id=row.id,
        count=min(row.count, CALLS_MAX),
        is_more=row.count > CALLS_MAX,
        last_at=micros_of(row.last_id),
        sample=str(row.last_id),
    )


def _window(first: int, before: int | None) -> Window:
    return Window(first=first, end=before or ID_MAX, most=CALLS_MAX, seconds=SECONDS)


def to_unmapped(rows: Iterable[UnmappedRow]) -> list[Unmapped]:
    """Group the calls that no transform takes by type and event, most calls first."""
    groups: dict[tuple[str | None, str | None], Unmapped] = {}
    for row in rows:
        group = groups.get((row.type, row.event))
        if group is not None:
            # An older part of the same scan.
            group.count += row.count
            group.first_at = micros_of(row.first_id)
            continue
        groups[row.type, row.event] = Unmapped(
            type=row.type,
            event=row.event,
            count=row.count,
            first_at=micros_of(row.first_id),
            last_at=micros_of(row.last_id),
            sample=str(row.last_id),
            key=problem_key(Outcome.IGNORED, Reason.NO_TRANSFORM, None, None, row.detail),
        )
    return sorted(groups.values(), key=lambda group: (-group.count, -group.last_at))


_Key = tuple[object, ...]


def to_groups(rows: Iterable[ProblemRow], live: set[bytes]) -> list[ProblemGroup]:
    """Group calls that fail in one way, most calls first; `live` holds the digests of the live versions."""
    groups: dict[_Key, ProblemGroup] = {}
    newest: dict[_Key, int] = {}
    details: dict[_Key, set[str | None]] = {}
    for row in rows:
        way = parse_problem(row.reason, row.detail)
        key: _Key = (row.outcome, row.reason, row.transform, row.transform_digest, way)
        details.setdefault(key, set()).add(row.detail)
        group = groups.get(key)
        if group is None:
            newest[key] = row.last_id
            groups[key] = ProblemGroup(
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
                key=problem_key(row.outcome, row.reason, row.transform, row.transform_digest, row.detail),
            )
            continue
        group.count += row.count
        group.first_at = min(group.first_at, micros_of(row.first_id))
        if row.last_id > newest[key]:
            newest[key] = row.last_id
            group.last_at, group.sample = micros_of(row.last_id), str(row.last_id)
    for key, group in groups.items():
        # If all have the same sentence, show that one, with its numbers.
        [*sentences] = details[key]
        sentence = sentences[0] if len(sentences) == 1 and sentences[0] else group.sentence
        group.sentence = sentence if len(sentence) <= _SENTENCE_CHARS else f"{sentence[:_SENTENCE_CHARS]}{_ELLIPSIS}"
    return sorted(groups.values(), key=lambda group: (-group.count, -group.last_at))


def _to_scan_summary(scan: Scan) -> ScanSummary:
    reached = scan.reached
    return ScanSummary(
        calls=scan.calls,
        since=None if reached is None else micros_of(reached),
        before=None if reached is None else str(reached),
    )


def to_document(problems: Problems) -> dict[str, object]:
    """Return the result as JSON-ready values, times as RFC 3339."""

    def to_values(group: ProblemGroup | Unmapped) -> dict[str, object]:
        fields = msgspec.structs.asdict(group)
        times = {"first_at": format_time(group.first_at), "last_at": format_time(group.last_at)}
        return {**fields, **times, "replay": group.words}

    def scan_values(scan: ScanSummary) -> dict[str, object]:
        since = None if scan.since is None else format_time(scan.since)
        return {"calls": scan.calls, "since": since, "before": scan.before}

    return {
        "groups": [to_values(group) for group in problems.groups],
        "more": problems.more,
        "seen": scan_values(problems.scan),
        "unmapped": [to_values(group) for group in problems.unmapped],
        "unmapped_more": problems.unmapped_more,
        "unmapped_seen": scan_values(problems.unmapped_scan),
        "shared_ids": [
            {**msgspec.structs.asdict(shared), "last_at": format_time(shared.last_at)} for shared in problems.shared_ids
        ],
    }
