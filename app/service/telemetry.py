"""Counters for Prometheus, over all workers of one service.

prometheus_client keeps the numbers of each process in a memory-mapped file. `app.service.gunicorn_conf` puts those
files in memory if possible, never on the data disk: on a full disk, writing to a mapped file kills the process (bus
error).
"""

from collections import Counter as Counts
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from app.core.outcome import REASONS_OF, Outcome, Reason
from app.errors import RequestRefused, Unavailable
from app.store.writer import Commit

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)

REFUSAL_CODES: tuple[str, ...] = (*(kind.code for kind in RequestRefused.__subclasses__()), Unavailable.code)


class Telemetry:
    """The metrics of one process. Every label value is known in advance and exported, at zero, from the start."""

    def __init__(self, *, shared: bool) -> None:
        """`shared`: PROMETHEUS_MULTIPROC_DIR is set; reads add up the files of all workers."""
        self._shared = shared
        self._registry = CollectorRegistry()
        # With shared files the values are in the files, and a registry is only made to read them.
        here = None if shared else self._registry
        calls = Counter("segment_lotus_calls", "Calls by outcome and reason", ["outcome", "reason"], registry=here)
        self._calls: dict[tuple[Outcome | None, Reason | None], Counter] = {
            (outcome, reason): calls.labels(outcome, reason or "")
            for outcome in Outcome
            for reason in (REASONS_OF[outcome] or (None,))
        }
        refused = Counter(
            "segment_lotus_requests_refused", "Requests refused as a whole, by code", ["code"], registry=here
        )
        self._refused = {code: refused.labels(code) for code in REFUSAL_CODES}
        self._request_seconds = Histogram(
            "segment_lotus_request_seconds", "Time to answer a webhook request", buckets=_SECONDS, registry=here
        )
        self._commit_seconds = Histogram(
            "segment_lotus_commit_seconds", "Time of one group commit", buckets=_SECONDS, registry=here
        )
        self._commit_calls = Histogram(
            "segment_lotus_commit_calls", "Calls in one group commit", buckets=_SIZES, registry=here
        )
        self._queue_depth = Gauge(
            "segment_lotus_queue_depth",
            "Requests waiting for a commit when the last one began",
            multiprocess_mode="livesum",
            registry=here,
        )
        self._connections = Gauge(
            "segment_lotus_connections",
            "Open connections, sampled twice a second",
            multiprocess_mode="livesum",
            registry=here,
        )

        self._in_flight = Gauge(
            "segment_lotus_inflight_bytes",
            "Bytes of request bodies held now, to within 64 KiB per process",
            multiprocess_mode="livesum",
            registry=here,
        )

    def note_connections(self, count: int) -> None:
        """Set the number of open connections of this process."""
        self._connections.set(count)

    def show_in_flight(self, size: int) -> None:
        """Set the bytes of request bodies held by this process."""
        self._in_flight.set(size)

    def time_request(self, seconds: float) -> None:
        """Record the seconds of an accepted webhook request."""
        self._request_seconds.observe(seconds)

    def count_refused(self, code: str) -> None:
        """Count a refused request; `code` is one of REFUSAL_CODES."""
        self._refused[code].inc()

    def watch_commit(self, commit: Commit) -> None:
        """Record a group commit: its calls by outcome, its size, its duration, and how many wait for the next."""
        for ended, count in Counts((record.outcome, record.reason) for record in commit.records).items():
            self._calls[ended].inc(count)
        self._commit_calls.observe(len(commit.records))
        self._commit_seconds.observe(commit.seconds)
        self._queue_depth.set(commit.waiting)

    def expose(self) -> bytes:
        """Return all metrics in Prometheus' text format, of all workers if `shared`."""
        return generate_latest(self._readable())

    def request_quantiles(self, quantiles: Sequence[float]) -> list[tuple[float, float]]:
        """Estimate these quantiles of the webhook's response time in seconds, over all workers: (quantile, seconds).

        As Prometheus does: interpolated linearly within a bucket, and the largest bound for the last one. Empty before
        the first request.
        """
        buckets: Counts[float] = Counts()
        for family in self._readable().collect():
            if family.name == "segment_lotus_request_seconds":
                for sample in family.samples:
                    if sample.name.endswith("_bucket"):
                        buckets[float(sample.labels["le"])] += int(sample.value)
        return (
            [(share, _quantile(sorted(buckets.items()), share)) for share in quantiles] if any(buckets.values()) else []
        )

    def _readable(self) -> CollectorRegistry:
        if not self._shared:
            return self._registry
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return registry


def _quantile(buckets: Sequence[tuple[float, int]], share: float) -> float:
    """Return the quantile `share`; `buckets` are (bound, cumulative count), the last bound infinite."""
    rank = share * buckets[-1][1]
    below, counted = 0.0, 0
    for bound, count in buckets[:-1]:
        if count >= rank:
            return below + (bound - below) * ((rank - counted) / (count - counted)) if count > counted else bound
        below, counted = bound, count
    return below
