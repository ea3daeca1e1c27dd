"""Forwarding: a full outbox to a stand-in on this machine, and what an outbox costs ingest.

python benchmarks/forward.py                               all of it, on SQLite
python benchmarks/forward.py --only wire --postgresql      the real service over HTTP, forwarding on beside off
python benchmarks/forward.py --only outbox,waiting --events 20000 --waiting 1000000
"""

import argparse
import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import sqlalchemy as sa
import wrk
from databases import Source, folder_on_disk, fsync_ms, postgresql
from report import Row, ratio_row, to_markdown
from servers import ROOT
from wire import Wire

from app.clock import clock
from app.core.times import format_time
from app.forward.lotus import Lotus
from app.forward.sql_deliveries import find_next_due
from app.forward.worker import ForwardWorker
from app.service.build import event_hooks
from app.store.commit import Committer
from app.store.engine import Database, connect
from app.store.ids import Ids
from app.store.schema import deliveries
from app.store.writer import Writer
from tests.builders import IDS, a_record, a_request, an_event, know_no_version, watch_nothing

PARTS = ("outbox", "commits", "waiting", "wire")

_COMMIT = 16
_ROUNDS = 5
_KEY = "bench"


def store(database: Database, count: int, name: str, *, forwards: bool, commit: int = _COMMIT) -> float:
    """Store events in commits of `commit`, as ingest does; return events per second."""
    writer = Writer(Committer(database, IDS, know_no_version, event_hooks(IDS, forwards=forwards)), watch_nothing)
    now = clock()
    made = (
        an_event(
            idempotency_id=f"{name}-{one}", time_created=format_time(now), properties={"n": one, "text": "x" * 200}
        )
        for one in range(count)
    )
    records = [a_record(event, raw=b"x" * 1000) for event in made]
    for record in records:
        record.id, record.received_at = IDS.next(now), now
    took = 0.0
    for start in range(0, count, commit):
        request = a_request(*records[start : start + commit])
        began = time.perf_counter()
        writer.append(request)
        took += time.perf_counter() - began
    return count / took


@contextlib.contextmanager
def fake_lotus() -> Iterator[str]:
    """Run the stand-in as a process of its own; give its address."""
    command = [sys.executable, "-m", "app.service", "fake-lotus", "--port", "0", "--key", _KEY]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip().partition("=")[2]
    finally:
        process.kill()
        process.wait()


def forward(database: Database, address: str, count: int) -> float:
    """Send everything that waits; return events per second."""
    lotus = Lotus(address, _KEY)
    worker = ForwardWorker(database=database, ids=Ids(random.randrange), lotus=lotus, clock=clock, draw=random.random)
    began = time.perf_counter()
    while True:
        if worker.step():
            with database.reading() as conn:
                if find_next_due(conn) is None:
                    break
    took = time.perf_counter() - began
    lotus.close()
    with database.reading() as conn:
        query = sa.select(sa.func.count()).select_from(deliveries).where(deliveries.c.state == "delivered")
        assert conn.execute(query).scalar_one() >= count
    return count / took


def fill(database: Database, count: int) -> None:
    """Put rows into the outbox that wait, without events: what an insert meets."""
    for start in range(0, count, 50_000):
        rows = [
            {"event_id": 1_000_000 + one, "state": "waiting", "due_at": 1_000_000 + one, "tries": 0}
            for one in range(start, min(count, start + 50_000))
        ]
        with database.writing() as conn:
            conn.execute(sa.insert(deliveries), rows)


def measure_outbox(source: Source, events: int) -> list[Row]:
    """Empty a full outbox."""
    database = connect(source.fresh())
    with fake_lotus() as address:
        rates = []
        for number in range(3):
            store(database, events, f"out-{number}", forwards=True, commit=500)
            rates.append(forward(database, address, events))
    database.close()
    return [
        Row(
            f"{source.title}: a full outbox, one worker",
            f"{median(rates):,.0f}/s",
            reach="2,000/s",
            verdict="reached" if median(rates) >= 2000 else "MISSED",
        )
    ]


def measure_commits(source: Source, events: int) -> list[Row]:
    """Commit as ingest does, with an outbox and without."""
    count = events // 4
    with contextlib.closing(connect(source.fresh())) as database:
        store(database, count, "warm", forwards=True)
        pairs = []
        for one in range(_ROUNDS):
            # In turns, and each first as often: the machine is not the same from second to second.
            kinds = (True, False) if one % 2 else (False, True)
            rate = {kind: store(database, count, f"{kind}-{one}", forwards=kind) for kind in kinds}
            pairs.append((rate[True], rate[False]))
        ours, bare = zip(*pairs, strict=True)
    return [ratio_row(f"{source.title}: commits with an outbox, no HTTP", ours, bare, (0.85, 0.95))]


def measure_waiting(source: Source, events: int, waiting: int) -> list[Row]:
    """Commit beside an outbox that is full of others."""
    count = events // 4
    with contextlib.closing(connect(source.fresh())) as empty, contextlib.closing(connect(source.fresh())) as full:
        fill(full, waiting)
        store(full, count, "warm", forwards=True)
        store(empty, count, "warm", forwards=True)
        pairs = []
        for one in range(_ROUNDS):
            order = (full, empty) if one % 2 else (empty, full)
            rate_of = {each: store(each, count, f"{one}", forwards=True) for each in order}
            pairs.append((rate_of[full], rate_of[empty]))
    what = f"{source.title}: commits with {waiting:,} rows waiting, no HTTP"
    ours, bare = zip(*pairs, strict=True)
    return [ratio_row(what, ours, bare, (0.9, 0.98))]


def measure_wire(source: Source, folder: Path, workers: int, rounds: int, seconds: int) -> list[Row]:
    """Send calls to the real service, with forwarding on and off."""
    what = f"{source.title}: over HTTP"
    if not wrk.is_installed():
        print(wrk.HINT)
        return [Row(what, "not run: install wrk")]
    print(f"\n{what}", flush=True)
    with fake_lotus() as address:
        return Wire(folder, source, address, _KEY, workers=workers).run(rounds, seconds)


def main() -> None:
    """Measure what was asked for, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="PARTS", default=",".join(PARTS), help=f"comma-separated: {', '.join(PARTS)}")
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--waiting", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2, help="processes of the service, over HTTP (2)")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="pairs of measurements, over HTTP (5)")
    parser.add_argument("--seconds", type=int, default=3, help="how long each of them takes (3)")
    parser.add_argument("--postgresql", action="store_true", help="Measure that too.")
    parser.add_argument("--folder", type=Path, default=ROOT / "var", help="where databases are put for a while (var)")
    asked = parser.parse_args()
    parts = asked.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only takes {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")

    def measure(source: Source, place: Path) -> list[Row]:
        rows = measure_outbox(source, asked.events) if "outbox" in parts else []
        rows += measure_commits(source, asked.events) if "commits" in parts else []
        rows += measure_waiting(source, asked.events, asked.waiting) if "waiting" in parts else []
        rows += measure_wire(source, place, asked.workers, asked.rounds, asked.seconds) if "wire" in parts else []
        return rows

    with folder_on_disk(asked.folder.absolute()) as folder:
        print(f"fsync: {fsync_ms(folder):.2f} ms")
        rows = measure(Source("sqlite", folder), folder)
        if asked.postgresql:
            with postgresql(folder) as source:
                rows += measure(source, folder)
    print(f"\n{to_markdown(rows)}")


if __name__ == "__main__":
    main()
