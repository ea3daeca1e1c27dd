"""The faults of calls that made no events: one row for each way in which calls fail. `conn` first."""

from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa

from app.core.fault import Fault, fault_key
from app.store.inserts import Insert
from app.store.record import to_detail
from app.store.schema import faults

_PATH_CHARS = 200
_SENTENCE_CHARS = 1000


class FaultRow(NamedTuple):
    """What calls with one fault have in common."""

    outcome: str
    reason: str | None
    transform: str | None
    transform_digest: bytes | None
    fault: Fault

    @property
    def key(self) -> bytes:
        """Return the key that their calls refer to it by."""
        return fault_key(*self)


_FAULTS = Insert(faults, faults.columns.keys(), skip_known=True)


def append_faults(conn: sa.Connection, rows: Iterable[FaultRow]) -> None:
    """Store those faults that are new.

    Last in a transaction: another one with the same new fault waits for its end.
    """
    keyed = {row.key: row for row in rows}
    # Sorted, so that two writers never wait for each other.
    _FAULTS.run(conn, [_columns(key, keyed[key]) for key in sorted(keyed)])


def find_sentence(conn: sa.Connection, key: bytes) -> str | None:
    """Return what calls with a fault have in common, as a sentence; None if there is no such fault."""
    return conn.execute(sa.select(faults.c.sentence).where(faults.c.key == key)).scalar_one_or_none()


def _columns(key: bytes, row: FaultRow) -> tuple[object, ...]:
    *shared, fault = row
    return (key, *shared, to_detail(fault.path[:_PATH_CHARS]), to_detail(fault.sentence[:_SENTENCE_CHARS]))
