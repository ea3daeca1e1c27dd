"""Memory of one worker over a million calls, in batches of 500 and singly at the same time."""

import http.client
import threading
import time
from pathlib import Path
from statistics import median

import databases
import servers
from calls import make_body, send
from report import Row, below_row

CALLS = 1_000_000
_BATCH = 500
_SENDERS = 2
_SINGLE_SENDERS = 8
_GROWTH_MB = 5.0


def measure(folder: Path, source: databases.Source, ids: str, calls: int = CALLS) -> list[Row]:
    """Send the calls and watch the worker."""
    url = source.fresh()
    samples: list[tuple[int, float]] = []
    with servers.ours(folder, url, 1) as server:
        counter = databases.Counter(url)
        worker = server.workers()[0]
        load = _Load(server, ids, calls)
        load.start()
        while load.is_running():
            time.sleep(1)
            samples.append((load.sent, servers.resident_mb(worker)))
            if len(samples) % 15 == 0:
                print(f"  {samples[-1][0]:>9,} calls   {samples[-1][1]:6.1f} MB", flush=True)
        load.join()
        assert server.workers() == [worker], "the worker was replaced"
        counter.check(load.sent, 0)
        counter.close()
    third = len(samples) // 3
    memory = [mb for _, mb in samples]
    growth = median(memory[-third:]) - median(memory[third : 2 * third])
    print(f"  {load.sent:,} calls, of them {load.singles:,} singly")
    return [
        below_row(f"memory of one worker over {calls:,} calls, its peak", max(memory), "MB", (150, None)),
        below_row("... and its growth from the second third of them to the last", growth, "MB", (_GROWTH_MB, None)),
    ]


class _Load:
    """Sends batches over some connections and single calls over others, until so many calls are sent."""

    def __init__(self, server: servers.Server, ids: str, calls: int) -> None:
        self._server = server
        self._ids = ids
        self._left = calls
        self._lock = threading.Lock()
        self._failed: list[BaseException] = []
        self.sent = 0
        self.singles = 0
        self._threads = [threading.Thread(target=self._work, args=(_BATCH,)) for _ in range(_SENDERS)]
        self._threads += [threading.Thread(target=self._work, args=(1,)) for _ in range(_SINGLE_SENDERS)]

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def is_running(self) -> bool:
        """Tell whether calls are still being sent."""
        return any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        """Wait for the end; raises what went wrong."""
        for thread in self._threads:
            thread.join()
        if self._failed:
            raise self._failed[0]

    def _work(self, calls: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=60)
        try:
            while self._take(calls):
                send(connection, make_body(calls, self._ids))
                with self._lock:
                    self.sent += calls
                    self.singles += calls == 1
        except BaseException as error:  # noqa: BLE001  the main thread raises it
            self._failed.append(error)
        finally:
            connection.close()

    def _take(self, calls: int) -> bool:
        with self._lock:
            if self._left < calls or self._failed:
                return False
            self._left -= calls
            return True
