"""Shows what a draft would change for stored calls: `preview`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from app.catalog.files import read_file, to_name
from app.cli.program import open_backend
from app.clock import clock
from app.core.json_text import encode
from app.core.outcome import Outcome
from app.core.text import counted, printable, short
from app.store.ids import first_id_at
from app.store.kept import ReplayScope, count_ids
from app.store.query import parse_call_filters
from app.store.review import newest_call_id
from app.transforms.preview import OTHERS, Preview, Report, Sample, compare_newest, read_draft

_LAST = 1000
_VALUE_CHARS = 200


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--last", type=click.IntRange(1), help=f"Only the newest N calls.  [default: {_LAST}, all with --since]")
@click.option("--since", metavar="WHEN", help="Only calls since a time, or in a duration: 30m, 1h, 7d.")
@click.option("--outcome", help="Only calls with this outcome, or with several, separated by commas.")
@click.option("--event", help="Only calls of this Segment event.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def preview(
    *, file: Path, last: int | None, since: str | None, outcome: str | None, event: str | None, as_json: bool
) -> None:
    """Run a draft on stored calls, beside the live version of the same name, and show the differences.

    FILE is transforms/<name>.yaml, or <name>.draft.yaml. Nothing is written.
    """
    name, text = to_name(file), read_file(file)
    options = {key: value for key, value in {"since": since, "outcome": outcome, "event": event}.items() if value}
    filters = parse_call_filters(options, clock())
    limit = last or (None if since else _LAST)
    backend = open_backend()
    backend.catalog.refresh(backend.database)
    with backend.database.reading() as conn:
        draft, with_draft = read_draft(name, text, backend.catalog)
        scope = ReplayScope(outcomes=filters.outcomes or tuple(Outcome), event=filters.event)
        total = count_ids(conn, scope, first_id_at(filters.since or 0) - 1, newest_call_id(conn))
    compared = Preview(backend.catalog.active, draft, with_draft)
    with click.progressbar(length=min(total, limit or total), label="Comparing", file=sys.stderr) as bar:
        report = compare_newest(backend.database, compared, filters, limit, bar.update)
    click.echo(encode(report).decode() if as_json else "\n".join(_report_lines(report)))


def _report_lines(report: Report) -> Iterator[str]:
    live = f"live version {short(report.active_digest)}" if report.active_digest else "no live version"
    yield f"{report.transform}: the draft beside {live}"
    removed = f", {report.removed} without a body" if report.removed else ""
    concern = "concerns" if report.concerned == 1 else "concern"
    yield f"{counted(report.calls, 'call')} read{removed}; {report.concerned} {concern} this transform"
    yield ""
    groups = (
        ("newly failing", report.newly_failing),
        ("newly mapped", report.newly_mapped),
        ("no longer mapped", report.no_longer_mapped),
        ("no event, otherwise", report.otherwise),
    )
    counts = [("same", report.same), ("changed", report.changed)]
    counts += [(title, sum(sample.count for sample in samples)) for title, samples in groups]
    yield from (f"  {title:<20}{count:>9}" for title, count in counts)
    if report.changes:
        yield from ("", "changed, by path")
        for sample in report.changes:
            yield from _change_lines(sample)
    for title, samples in groups:
        if samples:
            yield from ("", title)
            for sample in samples:
                yield from _sample_lines(sample)
    if report.null_rates:
        yield from ("", f"{'null or missing':<44}{'live':>8}{'draft':>8}")
        for rate in report.null_rates:
            mark = "  <" if rate.active != rate.draft and None not in {rate.active, rate.draft} else ""
            yield printable(f"  {rate.path:<42}{_percent_text(rate.active):>8}{_percent_text(rate.draft):>8}{mark}")


def _change_lines(sample: Sample) -> Iterator[str]:
    yield printable(f"  {sample.count:>7}  {sample.kind}" + _such_as(sample))
    if sample.kind != OTHERS:
        yield click.style(printable(f"           - {_value_text(sample.before)}"), fg="red")
        yield click.style(printable(f"           + {_value_text(sample.after)}"), fg="green")


def _sample_lines(sample: Sample) -> Iterator[str]:
    yield printable(f"  {sample.count:>7}  {sample.kind}" + _such_as(sample))
    if sample.detail:
        yield printable(f"           {sample.detail}")
    if sample.after is not None:
        yield click.style(printable(f"           + {_value_text(sample.after)}"), fg="green")


def _such_as(sample: Sample) -> str:
    return f" (such as call {sample.call_id})"


def _value_text(value: Any) -> str:
    text = encode(value).decode()
    return text if len(text) <= _VALUE_CHARS else text[:_VALUE_CHARS] + "\N{HORIZONTAL ELLIPSIS}"


def _percent_text(rate: float | None) -> str:
    return "-" if rate is None else f"{rate * 100:.1f} %"
