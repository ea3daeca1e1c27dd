"""Metrics as files and as published versions, by the rules of transforms.

Files are how they are shipped, what is live stands in the database, and a file publishes itself when its text was
never seen and what is live came from a file. No metric inherits from another, so there is nothing else to look at.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from app.catalog.files import Folder, read_folder
from app.catalog.status import FileState
from app.catalog.versions import find_one_version
from app.errors import MetricInvalid, NotFound, Unavailable
from app.metrics.definition import Metric, parse_metric
from app.store.engine import Connection, Database
from app.store.publications import (
    Origin,
    Publication,
    append_publications,
    find_latest_id,
    list_live,
    lock_publications,
)
from app.store.versions import Version, append_versions, find_seen_texts, list_versions

KIND = "metric"

# Somebody else published in between; it takes a crowd of publishers to be overtaken so often.
_TRIES = 10

# The same texts are read for every question.
_parse = lru_cache(maxsize=1000)(parse_metric)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricCheckReport:
    """Files, looked through."""

    metrics: dict[str, Metric]
    problems: dict[str, str]
    """Why a file cannot be used, with file, line and column, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricStanding:
    """One name: its file, and what is live."""

    name: str
    state: FileState
    file: Metric | None
    live: Metric | None
    publication: Publication | None
    unseen: bool
    """The text of the file was never kept under this name."""
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSurvey:
    """A folder held against what is live, at one moment."""

    latest: int | None
    standings: tuple[MetricStanding, ...]


def check_metrics(folder: Folder) -> MetricCheckReport:
    """Read every file of a folder."""
    metrics: dict[str, Metric] = {}
    problems = dict(folder.problems)
    for name, text in sorted(folder.texts.items()):
        try:
            metrics[name] = _parse(name, text)
        except MetricInvalid as error:
            problems[name] = error.message
    return MetricCheckReport(metrics=metrics, problems=problems)


def read_live_metrics(conn: Connection) -> dict[str, Metric]:
    """Return the live metrics by name; what this program cannot read is left out."""
    return _read_live(conn)[0]


def get_metric(conn: Connection, name: str, version: str | None = None) -> Metric:
    """Return a metric as it is live, or any version of it that was, by the first digits of its digest.

    A number on an old invoice is proven by the definition of its time.

    Raises:
        NotFound: there is none, or this program cannot read it.

    """
    if version is not None:
        earlier = find_one_version(conn, KIND, name, version)
        try:
            return _parse(name, earlier.text)
        except MetricInvalid as error:
            raise NotFound(f"this program cannot read that version of {name[:100]}: {error.message}") from error
    metrics = read_live_metrics(conn)
    if name in metrics:
        return metrics[name]
    known = f"live are {', '.join(sorted(metrics))}" if metrics else "none is live"
    raise NotFound(f"there is no metric {name[:100]!a}: {known}; see `segment-lotus metrics list`")


def survey_metrics(conn: Connection, folder: Folder) -> MetricSurvey:
    """Hold a folder against what is live."""
    live, publications, texts = _read_live(conn)
    checked = check_metrics(folder)
    seen = find_seen_texts(conn, KIND, folder.texts)
    standings = []
    for name in sorted({*folder.texts, *checked.problems, *texts}):
        publication = publications.get(name)
        unseen = name in folder.texts and name not in seen
        if name not in folder.texts and name not in checked.problems:
            state = FileState.NO_FILE
        elif name in texts and texts[name] == folder.texts.get(name):
            state = FileState.SAME
        elif name in checked.problems:
            state = FileState.BROKEN
        elif unseen and (publication is None or publication.origin == Origin.FILE):
            state = FileState.NEW
        else:
            state = FileState.DRIFT
        standings.append(
            MetricStanding(
                name=name,
                state=state,
                file=checked.metrics.get(name),
                live=live.get(name),
                publication=publication,
                unseen=unseen,
                problem=checked.problems.get(name),
            )
        )
    return MetricSurvey(latest=find_latest_id(conn), standings=tuple(standings))


def publish_new_metrics(
    database: Database, folder: Folder, next_id: Callable[[int], int], clock: Callable[[], int]
) -> list[str]:
    """Publish the files that may publish themselves; return their names. Raises Unavailable."""
    for _ in range(_TRIES):
        with database.reading() as conn:
            found = survey_metrics(conn, folder)
        new = [one.file for one in found.standings if one.state is FileState.NEW and one.file is not None]
        # A file that waits for a person must not publish itself later, once a person has chosen otherwise.
        waiting = [
            one.file for one in found.standings if one.state is FileState.DRIFT and one.unseen and one.file is not None
        ]
        if not (new or waiting):
            return []
        with database.writing() as conn:
            lock_publications(conn)
            if find_latest_id(conn) != found.latest:
                continue
            _publish(conn, new, waiting, next_id, clock())
        return [one.name for one in new]
    raise Unavailable("others publish documents all the time")


def publish_metric(
    database: Database, folder: Path, name: str, next_id: Callable[[int], int], clock: Callable[[], int]
) -> Metric | None:
    """Make the file of a name live; where there is no file, take out what is live and return None.

    Raises:
        NotFound: there is neither.
        MetricInvalid: the file cannot be used.

    """
    files = read_folder(folder)
    with database.writing() as conn:
        lock_publications(conn)
        standing = next((one for one in survey_metrics(conn, files).standings if one.name == name), None)
        if standing is None:
            raise NotFound(f"there is no {name[:100]}.yaml in {folder}, and no metric of that name is live")
        if standing.problem is not None:
            raise MetricInvalid(standing.problem)
        now = clock()
        if standing.file is None:
            append_publications(conn, [Publication(next_id(now), KIND, name, None, Origin.FILE, now)])
        elif standing.state is not FileState.SAME:
            _publish(conn, [standing.file], [], next_id, now)
        return standing.file


def _publish(
    conn: Connection, metrics: list[Metric], waiting: list[Metric], next_id: Callable[[int], int], now: int
) -> None:
    append_versions(conn, [Version(one.digest, KIND, one.name, one.text, None, now) for one in (*metrics, *waiting)])
    append_publications(
        conn, [Publication(next_id(now), KIND, one.name, one.digest, Origin.FILE, now) for one in metrics]
    )


def _read_live(conn: Connection) -> tuple[dict[str, Metric], dict[str, Publication], dict[str, str]]:
    """Return the live metrics, the last publication and the live text of each name."""
    publications = list_live(conn, KIND)
    digests = {name: one.digest for name, one in publications.items() if one.digest is not None}
    versions = list_versions(conn, digests.values())
    texts = {name: versions[digest].text for name, digest in digests.items() if digest in versions}
    metrics: dict[str, Metric] = {}
    for name, text in sorted(texts.items()):
        try:
            metrics[name] = _parse(name, text)
        except MetricInvalid:
            # A newer program wrote it: `metrics list` says so.
            continue
    return metrics, publications, texts
