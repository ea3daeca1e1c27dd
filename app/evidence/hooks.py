"""What evidence needs of other parts: they are passed in, since no part of the program knows another."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from app.evidence.manifest import Manifest
from app.store.engine import Connection


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What one file is about."""

    metric: str
    version: str | None = None
    """The first digits of an earlier definition; None: the live one."""
    customer_id: str
    month: str
    """Such as 2026-10."""
    tz: str
    """The IANA name of the zone whose month it is."""


class NumberFiles(Protocol):
    """The files of a number, from one snapshot."""

    event_name: str
    version: str
    start: int
    end: int
    """The end of the period, in microseconds since 1970: that of the month, or the moment, if that is earlier."""

    def read(self) -> Iterator[tuple[str, Iterator[str]]]:
        """Yield each file: its name, and its text in pieces, to be taken before the next file."""


OpenLines = Callable[[str], AbstractContextManager[Iterator[str]]]
"""Opens a file by its name, to read its lines with their ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceHooks:
    """What the other parts do for evidence."""

    read_number: Callable[[Connection, Subject, int], NumberFiles]
    """(connection, subject, moment) -> the files of the number. Raises NotFound or BadQuery."""
    list_adjustments: Callable[[Connection, Subject], list[Any]]
    """The adjustments of the month, if it was closed, as JSON values."""


Recount = Callable[[Manifest, OpenLines], Iterator[str]]
"""Computes the number from the files; yields a sentence for each thing that differs."""
