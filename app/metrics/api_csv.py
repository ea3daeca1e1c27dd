"""An answer as a CSV file, streamed."""

from collections.abc import Iterator

from app.catalog.backend import Backend
from app.metrics.definition import Metric
from app.metrics.documents import to_csv
from app.metrics.query import Answer
from app.web.offload import Offload


def stream_csv(offload: Offload, answer: Answer, metric: Metric, names: tuple[str, ...]) -> Iterator[str]:
    """Yield an answer piece by piece: each is written where `offload` runs it, once the one before was sent.

    So memory holds one piece at a time beside the answer, and no large file delays a webhook request.
    """
    pieces = to_csv(answer, metric, names)

    def following(_reading: Backend) -> str | None:
        return next(pieces, None)

    while (piece := offload(following)) is not None:
        yield piece
