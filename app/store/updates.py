"""Bulk updates at the speed of the driver, as `app.store.inserts` does for new rows."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from app.store.arrays import as_arrays, packer
from app.store.inserts import BoundStatement, in_binary


class Update:
    """Compare-and-set: writes the `new` columns of the rows whose `known` columns are unchanged."""

    def __init__(self, table: sa.Table, *, new: Sequence[str], known: Sequence[str]) -> None:
        """Rows are tuples: the values of `new`, then of `known`, which together identify one row."""
        self._table = table
        self._new = [table.c[name] for name in new]
        self._known = [table.c[name] for name in known]
        self._names = [f"new_{name}" for name in new] + [f"known_{name}" for name in known]
        self._packers = [packer(column.type) for column in (*self._new, *self._known)]

    def run(self, conn: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        """Update rows; return how many matched."""
        return self.prepare(conn, rows).send().rowcount

    def prepare(self, conn: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> BoundStatement:
        """Bind the rows to the statement; a server can work on others meanwhile."""
        driver: Any = conn.connection.driver_connection
        if conn.dialect.name == "sqlite":
            return BoundStatement(driver.executemany, self._sqlite, rows or None)
        arrays = as_arrays(self._names, self._packers, rows) if rows else None
        return BoundStatement(driver.execute, self._postgresql, arrays)

    @cached_property
    def _sqlite(self) -> str:
        values: list[Any] = [sa.bindparam(name) for name in self._names]
        return str(self._statement(values).compile(dialect=SQLiteDialect_pysqlite()))

    @cached_property
    def _postgresql(self) -> str:
        """One array per column: the text is the same for any number of rows, so the server plans it once."""
        columns = [*self._new, *self._known]
        arrays = [
            sa.bindparam(name, type_=postgresql.ARRAY(column.type))
            for name, column in zip(self._names, columns, strict=True)
        ]
        rows = sa.func.unnest(*arrays).table_valued(*self._names).render_derived()
        statement = self._statement([rows.c[name] for name in self._names])
        return in_binary(str(statement.compile(dialect=PGDialect_psycopg())))  # type: ignore[no-untyped-call]

    def _statement(self, values: Sequence[Any]) -> sa.Update:
        new, known = values[: len(self._new)], values[len(self._new) :]
        same = [
            column.is_not_distinct_from(value) if column.nullable else column == value
            for column, value in zip(self._known, known, strict=True)
        ]
        # Ordered: SQLAlchemy would set columns in the table's order, but values are bound by position.
        return sa.update(self._table).where(*same).ordered_values(*zip(self._new, new, strict=True))
