"""Batches of 1000 calls: the service against the bare driver that inserts the very rows which the service stored."""

import http.client
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import bare_inserts
import databases
import servers
from calls import Body, make_body, send
from report import Row, ratio_row, workers_text

CALLS = 1000
_CONNECTIONS = 4
_WARM_UP = 4


def drive(server: servers.Server, bodies: Sequence[Body], connections: int) -> float:
    """Send the bodies over so many connections; return how many seconds that took."""
    waiting = iter(bodies)
    taking = threading.Lock()
    failed: list[BaseException] = []

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        try:
            while not failed:
                with taking:
                    body = next(waiting, None)
                if body is None:
                    return
                send(connection, body)
        except BaseException as error:  # noqa: BLE001  the main thread raises it
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(connections)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    if failed:
        raise failed[0]
    return seconds


class Batches:
    """What was measured of batches on one kind of database."""

    def __init__(
        self, folder: Path, source: databases.Source, ids: str, *, workers: Sequence[int], flags: Sequence[str]
    ) -> None:
        """`workers`: how many of ours to try. `flags`: gunicorn's, laid over our own configuration."""
        self._folder = folder
        self._source = source
        self._ids = ids
        self._workers = workers
        self._flags = flags

    def run(self, rounds: int, batches: int) -> Iterator[Row]:
        """Measure in rounds, each on fresh databases, and give the rows."""
        for workers in self._workers:
            ours: list[float] = []
            bare: dict[str, list[float]] = {}
            for _ in range(rounds):
                url = self._source.fresh()
                ours.append(self._drive(url, workers, batches))
                transactions = bare_inserts.read(url)
                assert len(transactions) == _WARM_UP + batches
                for name, insert in bare_inserts.WAYS[self._source.kind].items():
                    seconds = insert(self._source.fresh(), transactions[:_WARM_UP], transactions[_WARM_UP:])
                    bare.setdefault(name, []).append(batches * CALLS / seconds)
                    print(f"  {name:<26} {bare[name][-1]:>8,.0f} calls/s", flush=True)
            best = max(bare, key=lambda name: median(bare[name]))
            what = f"batches of {CALLS}, {self._source.title}, {workers_text(workers)}: {best}"
            yield ratio_row(what, ours, bare[best], (0.5, 0.8))

    def drive_fresh(self, workers: int, batches: int) -> float:
        """Send batches to a service on a fresh database; return how many calls it took per second."""
        return self._drive(self._source.fresh(), workers, batches)

    def _drive(self, url: str, workers: int, batches: int) -> float:
        with servers.ours(self._folder, url, workers, self._flags) as server:
            counter = databases.Counter(url)
            drive(server, [make_body(CALLS, self._ids) for _ in range(_WARM_UP)], _WARM_UP)
            bodies = [make_body(CALLS, self._ids) for _ in range(batches)]
            computed = server.cpu_seconds()
            per_second = batches * CALLS / drive(server, bodies, _CONNECTIONS)
            micros = (server.cpu_seconds() - computed) / (batches * CALLS) * 1e6
            counter.check((_WARM_UP + batches) * CALLS, 0)
            counter.close()
            memory = max(map(servers.resident_mb, server.workers()))
        cost = f"{micros:.0f} us of processor a call, {memory:.0f} MB a worker"
        print(f"  {server.name:<26} {per_second:>8,.0f} calls/s   {cost}", flush=True)
        return per_second
