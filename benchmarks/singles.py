"""Single calls: the service against a bare Flask route, both driven by the same wrk script over the same connections."""

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import databases
import servers
import wrk
from report import Row, below_row, ratio_row

_SAME = ("-k", "gevent_pywsgi")
"""Our own flags, with the class that ours is made from."""

_CANDIDATES: dict[str, tuple[tuple[str, ...], int]] = {
    "gthread, 2 x 16 threads": (("-k", "gthread", "--threads", "16"), 2),
    "sync, 2 workers": (("-k", "sync"), 2),
    "gevent, 2 workers": (("-k", "gevent"), 2),
    "gevent_pywsgi, 2 workers": (_SAME, 2),
}
"""Flags that could suit the bare route best, and how many workers."""

_WORKERS = (1, 2)


class Singles:
    """All servers of one comparison, and what was measured of each by number of connections."""

    def __init__(self, folder: Path, source: databases.Server, ids: str, flags: Sequence[str]) -> None:
        """`flags`: laid over our own configuration, to try another one."""
        self._folder = folder
        self._source = source
        self._ids = ids
        self._flags = flags
        self._running: dict[str, servers.Server] = {}
        self._counters: dict[str, databases.Counter] = {}
        self._measured: defaultdict[tuple[str, int], list[wrk.Result]] = defaultdict(list)

    def run(self, connections: Sequence[int], rounds: int, seconds: int) -> list[Row]:
        """Measure in rounds, in each every server once, and return the rows."""
        with self._started():
            best = max(_CANDIDATES, key=lambda name: self._drive(name, 32, seconds).per_second)
            self._measured.clear()
            same = {count: _CANDIDATE_LIKE_OURS if count == 2 else f"same-{count}" for count in _WORKERS}
            names = dict.fromkeys([*(f"ours-{n}" for n in _WORKERS), *same.values(), *(f"own-{n}" for n in _WORKERS), best])
            for turn in range(rounds):
                for count in connections:
                    # The other way round in every second round, so that nobody always comes first.
                    for name in list(names)[:: -1 if turn % 2 else 1]:
                        self._drive(name, count, seconds)
        return list(self._rows(connections, same, best))

    @contextlib.contextmanager
    def _started(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for name, (flags, workers) in _CANDIDATES.items():
                self._running[name] = stack.enter_context(servers.bare(self._folder, _file_name(name), flags, workers))
            for workers in _WORKERS:
                if workers != 2:
                    name = f"same-{workers}"
                    self._running[name] = stack.enter_context(servers.bare(self._folder, name, _SAME, workers))
                name = f"own-{workers}"
                self._running[name] = stack.enter_context(servers.bare(self._folder, name, (), workers))
                name = f"ours-{workers}"
                url = self._source.fresh()
                self._running[name] = stack.enter_context(servers.ours(self._folder, url, workers, self._flags))
                counter = self._counters[name] = databases.Counter(url)
                stack.callback(counter.close)
                counter.check(wrk.check_script(self._running[name], self._ids), 0)
            for name in self._running:
                self._drive(name, 32, 1)
            self._measured.clear()
            yield

    def _drive(self, name: str, connections: int, seconds: int) -> wrk.Result:
        result = wrk.drive(self._running[name], connections, seconds, self._ids)
        if name in self._counters:
            self._counters[name].check(result.good, connections)
        self._measured[name, connections].append(result)
        print(f"  {name:<26} {connections:>4} connections {result.per_second:>8,.0f}/s   p99 {result.p99_ms:.1f} ms", flush=True)
        return result

    def _rows(self, connections: Sequence[int], same: dict[int, str], best: str) -> Iterator[Row]:
        kind = "SQLite" if self._source.kind == "sqlite" else "PostgreSQL"
        like_ours, like_best = ((0.6, 0.8), (0.45, 0.6)) if kind == "SQLite" else ((0.4, 0.5), (None, None))
        for count in connections:
            speed = {name: [one.per_second for one in found] for (name, at), found in self._measured.items() if at == count}
            for workers in _WORKERS:
                what = f"single, {kind}, {workers} worker{'s' * (workers > 1)}, {count} connections"
                ours = speed[f"ours-{workers}"]
                yield ratio_row(f"{what}: bare, same flags", ours, speed[same[workers]], *like_ours)
                yield ratio_row(f"{what}: bare, our worker class", ours, speed[f"own-{workers}"], None, None)
                yield ratio_row(f"{what}: bare, best flags ({best})", ours, speed[best], *like_best)
        for workers in _WORKERS:
            times = [one.p99_ms for one in self._measured.get((f"ours-{workers}", 32), [])]
            if times:
                yield below_row(f"p99 of single, {kind}, {workers} worker{'s' * (workers > 1)}, 32 connections", times, "ms", 100, 40)


_CANDIDATE_LIKE_OURS = "gevent_pywsgi, 2 workers"


def _file_name(name: str) -> str:
    return "bare-" + "".join(one if one.isalnum() else "-" for one in name)
