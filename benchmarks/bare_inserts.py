"""The baseline of batches: the rows that the service made, inserted by the bare driver into the same tables.

Nothing is verified, parsed, mapped or looked up here, and no duplicate is expected: one transaction per batch, as
durable as ours, on a connection with our own settings. Rows come in the order in which ours are inserted.
"""

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import sqlalchemy as sa

from app.store.engine import connect
from app.store.schema import calls, claims, events, requests

Transaction = dict[str, list[tuple[Any, ...]]]
"""Rows by table."""

_TABLES = (requests, claims, events, calls)


def read(url: str) -> list[Transaction]:
    """Return everything that was stored, one transaction per request, in the order of arrival."""
    database = connect(url)
    made: dict[int, Transaction] = {}
    request_of: dict[int, int] = {}
    with database.reading() as conn:
        for row in conn.execute(sa.select(requests).order_by(requests.c.id)):
            made[row.id] = defaultdict(list, {"requests": [tuple(row)]})
        for row in conn.execute(sa.select(calls).order_by(calls.c.id)):
            request_of[row.id] = row.request_id
            made[row.request_id]["calls"].append(tuple(row))
        for row in conn.execute(sa.select(claims).order_by(claims.c.message_id)):
            made[request_of[row.call_id]]["claims"].append(tuple(row))
        for row in conn.execute(sa.select(events).order_by(events.c.idempotency_id)):
            made[request_of[row.call_id]]["events"].append(tuple(row))
    database.close()
    return list(made.values())


def sqlite_executemany(url: str, before: Sequence[Transaction], timed: Sequence[Transaction]) -> float:
    """Insert with sqlite3's executemany; return the seconds that `timed` took."""
    database = connect(url)
    # Ours, for its pragmas: the driver's own connection has none of SQLAlchemy around it.
    pooled = database.engine.raw_connection()
    conn: Any = pooled.driver_connection
    assert conn.execute("PRAGMA synchronous").fetchone() == (2,)
    statements = {table.name: _insert(table, "?") for table in _TABLES}

    def insert(transactions: Sequence[Transaction]) -> None:
        for rows in transactions:
            conn.execute("BEGIN IMMEDIATE")
            for name, statement in statements.items():
                conn.executemany(statement, rows[name])
            conn.execute("COMMIT")

    seconds = _timed(insert, before, timed)
    pooled.close()
    database.close()
    return seconds


def postgresql_values(url: str, before: Sequence[Transaction], timed: Sequence[Transaction]) -> float:
    """Insert with one `INSERT ... VALUES (...), (...)` per table and transaction."""
    with _postgresql(url) as conn:

        def insert(transactions: Sequence[Transaction]) -> None:
            for rows in transactions:
                with conn.transaction():
                    for table in _TABLES:
                        many = rows[table.name]
                        place = "(" + ", ".join(["%b"] * len(table.columns)) + ")"
                        statement = f"INSERT INTO {table.name} VALUES {', '.join([place] * len(many))}"  # noqa: S608  our own name
                        conn.execute(statement.encode(), list(itertools.chain.from_iterable(many)))

        return _timed(insert, before, timed)


def postgresql_executemany(url: str, before: Sequence[Transaction], timed: Sequence[Transaction]) -> float:
    """Insert with psycopg's executemany, which pipelines."""
    with _postgresql(url) as conn, conn.cursor() as cursor:
        statements = {table.name: _insert(table, "%b").encode() for table in _TABLES}

        def insert(transactions: Sequence[Transaction]) -> None:
            for rows in transactions:
                with conn.transaction():
                    for name, statement in statements.items():
                        cursor.executemany(statement, rows[name])

        return _timed(insert, before, timed)


WAYS: dict[str, dict[str, Callable[[str, Sequence[Transaction], Sequence[Transaction]], float]]] = {
    "sqlite": {"bare executemany": sqlite_executemany},
    "postgresql": {
        "bare multi-row insert": postgresql_values,
        "bare executemany": postgresql_executemany,
    },
}


def _postgresql(url: str) -> psycopg.Connection[Any]:
    parsed = sa.make_url(url).set(drivername="postgresql")
    conn = psycopg.connect(parsed.render_as_string(hide_password=False), autocommit=True)
    for name in ("fsync", "synchronous_commit"):
        assert conn.execute(f"SHOW {name}".encode()).fetchone() == ("on",)
    return conn


def _insert(table: sa.Table, mark: str) -> str:
    return f"INSERT INTO {table.name} VALUES ({', '.join([mark] * len(table.columns))})"  # noqa: S608  our own name


def _timed(
    insert: Callable[[Sequence[Transaction]], None], before: Sequence[Transaction], timed: Sequence[Transaction]
) -> float:
    insert(before)
    began = time.perf_counter()
    insert(timed)
    return time.perf_counter() - began
