"""The files that prove the number of one customer and month: its events, its answer, and what defined both.

They hold of each event only the properties that the metric reads. `app.metrics.recount` computes the number from them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from app.core.csv_text import to_cell, to_csv_text
from app.core.json_text import encode
from app.core.times import format_time
from app.errors import BadQuery, Unavailable
from app.metrics.answer_from_buckets import answer_from_buckets
from app.metrics.catalog import KIND, get_metric
from app.metrics.definition import Metric
from app.metrics.documents import to_answer_document
from app.metrics.explain import EventStanding, Share, ShareReader
from app.metrics.parameters import parse_month
from app.metrics.query import Query
from app.metrics.stream import Stream
from app.metrics.tables import share_head, to_share_cells
from app.metrics.values import UNREADABLE
from app.store.csv_table import PAGE_ROWS
from app.store.engine import Connection
from app.store.event_histories import find_histories
from app.store.publications import list_history
from app.store.versions import Version, list_versions

EVENTS, NUMBER, METRIC = "events.csv", "number.json", "metric.yaml"
VERSIONS, TRANSFORMS = "metric_versions.json", "transforms.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidencePeriod:
    """What the files are about."""

    metric: str
    version: str | None = None
    """The first digits of an earlier definition; None: the live one."""
    customer_id: str
    month: str
    tz: str


class EvidenceFiles:
    """The files of one number, from one snapshot of the database."""

    def __init__(self, conn: Connection, about: EvidencePeriod, now: int) -> None:
        """`now`: the moment that they are about, in microseconds since 1970.

        Raises:
            NotFound: there is no such metric or version.
            BadQuery: there is no such month or zone, or the month has not begun.

        """
        start, end = parse_month(about.month, about.tz)
        if start >= now:
            raise BadQuery(f"{about.month} has not begun in {about.tz}: there is nothing to prove yet")
        self._conn = conn
        self._now = now
        self._metric = metric = get_metric(conn, about.metric, about.version)
        self._query = Query(start=start, end=end, customer_id=about.customer_id, tz=about.tz).checked(metric)
        self._transforms: set[bytes] = set()
        self.event_name = metric.event_name
        self.version = metric.digest.hex()
        self.start = start
        self.end = self._query.end_at(now)

    def read(self) -> Iterator[tuple[str, Iterator[str]]]:
        """Yield each file: its name, and its text in pieces, to be taken before the next file.

        Raises:
            Unavailable: the events do not give the number that `usage` gives.

        """
        stream = Stream(self._metric, self._query, self._now)
        yield EVENTS, self._read_events(stream)
        result = stream.answer()
        # Without buckets, `usage` computes its answer from raw events, as the stream does.
        other = answer_from_buckets(self._conn, self._metric, self._query, self._now)
        if other is not None and other != result:
            name = self._metric.name
            raise Unavailable(
                f"raw events give another number than `usage`: `segment-lotus metrics build {name} --anew` first"
            )
        yield NUMBER, iter([encode(to_answer_document(result)).decode()])
        yield METRIC, iter([self._metric.text])
        yield VERSIONS, iter([encode(self._list_versions()).decode()])
        yield TRANSFORMS, iter([encode(self._list_transforms()).decode()])

    def _read_events(self, stream: Stream) -> Iterator[str]:
        metric, zone = self._metric, self._query.zone()
        yield to_csv_text([evidence_head(metric)])
        reader = ShareReader(self._conn, metric, self._query, self._now, whole=True)
        ids = reader.list_ids(self._conn)
        for start in range(0, len(ids), PAGE_ROWS):
            shares = reader.read(self._conn, ids[start : start + PAGE_ROWS])
            histories = find_histories(self._conn, (share.event.id for share in shares))
            lines = []
            for share in shares:
                if share.standing is not EventStanding.VOIDED:
                    stream.add(share.metric_event)
                self._transforms.add(share.event.transform_digest)
                cells = to_share_cells(metric, share, histories.get(share.event.id), zone)
                lines.append([*cells, to_cell(share.event.base_id), to_properties_cell(metric, share)])
            yield to_csv_text(lines)

    def _list_versions(self) -> list[dict[str, str | None]]:
        """Return which definition was live since when, the oldest first."""
        history = list_history(self._conn, KIND, self._metric.name)[::-1]
        texts = list_versions(self._conn, (row.digest for row in history if row.digest is not None))
        return [
            {
                "version": row.digest.hex() if row.digest else None,
                "published_at": format_time(row.published_at),
                "text": texts[row.digest].text if row.digest in texts else None,
            }
            for row in history
        ]

    def _list_transforms(self) -> list[dict[str, str | None]]:
        """Return the texts that made the events, and those that they inherit from."""
        made = list_versions(self._conn, self._transforms)
        inherited = {row.inherits for row in made.values() if row.inherits is not None}
        texts = {**list_versions(self._conn, inherited), **made}
        return [_to_transform(texts[digest]) for digest in sorted(texts)]


def evidence_head(metric: Metric) -> list[str]:
    """Return the columns of the file of events."""
    return [*share_head(metric.group_by), "base_id", "properties"]


def to_properties_cell(metric: Metric, share: Share) -> str:
    """Return the properties that the metric reads, as JSON; empty where they cannot be read."""
    properties = share.metric_event.properties
    if properties is UNREADABLE:
        return ""
    return encode({name: properties[name] for name in sorted(metric.property_names()) if name in properties}).decode()


def _to_transform(version: Version) -> dict[str, str | None]:
    return {
        "name": version.name,
        "version": version.digest.hex(),
        "inherits": version.inherits.hex() if version.inherits else None,
        "text": version.text,
    }
