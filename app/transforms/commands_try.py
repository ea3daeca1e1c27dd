"""Runs one call through the pipeline and stores nothing: `try`."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from app.catalog.check import check_folder
from app.catalog.files import read_file, to_name
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
class TrialInput:
    """The calls to try, and what to try them with."""

    calls: list[tuple[bytes, Callable[[], Any]]]
    """The bytes of each, and the function that parses them."""
    received_at: int
    transforms: TransformSet
    source: str
    """Where the transforms come from, for people."""


@click.command("try")
@click.argument("what", metavar="CALL")
@click.option(
    "--transform", "draft", type=click.Path(path_type=Path), metavar="FILE", help="Use only this transform file."
)
@click.pass_context
def try_(context: click.Context, *, what: str, draft: Path | None) -> None:
    """Run a call through the transforms and show every step. Nothing is stored.

    CALL is a JSON file, - for standard input, or the id of a stored call or message. A file is mapped by the files in
    TRANSFORMS_DIR, a stored call by the live transforms. The exit code is 1 if a call is rejected.
    """
    trial = _read_input(what)
    if draft is not None:
        trial = _with_draft(trial, draft)
    outcomes = [_try_call(raw, read_document, trial, draft) for raw, read_document in trial.calls]
    if Outcome.REJECTED in outcomes:
        context.exit(1)


def _try_call(raw: bytes, read_document: Callable[[], Any], trial: TrialInput, draft: Path | None) -> Outcome | None:
    result = run(raw, read_document(), trial.transforms, trial.received_at)
    click.echo(f"by {trial.source}")
    for step in explain(result):
        click.echo(f"  {'ok' if step.passed else 'no':<3} {step.name:<10} {printable(step.sentence)}")
    if draft is not None and result.call is not None and result.transform is None:
        click.echo(f"  {draft} does not match this call: see its `match`.")
    for line in _event_lines(result):
        click.echo(line)
    if result.call is not None:
        click.echo(f"\n{_time(raw, read_document, trial):.1f} µs to read and map it, the best of many\n")
    return result.outcome


def _event_lines(result: Run) -> Iterator[str]:
    for lane in result.lanes:
        for event in lane.events:
            also = f", lane {lane.name}" if len(result.lanes) > 1 else ""
            yield f"\nevent by {lane.transform}{also}"
            yield from json_lines(encode(to_document(event)))


def _time(raw: bytes, read_document: Callable[[], Any], trial: TrialInput) -> float:
    """Return the microseconds of the fastest of many runs; slower ones were interrupted by something else."""
    best = float("inf")
    until = time.perf_counter() + _TIMED_SECONDS
    for _ in range(_TIMED_MAX):
        began = time.perf_counter()
        run(raw, read_document(), trial.transforms, trial.received_at)
        ended = time.perf_counter()
        best = min(best, ended - began)
        if ended > until:
            break
    return best * 1_000_000


def _read_input(what: str) -> TrialInput:
    path = Path(what)
    if what != _STDIN and not path.is_file():
        return _read_stored(what)
    try:
        body = sys.stdin.buffer.read() if what == _STDIN else path.read_bytes()
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}") from error
    raws = [raw for raw, _ in parse_body(body)]
    if not raws:
        raise Failure(f"{'standard input' if what == _STDIN else path} holds no call")
    settings = read_settings()
    checked = check_folder(settings.transforms_dir, build_catalog(settings.pseudonym_key).parse)
    for problem in checked.problems:
        if problem.name not in checked.transforms:
            click.echo(f"left out: {printable(problem.sentence.splitlines()[0])}", err=True)
    if DEFAULT not in checked.transforms:
        raise TransformInvalid(f"{settings.transforms_dir} has no {DEFAULT}.yaml that can be used")
    return TrialInput(
        calls=[(raw, partial(read, raw)) for raw in raws],
        received_at=clock(),
        transforms=TransformSet(checked.transforms.values()),
        source=f"the files in {settings.transforms_dir}",
    )


def _read_stored(text: str) -> TrialInput:
    backend = open_backend()
    with backend.database.reading() as conn:
        ids = list_call_ids(conn, CallFilters(id=text), limit=1)
        if not ids:
            raise NotFound(f"there is no file {text[:200]!r}, and no call or message with that id")
        whole = get_call(conn, ids[0])
    backend.catalog.refresh(backend.database)
    if whole.raw is None:
        raise NotFound(f"the bytes of call {ids[0]} were removed by retention")
    return TrialInput(
        calls=[(whole.raw, whole.read)],
        received_at=whole.call.received_at,
        transforms=backend.catalog.active,
        source=f"the live transforms, on call {ids[0]}, which was {whole.call.outcome} when it came",
    )


def _with_draft(trial: TrialInput, draft: Path) -> TrialInput:
    """Return the input with the draft as its only transform, so that no other one can take the call first."""
    catalog: Catalog = build_catalog(read_settings().pseudonym_key)
    name = to_name(draft)
    default: Transform | None = next((each for each in trial.transforms.transforms if each.name == DEFAULT), None)
    transform = catalog.parse(name, read_file(draft), None if name == DEFAULT else default)
    return TrialInput(
        calls=trial.calls,
        received_at=trial.received_at,
        transforms=TransformSet([transform]),
        source=f"{draft} alone",
    )
