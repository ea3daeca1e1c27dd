"""Ingest with forwarding on beside the same without: the real service over HTTP, and the stand-in for Lotus."""

import contextlib
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import databases
import servers
import wrk
from report import Row, ratio_row, workers_text

from app.forward.sql_deliveries import find_next_due
from app.store.engine import Database

_LIMITS = (0.85, 0.95)
_CONNECTIONS = 32
_EMPTY_SECONDS = 120.0


class Wire:
    """Two services that differ in nothing but LOTUS_API_KEY, and what was measured of each."""

    def __init__(self, folder: Path, source: databases.Source, address: str, key: str, *, workers: int) -> None:
        """`address`, `key`: of the stand-in."""
        self._folder = folder
        self._source = source
        self._forwards = {"LOTUS_HOST": address, "LOTUS_API_KEY": key}
        self._workers = workers
        self._running: dict[str, servers.Server] = {}
        self._counters: dict[str, databases.Counter] = {}
        self._measured: defaultdict[str, list[float]] = defaultdict(list)
        self._micros: defaultdict[str, list[float]] = defaultdict(list)

    def run(self, rounds: int, seconds: int) -> list[Row]:
        """Measure in pairs, first with events that only queue up, then with a worker that sends them meanwhile."""
        what = f"single, {self._source.title}, {workers_text(self._workers)}, {_CONNECTIONS} connections: forwarding on"
        with contextlib.ExitStack() as stack:
            urls = {name: self._start(stack, name) for name in ("off", "on")}
            for name in urls:
                self._drive(name, 1, aloud=False)
            self._pairs(rounds, seconds)
            rows = [self._row(f"{what}, no worker")]
            with self._worker(urls["on"]):
                self._pairs(rounds, seconds, sent=self._counters["on"].database)
            rows.append(self._row(f"{what}, a worker and the stand-in beside it"))
        return rows

    def _start(self, stack: contextlib.ExitStack, name: str) -> str:
        url = self._source.fresh()
        settings = self._forwards if name == "on" else {}
        server = servers.ours(self._folder, url, self._workers, name=f"forwarding-{name}", **settings)
        self._running[name] = stack.enter_context(server)
        self._counters[name] = databases.Counter(url)
        stack.callback(self._counters[name].close)
        return url

    def _pairs(self, rounds: int, seconds: int, sent: Database | None = None) -> None:
        """Measure each side once a round. `sent`: before each turn, wait until nothing of the last one is left."""
        self._measured.clear()
        self._micros.clear()
        for turn in range(rounds):
            # Each first as often: the machine is not the same from second to second.
            for name in ("on", "off") if turn % 2 else ("off", "on"):
                if sent is not None:
                    _wait_until_empty(sent)
                self._drive(name, seconds)

    def _drive(self, name: str, seconds: int, *, aloud: bool = True) -> None:
        server = self._running[name]
        computed = server.cpu_seconds()
        result = wrk.drive(server, _CONNECTIONS, seconds, "node")
        micros = (server.cpu_seconds() - computed) / result.good * 1e6
        self._counters[name].check(result.good, _CONNECTIONS)
        self._measured[name].append(result.per_second)
        self._micros[name].append(micros)
        if aloud:
            speed = (
                f"{result.per_second:>8,.0f}/s   p99 {result.p99_ms:>5.1f} ms   {micros:>4.0f} us of processor a call"
            )
            print(f"  forwarding {name:<4} {speed}", flush=True)

    def _row(self, what: str) -> Row:
        return ratio_row(what, self._measured["on"], self._measured["off"], _LIMITS)

    @contextlib.contextmanager
    def _worker(self, url: str) -> Iterator[None]:
        environ = {**os.environ, **self._forwards, "PYTHONPATH": str(servers.ROOT), "DATABASE_URL": url}
        command = [sys.executable, "-m", "app.service", "worker"]
        with (self._folder / "worker.log").open("wb") as log:
            process = subprocess.Popen(command, cwd=self._folder, env=environ, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def _wait_until_empty(database: Database) -> None:
    until = time.monotonic() + _EMPTY_SECONDS
    while time.monotonic() < until:
        with database.reading() as conn:
            if find_next_due(conn) is None:
                return
        time.sleep(0.05)
    raise SystemExit("the worker did not empty the outbox")
