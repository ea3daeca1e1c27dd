"""Bulk updates at the speed of the driver, as `app.store.inserts` does for new rows."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from app.store.inserts import BulkStatement


class Stale(Exception):
    """What was read has changed meanwhile: another process wrote it."""


class Update(BulkStatement):
    """Compare-and-set: writes the `new` columns of the rows whose `known` columns are unchanged."""

    def __init__(self, table: sa.Table, *, new: Sequence[str], known: Sequence[str]) -> None:
        """Rows are tuples: the values of `new`, then of `known`, which together identify one row."""
        self._table = table
        self._new = {f"new_{name}": table.c[name] for name in new}
        self._known = {f"known_{name}": table.c[name] for name in known}
        super().__init__({**self._new, **self._known})

    def compose(self, rows: sa.TableValuedAlias | None) -> sa.Update:
        """Return the statement."""

        def value(name: str) -> sa.ColumnElement[Any]:
            return sa.bindparam(name) if rows is None else rows.c[name]

        same = [
            column.is_not_distinct_from(value(name)) if column.nullable else column == value(name)
            for name, column in self._known.items()
        ]
        # Ordered: SQLAlchemy would set columns in the table's order, but values are bound by position.
        return (
            sa.update(self._table)
            .where(*same)
            .ordered_values(*((column, value(name)) for name, column in self._new.items()))
        )
