"""The stored calls for a transform: for the call picker, for completion, for the impact of a draft."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import translate
from typing import Any

import msgspec

from app.core.native import NativeEvent
from app.core.segment import Unparsed, Unread
from app.core.transform.match import Match
from app.core.transform.transform import DEFAULT, Transform
from app.store.engine import Connection
from app.store.kept import read_kept
from app.store.record import to_detail
from app.transforms.documents import PathDocument
from app.transforms.sql_traffic import list_event_names, list_ids_by_event, list_ids_decided_by, list_ids_of_type

PATHS_MAX = 300
CALLS_FOR_PATHS = 50

# Room for a call of Segment's largest size, 32 KB, and little enough that a few huge ones do not take long.
_BYTES_FOR_PATHS = 1 << 20
_NODES_MAX = 50_000
_DEPTH_MAX = 10
_SAMPLE_CHARS = 60

# Of a `match` with more names than this, only some are looked up, as for a pattern.
_NAMES_MAX = 50

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def list_ids_for(conn: Connection, transform: Transform | None, event: str | None, limit: int) -> list[int]:
    """Return the ids of the newest calls that a transform takes by event name and type; with `event`, of that event."""
    if event is not None:
        return list_ids_by_event(conn, _names(conn, (event,)), limit)
    if transform is None:
        return []
    if transform.name == DEFAULT:
        return list_ids_decided_by(conn, DEFAULT, limit)
    return list_ids_matched(conn, transform.match, limit)


def list_ids_matched(conn: Connection, match: Match, limit: int) -> list[int]:
    """Return the ids of the newest calls that a `match` takes by event name and type, newest first."""
    if match.events or match.patterns:
        names = {*list(match.events)[:_NAMES_MAX]}
        if match.patterns:
            stored = list_event_names(conn)
            matching = [name for name in stored if any(pattern.match(name) for pattern in match.patterns)]
            names.update(matching[:_NAMES_MAX])
        return list_ids_by_event(conn, names, limit)
    return list_ids_of_type(conn, match.type, limit)


def _names(conn: Connection, events: Sequence[str]) -> Iterator[str]:
    """Yield event names; a pattern is replaced by the names of stored calls that it matches."""
    for event in events:
        if "*" in event or "?" in event:
            pattern = re.compile(translate(event.replace("[", "[[]")))
            yield from [name for name in list_event_names(conn) if pattern.match(name)][:_NAMES_MAX]
        else:
            yield event


def list_paths(conn: Connection, ids: Sequence[int]) -> list[PathDocument]:
    """Return the paths of calls, the most frequent first; `ids` are newest first, and samples are from the newest."""
    rows = {row.id: row for row in read_kept(conn, ids, _BYTES_FOR_PATHS)}
    counts: Counter[str] = Counter()
    samples: dict[str, str] = {}
    left = _NODES_MAX
    for call_id in ids:
        row = rows.get(call_id)
        document = row.read() if row is not None and row.raw is not None else None
        if isinstance(document, Unread | Unparsed | NativeEvent) or left <= 0:
            continue
        paths: set[str] = set()
        for path, value in _walk("", document, 0):
            left -= 1
            if left <= 0:
                break
            paths.add(path)
            if path not in samples or (samples[path] == "null" and value is not None):
                samples[path] = _sample(value)
        counts.update(paths)
    most_frequent = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:PATHS_MAX]
    return [PathDocument(path=path, sample=samples[path]) for path, _ in most_frequent]


def _walk(path: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if path:
        yield path, value
    if depth >= _DEPTH_MAX:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            named = key if _IDENTIFIER.fullmatch(key) else _quoted(key)
            if named:
                yield from _walk(f"{path}.{named}" if path else named, inner, depth + 1)
    elif isinstance(value, list):
        for inner in _few(value):
            yield from _walk(f"{path}[]", inner, depth + 1)


def _few(values: Iterable[Any]) -> Iterator[Any]:
    for _, value in zip(range(5), values, strict=False):
        yield value


def _quoted(key: str) -> str | None:
    try:
        return msgspec.json.encode(key).decode()
    except UnicodeEncodeError:
        # Half of a surrogate pair: nobody can type it.
        return None


def _sample(value: Any) -> str:
    if isinstance(value, dict):
        return "{...}"
    if isinstance(value, list):
        return f"[{len(value)}]"
    text = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    text = "null" if value is None else to_detail(text)
    return text if len(text) <= _SAMPLE_CHARS else text[: _SAMPLE_CHARS - 1] + "\N{HORIZONTAL ELLIPSIS}"
