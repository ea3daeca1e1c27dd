"""Rows by many keys at once."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql


def among(conn: sa.Connection, column: sa.Column[Any], keys: Sequence[Any]) -> sa.ColumnElement[bool]:
    """Return the condition that a column holds one of some keys.

    On PostgreSQL they are one array: psycopg takes a millisecond to read a statement with hundreds of parameters.
    """
    if conn.dialect.name == "postgresql":
        return column == sa.any_(sa.bindparam(None, list(keys), type_=postgresql.ARRAY(column.type)))
    return column.in_(keys)
