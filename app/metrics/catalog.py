"""Metric files and published versions, by the rules of transforms.

Metrics are shipped as files; the live versions are in the database. A file is published automatically when its text was
never seen and the live version came from a file. No metric inherits from another, so nothing else needs a check.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from app.catalog.files import Folder, read_folder
from app.catalog.live import LiveTexts, read_live_texts
from app.catalog.publish import TRIES, overtaken
from app.catalog.status import FileState, file_state
from app.core.times import format_time
from app.errors import MetricInvalid, NotFound
from app.metrics.definition import Metric, parse_metric
from app.store.clock import read_clock
from app.store.engine import Connection, Database
from app.store.publications import (
    Origin,
    Publication,
    append_publications,
    find_latest_id,
    find_publication,
    lock_publications,
)
from app.store.versions import Version, append_versions, find_one_version, find_seen_texts, get_version

KIND = "metric"

# Every query parses the same texts.
_parse = lru_cache(maxsize=1000)(parse_metric)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricCheckReport:
    """The result of parsing all metric files of a folder."""

    metrics: dict[str, Metric]
    problems: dict[str, str]
    """By name: why a file cannot be used, with file, line and column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricFileStatus:
    """One metric name: its file compared with the live version."""

    name: str
    state: FileState
    file: Metric | None
    live: Metric | None
    publication: Publication | None
    unseen: bool
    """The text of the file was never stored under this name."""
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricCatalogStatus:
    """A folder compared with the live metrics, in one snapshot."""

    latest: int | None
    statuses: tuple[MetricFileStatus, ...]


def check_metrics(folder: Folder) -> MetricCheckReport:
    """Parse every file of a folder."""
    metrics: dict[str, Metric] = {}
    problems = dict(folder.problems)
    for name, text in sorted(folder.texts.items()):
        try:
            metrics[name] = _parse(name, text)
        except MetricInvalid as error:
            problems[name] = error.message
    return MetricCheckReport(metrics=metrics, problems=problems)


def read_live_metrics(conn: Connection) -> dict[str, Metric]:
    """Return the live metrics by name, without those that this version of the program cannot read."""
    return _parse_live(read_live_texts(conn, KIND))


def get_metric(conn: Connection, name: str, version: str | None = None, as_of: int | None = None) -> Metric:
    """Return the live version of a metric, that of the moment `as_of`, or one by the first digits of its digest.

    A number on an old invoice is proven with the definition that was live at the time.

    Raises:
        NotFound: there is no such metric or version, or this program cannot read it.

    """
    if version is not None:
        return _read_version(find_one_version(conn, KIND, name, version))
    if as_of is not None:
        publication = find_publication(conn, KIND, name, as_of)
        if publication is None or publication.digest is None:
            what = "was not published yet" if publication is None else "was taken out"
            raise NotFound(f"the metric {name[:100]!a} was not live at {format_time(as_of)}: it {what}")
        return _read_version(get_version(conn, publication.digest))
    metrics = read_live_metrics(conn)
    if name in metrics:
        return metrics[name]
    hint = f"live are {', '.join(sorted(metrics))}" if metrics else "none is live"
    raise NotFound(f"there is no metric {name[:100]!a}: {hint}; see `segment-lotus metrics list`")


def get_metric_version(conn: Connection, digest: bytes) -> Metric:
    """Return a version of a metric by its whole digest. Raises NotFound."""
    return _read_version(get_version(conn, digest))


def _read_version(version: Version) -> Metric:
    try:
        return _parse(version.name, version.text)
    except MetricInvalid as error:
        message = f"this program cannot read that version of {version.name[:100]}: {error.message}"
        raise NotFound(message) from error


def read_metric_statuses(conn: Connection, folder: Folder) -> MetricCatalogStatus:
    """Compare the files of a folder with the live metrics."""
    live = read_live_texts(conn, KIND)
    metrics = _parse_live(live)
    checked = check_metrics(folder)
    seen_names = find_seen_texts(conn, KIND, folder.texts)
    statuses = []
    for name in sorted({*folder.texts, *checked.problems, *live.texts}):
        unseen = name in folder.texts and name not in seen_names
        statuses.append(
            MetricFileStatus(
                name=name,
                state=file_state(name, folder, live, is_fit=name not in checked.problems, unseen=unseen),
                file=checked.metrics.get(name),
                live=metrics.get(name),
                publication=live.publications.get(name),
                unseen=unseen,
                problem=checked.problems.get(name),
            )
        )
    return MetricCatalogStatus(latest=live.latest, statuses=tuple(statuses))


def publish_new_metrics(
    database: Database, folder: Folder, next_id: Callable[[int], int], clock: Callable[[], int]
) -> list[str]:
    """Publish the files that need no decision by a person; return their names. Raises Unavailable."""
    for _ in range(TRIES):
        with database.reading() as conn:
            survey = read_metric_statuses(conn, folder)
        new = [status.file for status in survey.statuses if status.state is FileState.NEW and status.file is not None]
        # Remember the text of a drifted file: it must not publish itself later, after a person chose otherwise.
        waiting = [
            status.file
            for status in survey.statuses
            if status.state is FileState.DRIFT and status.unseen and status.file is not None
        ]
        if not (new or waiting):
            return []
        with database.writing() as conn:
            lock_publications(conn)
            if find_latest_id(conn) != survey.latest:
                continue
            _publish(conn, new, waiting, next_id, clock())
        return [metric.name for metric in new]
    raise overtaken()


def publish_metric(
    database: Database, folder: Path, name: str, next_id: Callable[[int], int], clock: Callable[[], int]
) -> Metric | None:
    """Publish the file of a metric; if there is no file, unpublish the live version and return None.

    Raises:
        NotFound: there is neither a file nor a live version.
        MetricInvalid: the file cannot be used.

    """
    files = read_folder(folder)
    with database.writing() as conn:
        lock_publications(conn)
        status = next((status for status in read_metric_statuses(conn, files).statuses if status.name == name), None)
        if status is None:
            raise NotFound(f"there is no {name[:100]}.yaml in {folder}, and no metric of that name is live")
        if status.problem is not None:
            raise MetricInvalid(status.problem)
        now = clock()
        if status.file is None:
            append_publications(conn, [Publication(next_id(now), KIND, name, None, Origin.FILE, read_clock(conn))])
        elif status.state is not FileState.SAME:
            _publish(conn, [status.file], [], next_id, now)
        return status.file


def _publish(
    conn: Connection, metrics: list[Metric], waiting: list[Metric], next_id: Callable[[int], int], now: int
) -> None:
    append_versions(
        conn, [Version(metric.digest, KIND, metric.name, metric.text, None, now) for metric in (*metrics, *waiting)]
    )
    # By the clock of the events: an answer as of a moment uses the version that was live then.
    at = read_clock(conn)
    append_publications(
        conn, [Publication(next_id(now), KIND, metric.name, metric.digest, Origin.FILE, at) for metric in metrics]
    )


def _parse_live(live: LiveTexts) -> dict[str, Metric]:
    metrics: dict[str, Metric] = {}
    for name, text in sorted(live.texts.items()):
        try:
            metrics[name] = _parse(name, text)
        except MetricInvalid:
            # Written by a newer version of the program: `metrics list` says so.
            continue
    return metrics
