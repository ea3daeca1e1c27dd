"""How fast events are made void and amended, and an undo of that, with five live metrics and without.

    PYTHONPATH=. python benchmarks/corrections.py [--events 100000] [--folder var/bench] [--only sqlite]

The events are those of a month of stored calls (metrics_seed.py), folded before the clock runs; each row corrects all
of one event name. The preview, in which the effect is counted, is a row of its own.
"""

import argparse
import secrets
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from databases import Source, folder_on_disk, postgresql
from metrics_seed import seed

from app.cli.program import tune_garbage_collection
from app.clock import clock
from app.corrections.amendment import Amendment, parse_amendment
from app.corrections.corrector import make_corrector
from app.corrections.documents import to_tally
from app.corrections.selection import parse_selection
from app.metrics.fold import BucketBuilder
from app.service.build import correction_hooks
from app.store.corrections import Attribution
from app.store.engine import Database, connect
from metrics import METRICS, publish

REACH = 5_000

_NAME = "use"


def fold(database: Database) -> None:
    """Empty the tail, as the service does."""
    builder = BucketBuilder(database, secrets.randbelow(1 << 12), clock)
    while builder.step():
        pass


def bench(source: Source, events: int) -> None:
    """Measure one kind of database."""
    for metrics in ({}, METRICS):
        url = source.fresh()
        seed(url, events)
        database = connect(url, bulk=True)
        publish(database, metrics)
        fold(database)
        title = f"{source.title}, {len(metrics)} metrics"
        _correct(database, title, None)
        _correct(database, title, parse_amendment({"properties.amount": 3}, ()))
        database.close()


def _correct(database: Database, title: str, amendment: Amendment | None) -> None:
    what = "void" if amendment is None else "amend"
    corrector = make_corrector(database, correction_hooks)
    selection = parse_selection({"event_name": _NAME}, clock())
    began = time.perf_counter()
    preview = corrector.preview(selection, amendment)
    _print(title, f"{what}: count", preview.tally.events, began)
    began = time.perf_counter()
    correction = corrector.run(corrector.begin(preview, Attribution(author="bench", reason="internal")))
    assert to_tally(correction).events == preview.tally.events
    _print(title, what, preview.tally.events, began)
    began = time.perf_counter()
    undo = corrector.run(corrector.begin_undo(correction.id, "bench", "not internal"))
    assert to_tally(undo).revived == preview.tally.events
    _print(title, f"{what}: undo", preview.tally.events, began)


def _print(title: str, what: str, events: int, began: float) -> None:
    speed = events / (time.perf_counter() - began)
    verdict = "" if speed >= REACH else f"  BELOW {REACH:,}/s"
    print(f"{title:<26}{what:<14}{speed:>12,.0f} events/s{verdict}", flush=True)


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=Path("var/bench"))
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    options = parser.parse_args(words)
    tune_garbage_collection()
    with ExitStack() as stack:
        folder = stack.enter_context(folder_on_disk(options.folder))
        if options.only != "postgresql":
            bench(Source("sqlite", folder), options.events)
        if options.only != "sqlite":
            bench(stack.enter_context(postgresql(folder)), options.events)


if __name__ == "__main__":
    main()
