"""Single calls: the service against a bare Flask route, both driven by the same script over the same connections."""

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import databases
import servers
import wrk
from report import Limits, Row, below_row, ratio_row, workers_text

_FEW = 32
"""Connections at which latency is told and the best flags are looked for."""

# The class that ours is made from, as gunicorn ships it.
_STOCK = ("-k", "gevent_pywsgi")

_CANDIDATES: dict[str, tuple[tuple[str, ...], int]] = {
    "gthread, 2 x 16 threads": (("-k", "gthread", "--threads", "16"), 2),
    "sync, 2 workers": (("-k", "sync"), 2),
    "gevent, 2 workers": (("-k", "gevent"), 2),
    "gevent_pywsgi, 2 workers": (_STOCK, 2),
}
"""Flags that could suit the bare route best, and how many workers."""

_LIKE_OURS = {1: "gevent_pywsgi, 1 worker", 2: "gevent_pywsgi, 2 workers"}
_OUR_CLASS = {1: "our worker class, 1", 2: "our worker class, 2"}
_OURS = {1: "ours-1", 2: "ours-2"}

# (against the same flags, against the best flags)
_LIMITS: dict[str, tuple[Limits, Limits | None]] = {
    "sqlite": ((0.6, 0.8), (0.45, 0.6)),
    "postgresql": ((0.4, 0.5), None),
}


class Singles:
    """All servers of one comparison, and what was measured of each by number of connections."""

    def __init__(
        self, folder: Path, source: databases.Source, ids: str, *, workers: Sequence[int], flags: Sequence[str]
    ) -> None:
        """`workers`: how many of ours to try, 1 and 2 at most. `flags`: gunicorn's, laid over our own configuration."""
        self._folder = folder
        self._source = source
        self._ids = ids
        self._workers = workers
        self._flags = flags
        self._running: dict[str, servers.Server] = {}
        self._counters: dict[str, databases.Counter] = {}
        self._measured: defaultdict[tuple[str, int], list[wrk.Result]] = defaultdict(list)

    def run(self, connections: Sequence[int], rounds: int, seconds: int) -> list[Row]:
        """Measure in rounds, in each every server once, and return the rows."""
        against_best = _LIMITS[self._source.kind][1] is not None
        with contextlib.ExitStack() as stack:
            self._start(stack, all_flags=against_best)
            bare = [_LIKE_OURS[workers] for workers in self._workers]
            if against_best:
                # One look may have met a noisy moment, so what usually wins runs too, and the rounds decide.
                promising = max(_CANDIDATES, key=lambda name: self._drive(name, _FEW, seconds).per_second)
                bare += [name for name in dict.fromkeys((promising, _LIKE_OURS[2])) if name not in bare]
            self._measured.clear()
            names = [*(_OURS[workers] for workers in self._workers), *bare]
            own = [_OUR_CLASS[workers] for workers in self._workers] if against_best else []
            for turn in range(rounds):
                for count in connections:
                    also = own if count == _FEW else []
                    # The other way round in every second round, so that nobody always comes first.
                    for name in [*names, *also][:: -1 if turn % 2 else 1]:
                        self._drive(name, count, seconds)
        return [*self._ratios(connections, bare), *self._latencies()]

    def _start(self, stack: contextlib.ExitStack, *, all_flags: bool) -> None:
        wanted: dict[str, tuple[tuple[str, ...], int]] = {
            _LIKE_OURS[workers]: (_STOCK, workers) for workers in self._workers
        }
        if all_flags:
            wanted |= _CANDIDATES
            wanted |= {_OUR_CLASS[workers]: ((), workers) for workers in self._workers}
        for name, (flags, workers) in wanted.items():
            self._running[name] = stack.enter_context(servers.bare(self._folder, name, flags, workers))
        for workers in self._workers:
            name = _OURS[workers]
            url = self._source.fresh()
            self._running[name] = stack.enter_context(servers.ours(self._folder, url, workers, self._flags))
            counter = self._counters[name] = databases.Counter(url)
            stack.callback(counter.close)
            counter.check(wrk.check_script(self._running[name], self._ids), 0)
        for name in self._running:
            self._drive(name, _FEW, 1, aloud=False)

    def _drive(self, name: str, connections: int, seconds: int, *, aloud: bool = True) -> wrk.Result:
        server = self._running[name]
        computed = server.cpu_seconds()
        result = wrk.drive(server, connections, seconds, self._ids)
        micros = (server.cpu_seconds() - computed) / result.good * 1e6
        if name in self._counters:
            self._counters[name].check(result.good, connections)
        self._measured[name, connections].append(result)
        if aloud:
            speed = (
                f"{result.per_second:>8,.0f}/s   p99 {result.p99_ms:>5.1f} ms   {micros:>4.0f} us of processor a call"
            )
            print(f"  {name:<26} {connections:>4} connections {speed}", flush=True)
        return result

    def _ratios(self, connections: Sequence[int], bare: Sequence[str]) -> Iterator[Row]:
        like_ours, like_best = _LIMITS[self._source.kind]
        for count in connections:
            best = max(bare, key=lambda name: median(self._speeds(name, count)))
            for workers in self._workers:
                what = f"single, {self._source.title}, {workers_text(workers)}, {count} connections: bare, "
                ours = self._speeds(_OURS[workers], count)
                yield ratio_row(what + "same flags", ours, self._speeds(_LIKE_OURS[workers], count), like_ours)
                if own := self._speeds(_OUR_CLASS[workers], count):
                    yield ratio_row(what + "our worker class", ours, own, None)
                if like_best is not None:
                    yield ratio_row(what + f"best flags ({best})", ours, self._speeds(best, count), like_best)

    def _speeds(self, name: str, connections: int) -> list[float]:
        return [one.per_second for one in self._measured.get((name, connections), ())]

    def _latencies(self) -> Iterator[Row]:
        for workers in self._workers:
            times = [one.p99_ms for one in self._measured.get((_OURS[workers], _FEW), ())]
            if times:
                bare = median(one.p99_ms for one in self._measured[_LIKE_OURS[workers], _FEW])
                what = f"p99 of single, {self._source.title}, {workers_text(workers)}, {_FEW} connections"
                note = f" (worst round {max(times):.0f}; bare {bare:.0f})"
                yield below_row(what, median(times), "ms", (100, 40), note)
