"""An answer as a CSV file that is sent while it is written."""

from collections.abc import Iterator

from app.catalog.backend import Backend
from app.metrics.definition import Metric
from app.metrics.documents import to_csv
from app.metrics.query import Answer
from app.web.offload import Offload


def stream_csv(offload: Offload, found: Answer, metric: Metric, names: tuple[str, ...]) -> Iterator[str]:
    """Give an answer piece by piece: each is written once the one before was sent, and where `offload` runs it.

    So no more than one piece is held beside the answer, and no large file holds up a webhook request.
    """
    pieces = to_csv(found, metric, names)

    def following(_reading: Backend) -> str | None:
        return next(pieces, None)

    while (piece := offload(following)) is not None:
        yield piece
