"""A list of any length as a CSV file, in pieces: each is one page of the list, read in a transaction of its own.

So memory holds one page, and no transaction stays open while a slow reader takes the file. What is stored meanwhile is
in it or not, as in the pages of the list.
"""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from app.core.csv_text import to_csv_text
from app.store.engine import Connection, Database

PAGE_ROWS = 1000
"""Rows in one piece."""

Place = TypeVar("Place")
"""Where the following page of a list begins."""

ReadPage = Callable[[Connection, Place | None], tuple[Sequence[Sequence[object]], Place | None]]
"""(connection, place) -> the cells of the page that begins there (None: the first), and the following place, if any."""


class CsvTable(Generic[Place]):
    """One list on its way into a file."""

    def __init__(self, head: Sequence[str], read_page: ReadPage[Place]) -> None:
        self._head: Sequence[Sequence[str]] = [head]
        self._read_page = read_page
        self._place: Place | None = None
        self._ended = False

    def read_piece(self, database: Database) -> str | None:
        """Return the following lines, which may be none yet; None after the last. Raises Unavailable."""
        if self._ended:
            return None
        with database.reading() as conn:
            rows, self._place = self._read_page(conn, self._place)
        self._ended = self._place is None
        head, self._head = self._head, []
        return to_csv_text([*head, *rows])
