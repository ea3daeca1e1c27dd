"""Commands for metric files and published versions: `metrics list`, `check`, `show`, `publish`, `build`, `explain`."""

import secrets
import sys
import time
from pathlib import Path

import click
import msgspec

from app.catalog.check import check_folder
from app.catalog.files import read_folder
from app.catalog.live import build_catalog
from app.catalog.status import FileState
from app.cli.program import CommandGroup, Failure, between_steps, open_backend, problem_text, read_settings
from app.clock import clock
from app.core.json_text import encode
from app.core.text import counted, printable, printable_lines, short, table_lines
from app.core.times import format_time
from app.core.transform.transform import TransformSet
from app.metrics.catalog import (
    MetricFileStatus,
    check_metrics,
    get_metric,
    publish_metric,
    read_live_metrics,
    read_metric_statuses,
)
from app.metrics.definition import MetricType
from app.metrics.documents import to_explanation_document, to_metric_document
from app.metrics.explain import explain_call
from app.metrics.fold import BucketBuilder
from app.metrics.lint import lint_metrics
from app.metrics.parts import is_addable
from app.metrics.progress import find_progress, reset_buckets
from app.settings import Settings
from app.store.ids import Ids
from app.store.review import get_call_ids

_PARTS = 1000
"""Length of a progress bar."""

_EVENTS_PER_STEP = 5000
_WAIT_SECONDS = 0.2
"""Between two checks of the progress, while a service does the work."""


_HINTS = {
    FileState.NEW: "publishes itself when the service runs",
    FileState.DRIFT: "the file differs from what is live",
    FileState.NO_FILE: "live, without a file",
    FileState.BROKEN: "the file is not used",
    FileState.SAME: "",
}


class MetricStatusDocument(msgspec.Struct, kw_only=True):
    """One line of `metrics list --json`."""

    name: str
    state: str
    live: str | None
    """The digest of the live version."""
    published_at: str | None
    description: str | None
    problem: str | None


@click.group(cls=CommandGroup)
def metrics() -> None:
    """List, check, publish, build and explain metrics."""


@metrics.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def list_(*, as_json: bool) -> None:
    """List all metrics: which version is live, how its file compares with it, and what it counts."""
    backend = open_backend()
    with backend.database.reading() as conn:
        statuses = read_metric_statuses(conn, read_folder(read_settings().metrics_dir)).statuses
    if as_json:
        for status in statuses:
            click.echo(encode(_to_document(status)).decode())
        return
    lines = [("NAME", "STATE", "LIVE", "WHAT")] + [_to_columns(status) for status in statuses]
    click.echo("\n".join(table_lines(lines)))
    for status in statuses:
        if status.problem:
            click.echo(f"\n{printable_lines(status.problem)}")


@metrics.command()
@click.argument("folder", required=False, metavar="[DIR]", type=click.Path(path_type=Path))
@click.pass_context
def check(context: click.Context, folder: Path | None) -> None:
    """Check all metric files of a folder, by default METRICS_DIR; needs no database.

    Exit code 1 if a file cannot be published. Suspicious definitions give hints, also for event names that no transform
    in TRANSFORMS_DIR makes.
    """
    settings = read_settings()
    folder = folder or settings.metrics_dir
    if not folder.is_dir():
        raise Failure(f"there is no folder {folder}")
    checked = check_metrics(read_folder(folder))
    for name, problem in sorted(checked.problems.items()):
        click.echo(problem_text(name, problem, folder, blocking=True))
    hints = list(lint_metrics(checked.metrics.values(), _read_transforms(settings)))
    for name, finding in hints:
        click.echo(problem_text(name, finding.message, folder, blocking=False))
    total = counted(len(checked.metrics) + len(checked.problems), "metric")
    if checked.problems:
        click.echo(f"\n{total}: {counted(len(checked.problems), 'file')} cannot be published.")
        context.exit(1)
    click.echo(f"{total}: " + (f"can be published, with {counted(len(hints), 'hint')}." if hints else "all is well."))


def _read_transforms(settings: Settings) -> TransformSet | None:
    if not settings.transforms_dir.is_dir():
        return None
    checked = check_folder(settings.transforms_dir, build_catalog(settings.pseudonym_key).parse)
    return TransformSet(checked.transforms.values())


@metrics.command()
@click.argument("name")
@click.option("--version", metavar="DIGEST", help="An earlier version: the first digits of its digest.")
@click.option("--json", "as_json", is_flag=True, help="As in the JSON API.")
def show(*, name: str, version: str | None, as_json: bool) -> None:
    """Show the live version of a metric, or an earlier one."""
    with open_backend().database.reading() as conn:
        metric = get_metric(conn, name, version)
    if as_json:
        click.echo(encode(to_metric_document(metric)).decode())
        return
    click.echo(f"{metric.name} at version {metric.digest.hex()}", err=True)
    click.echo(metric.text, nl=not metric.text.endswith("\n"))


@metrics.command()
@click.argument("name")
def publish(*, name: str) -> None:
    """Publish the file of a metric. If the file was deleted, take the metric out."""
    backend = open_backend()
    folder = read_settings().metrics_dir
    metric = publish_metric(backend.database, folder, name, Ids(secrets.randbelow).next, clock)
    click.echo(f"{name} is live at version {short(metric.digest)}." if metric else f"{name} is taken out.")


@metrics.command()
@click.argument("name", required=False)
@click.option("--anew", is_flag=True, help="Discard the pre-aggregated numbers and begin again.")
def build(*, name: str | None, anew: bool) -> None:
    """Pre-aggregate the events of a metric, by default of all metrics, so that answers are fast.

    A running service does this by itself; this command shows the progress, and does the work if no service runs. It
    can be stopped at any time. Until it has finished, answers are computed from raw events.
    """
    database = open_backend().database
    with database.reading() as conn:
        live = read_live_metrics(conn)
        targets = [get_metric(conn, name)] if name else list(live.values())
    addable = [metric for metric in targets if is_addable(metric)]
    for metric in targets:
        if metric not in addable:
            what = metric.aggregation if metric.metric_type is MetricType.COUNTER else metric.metric_type
            click.echo(f"{metric.name} is always computed from raw events: {what} cannot be pre-aggregated.")
    if anew:
        reset_buckets(database, addable)
    builder = BucketBuilder(database, secrets.randbelow(1 << 62), clock)
    with between_steps() as stop_here:
        for metric in addable:
            with click.progressbar(length=_PARTS, label=metric.name, file=sys.stderr) as bar:
                while (share := find_progress(database, metric)) < 1:
                    bar.update(int(share * _PARTS) - bar.pos)
                    stop_here()
                    if not (builder.is_free() and builder.step(_EVENTS_PER_STEP)):
                        time.sleep(_WAIT_SECONDS)
                bar.update(_PARTS - bar.pos)


@metrics.command()
@click.argument("call_id", metavar="CALL")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def explain(*, call_id: str, as_json: bool) -> None:
    """Show which metrics counted the events of a call, with what value, and which did not and why.

    CALL: the id of the call, of its message, or the idempotency id of its event; all calls that have it are shown.
    """
    with open_backend().database.reading() as conn:
        ids = get_call_ids(conn, call_id, limit=100)
        live = read_live_metrics(conn).values()
        explanations = [explanation for id_ in reversed(ids) for explanation in explain_call(conn, live, id_, clock())]
    for explanation in explanations:
        if as_json:
            click.echo(encode(to_explanation_document(explanation)).decode())
        else:
            value = f" {explanation.value}" if explanation.value is not None else ""
            why = f": {explanation.why}" if explanation.why else ""
            line = (
                f"{explanation.metric.name:<24} {explanation.verdict}{value}{why}  ({explanation.event.idempotency_id})"
            )
            click.echo(printable(line))
    if not explanations and not as_json:
        click.echo("No metric looks at the events of this call.", err=True)


def _to_columns(status: MetricFileStatus) -> tuple[str, str, str, str]:
    live = short(status.live.digest) if status.live else "-"
    metric = status.live or status.file
    description = metric.description if metric else ""
    hint = f" ({_HINTS[status.state]})" if _HINTS[status.state] else ""
    return status.name, status.state.value, live, f"{description}{hint}"


def _to_document(status: MetricFileStatus) -> MetricStatusDocument:
    metric = status.live or status.file
    return MetricStatusDocument(
        name=status.name,
        state=status.state.value,
        live=status.live.digest.hex() if status.live else None,
        published_at=format_time(status.publication.published_at) if status.publication and status.live else None,
        description=metric.description if metric else None,
        problem=status.problem,
    )
