"""Files for download: lists as CSV, piece by piece."""

from collections.abc import Iterator
from typing import TypeVar

from flask import Response

from app.catalog.backend import Backend
from app.store.csv_table import CsvTable
from app.web.offload import Offload

Place = TypeVar("Place")

CSV = "text/csv; charset=utf-8"


def attachment(name: str) -> dict[str, str]:
    """Return the header that lets a browser save the answer under a name of `to_file_name`."""
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def send_csv(offload: Offload, table: CsvTable[Place], name: str) -> Response:
    """Return a response that streams a list.

    Each piece is read where `offload` runs it, once the one before was sent; the first one now, so that an error of the
    query has its status. If the database fails later, the connection breaks: no client takes the part for the whole.
    """

    def read_piece(backend: Backend) -> str | None:
        return table.read_piece(backend.database)

    first = offload(read_piece)

    def pieces() -> Iterator[str]:
        piece = first
        while piece is not None:
            yield piece
            piece = offload(read_piece)

    return Response(pieces(), content_type=CSV, headers=attachment(name))
