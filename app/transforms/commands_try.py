"""One call through the pipeline, with nothing stored: `try`."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from app.catalog.check import check
from app.catalog.files import read_file, read_folder, to_name
from app.catalog.live import Catalog, build_catalog
from app.cli.program import Failure, open_backend, read_settings
from app.clock import clock
from app.core.json_text import encode
from app.core.outcome import Outcome
from app.core.pipeline import Run, explain, run
from app.core.segment import read
from app.core.segment_body import parse_body
from app.core.text import json_lines, printable
from app.core.transform.examples import to_document
from app.core.transform.transform import DEFAULT, Transform, TransformSet
from app.errors import NotFound, TransformInvalid
from app.store.review import CallFilters, get_call, list_call_ids

_STDIN = "-"
_TIMED_SECONDS = 0.05
_TIMED_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The calls to try, and what to try them with."""

    calls: list[tuple[bytes, Callable[[], Any]]]
    """The bytes of each, and what reads them."""
    received_at: int
    transforms: TransformSet
    source: str
    """Where the transforms are from."""


@click.command("try")
@click.argument("what", metavar="CALL")
@click.option("--transform", "draft", type=click.Path(path_type=Path), metavar="FILE", help="Try this file instead.")
@click.pass_context
def try_(context: click.Context, *, what: str, draft: Path | None) -> None:
    """Run a call through the transforms and show every step; nothing is stored.

    CALL: a JSON file, - for standard input, or the id of a stored call or message. Files are run by the files of
    TRANSFORMS_DIR, stored calls by the transforms that are live. Exit code 1 where a call is rejected.
    """
    given = _read_given(what)
    if draft is not None:
        given = _with_draft(given, draft)
    outcomes = [_try_one(raw, read_it, given, draft) for raw, read_it in given.calls]
    if Outcome.REJECTED in outcomes:
        context.exit(1)


def _try_one(raw: bytes, read_it: Callable[[], Any], given: Given, draft: Path | None) -> Outcome | None:
    done = run(raw, read_it(), given.transforms, given.received_at)
    click.echo(f"by {given.source}")
    for step in explain(done):
        click.echo(f"  {'ok' if step.passed else 'no':<3} {step.name:<10} {printable(step.sentence)}")
    if draft is not None and done.call is not None and done.transform is None:
        click.echo(f"  {draft} does not take this call: see its `match`.")
    for line in _tell_events(done):
        click.echo(line)
    if done.call is not None:
        click.echo(f"\n{_time(raw, read_it, given):.1f} µs to read and map it, the best of many\n")
    return done.outcome


def _tell_events(done: Run) -> Iterator[str]:
    for lane in done.lanes:
        for event in lane.events:
            also = f", lane {lane.name}" if len(done.lanes) > 1 else ""
            yield f"\nevent by {lane.transform}{also}"
            yield from json_lines(encode(to_document(event)))


def _time(raw: bytes, read_it: Callable[[], Any], given: Given) -> float:
    """Return the microseconds of a run; the best one is what it costs, the others were interrupted."""
    best = float("inf")
    until = time.perf_counter() + _TIMED_SECONDS
    for _ in range(_TIMED_MAX):
        began = time.perf_counter()
        run(raw, read_it(), given.transforms, given.received_at)
        ended = time.perf_counter()
        best = min(best, ended - began)
        if ended > until:
            break
    return best * 1_000_000


def _read_given(what: str) -> Given:
    path = Path(what)
    if what != _STDIN and not path.is_file():
        return _read_stored(what)
    try:
        body = sys.stdin.buffer.read() if what == _STDIN else path.read_bytes()
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}") from error
    raws = [raw for raw, _ in parse_body(body)]
    if not raws:
        raise Failure("there is no call in it")
    settings = read_settings()
    files = read_folder(settings.transforms_dir)
    checked = check(files.texts, files.problems, parse=build_catalog(settings.pseudonym_key).parse)
    for problem in checked.problems:
        if problem.name not in checked.transforms:
            click.echo(f"left out: {printable(problem.sentence.splitlines()[0])}", err=True)
    if DEFAULT not in checked.transforms:
        raise TransformInvalid(f"{settings.transforms_dir} has no {DEFAULT}.yaml that can be used")
    return Given(
        calls=[(raw, partial(read, raw)) for raw in raws],
        received_at=clock(),
        transforms=TransformSet(checked.transforms.values()),
        source=f"the files in {settings.transforms_dir}",
    )


def _read_stored(text: str) -> Given:
    backend = open_backend()
    with backend.database.reading() as conn:
        ids = list_call_ids(conn, CallFilters(id=text), limit=1)
        if not ids:
            raise NotFound(f"there is no file {text[:200]!r}, and no call or message with that id")
        whole = get_call(conn, ids[0])
    backend.catalog.refresh(backend.database)
    if whole.raw is None:
        raise NotFound(f"the bytes of call {ids[0]} were removed by retention")
    return Given(
        calls=[(whole.raw, whole.read)],
        received_at=whole.call.received_at,
        transforms=backend.catalog.active,
        source=f"what is live, on call {ids[0]}, which was {whole.call.outcome} when it came",
    )


def _with_draft(given: Given, draft: Path) -> Given:
    """Return the same with a draft alone: what another transform would do first does not hide what it does."""
    catalog: Catalog = build_catalog(read_settings().pseudonym_key)
    name = to_name(draft)
    default: Transform | None = next((one for one in given.transforms.transforms if one.name == DEFAULT), None)
    transform = catalog.parse(name, read_file(draft), None if name == DEFAULT else default)
    return Given(
        calls=given.calls,
        received_at=given.received_at,
        transforms=TransformSet([transform]),
        source=f"{draft} alone",
    )
