"""How fast a file of calls is loaded: alone, beside the batches of 1000 of the same minutes; and beside live calls.

    PYTHONPATH=. python benchmarks/backfill.py [--calls 100000] [--seconds 20] [--only sqlite] [--folder var/bench]

`alone`: `segment-lotus backfill` on a fresh database, in turn with the batches of `benchmarks/ingest.py` through two
workers; the goal is 0.8 of them. Told are the loading, and the whole command with its check and its start. `beside`:
200 calls a second, one a request, go to the service at fixed moments, first without and then with a backfill; their
p99 counts from those moments.
"""

import argparse
import http.client
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import databases
import servers
import sqlalchemy as sa
from batches import Batches
from calls import Body, make_body, make_call, send
from report import Row, below_row, ratio_row, to_markdown

from app.store.engine import connect

LIVE_PER_SECOND = 200
_SENDERS = 16
_GOAL = 0.8
_P99_MS = 100
_OWN_PER_SECOND = 1000


def load(url: str, file: Path, folder: Path) -> "subprocess.Popen[bytes]":
    """Start the command on a file."""
    environment = {**os.environ, "DATABASE_URL": url, "PYTHONPATH": str(servers.ROOT)}
    command = [sys.executable, "-m", "app.service", "backfill", str(file), "--reason", "benchmark", "--yes"]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def publish(url: str, folder: Path) -> None:
    """Make the transforms of this checkout live, as the first start of the service does."""
    with servers.ours(folder, url, 1, name="publish"):
        pass


def loading_seconds(url: str) -> float:
    """Return how long the only batch took, without its check."""
    database = connect(url)
    with database.reading() as conn:
        row = conn.execute(sa.text("SELECT started_at, finished_at, counts FROM corrections")).one()
    database.close()
    return float(row.finished_at - row.started_at) / 1e6


def measure_alone(place: Path, source: databases.Source, file: Path, calls: int, rounds: int) -> list[Row]:
    """Load the file into fresh databases, in turn with batches through the service."""
    ingested: list[float] = []
    loaded: list[float] = []
    whole: list[float] = []
    batches = Batches(place, source, "node", workers=(2,), flags=())
    for _ in range(rounds):
        ingested.append(batches.drive_fresh(2, 20))
        url = source.fresh()
        publish(url, place)
        began = time.perf_counter()
        if code := load(url, file, place).wait():
            raise SystemExit(f"the backfill ended with {code}")
        whole.append(calls / (time.perf_counter() - began))
        loaded.append(calls / loading_seconds(url))
        print(f"  loading {loaded[-1]:>8,.0f} calls/s, the whole command {whole[-1]:>8,.0f}", flush=True)
    what = f"backfill, {source.title}: batches of 1000, 2 workers"
    return [
        ratio_row(f"loading, {what}", loaded, ingested, (_GOAL, 1.0)),
        ratio_row(f"whole command, {what}", whole, ingested, (_GOAL, 1.0)),
    ]


class Live:
    """Calls that are sent at fixed moments, whatever became of those before."""

    def __init__(self, port: int, bodies: Sequence[Body]) -> None:
        self._port = port
        self._bodies = iter(enumerate(bodies))
        self._taking = threading.Lock()
        self._began = time.perf_counter()
        self.seconds: list[float] = []

    def run(self) -> list[float]:
        """Send all; return how many seconds each took, from the moment at which it was due."""
        self._began = time.perf_counter() + 0.1
        threads = [threading.Thread(target=self._send) for _ in range(_SENDERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(self.seconds)

    def _send(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while True:
            with self._taking:
                number, body = next(self._bodies, (0, None))
            if body is None:
                return
            due = self._began + number / LIVE_PER_SECOND
            time.sleep(max(0.0, due - time.perf_counter()))
            send(connection, body)
            self.seconds.append(time.perf_counter() - due)


def measure_beside(place: Path, source: databases.Source, file: Path, seconds: int) -> list[Row]:
    """Send live calls without and with a backfill."""
    url = source.fresh()
    bodies = [make_body(1, "node") for _ in range(LIVE_PER_SECOND * seconds)]
    with servers.ours(place, url, 2, name="live") as server:
        counter = databases.Counter(url)
        quiet = Live(server.port, bodies).run()
        counter.added()
        process = load(url, file, place)
        while not counter.added()[0]:
            if process.poll() is not None:
                raise SystemExit("the backfill ended early")
            time.sleep(0.05)
        began = time.perf_counter()
        beside = Live(server.port, [make_body(1, "node") for _ in bodies]).run()
        took = time.perf_counter() - began
        process.kill()
        process.wait()
        own = (counter.added()[0] - len(beside)) / took
        counter.close()
    print(f"  p99 {_p99(quiet):.0f} ms without, {_p99(beside):.0f} ms beside {own:,.0f} calls/s", flush=True)
    what = f"p99 of {LIVE_PER_SECOND} live calls/s beside a backfill, {source.title}"
    alone = f" (without {_p99(quiet):.0f}; worst {beside[-1] * 1000:.0f})"
    return [
        below_row(what, _p99(beside), "ms", (_P99_MS, None), alone),
        ratio_row(f"calls/s of the backfill meanwhile, {source.title}", [own], [_OWN_PER_SECOND], (1.0, 5.0)),
    ]


def _p99(seconds: Sequence[float]) -> float:
    return seconds[int(len(seconds) * 0.99)] * 1000


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    parser.add_argument("--part", choices=("alone", "beside"))
    parser.add_argument("--folder", type=Path, default=servers.ROOT / "var" / "bench")
    options = parser.parse_args()
    rows: list[Row] = []
    with databases.folder_on_disk(options.folder.absolute()) as folder:
        print(
            f"{os.cpu_count()} processors, of which {os.getloadavg()[0]:.1f} were busy in the last minute", flush=True
        )
        file, long = folder / "calls.ndjson", folder / "long.ndjson"
        _write(file, options.calls)
        _write(long, max(options.calls, 20_000 * options.seconds))
        for kind in (options.only,) if options.only else ("sqlite", "postgresql"):
            place = folder / kind
            place.mkdir()
            print(f"\n{kind}", flush=True)
            if kind == "sqlite":
                rows += _measure(place, databases.Source("sqlite", place), options, file, long)
            else:
                with databases.postgresql(place) as source:
                    rows += _measure(place, source, options, file, long)
    print(f"\n{to_markdown(rows)}")


def _measure(place: Path, source: databases.Source, options: argparse.Namespace, file: Path, long: Path) -> list[Row]:
    rows: list[Row] = []
    if options.part != "beside":
        rows += measure_alone(place, source, file, options.calls, options.rounds)
    if options.part != "alone":
        rows += measure_beside(place, source, long, options.seconds)
    return rows


def _write(file: Path, calls: int) -> None:
    with file.open("w", encoding="utf-8") as output:
        output.writelines(make_call(number, "node") + "\n" for number in range(calls))


if __name__ == "__main__":
    main()
