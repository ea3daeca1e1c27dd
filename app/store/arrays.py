"""Columns of values as PostgreSQL's binary arrays, packed in few steps of Python.

psycopg packs element by element: 0.18 us for a text, 0.26 for a digest, 0.23 for a number, and a call has forty of
them. This way takes 0.09 and 0.04. The format is that of `array_send` in PostgreSQL's arrayfuncs.c.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg.abc import DumperKey
from psycopg.adapt import Dumper, PyFormat
from psycopg.pq import Format
from sqlalchemy.dialects import postgresql

K = TypeVar("K", int, str)

_SLICE = 1000
"""Keys in one statement: the bound parameters of a statement are limited (SQLite: 32,766)."""

# Dimensions (1), whether there are nulls, the type of the elements, their number, the lower bound (1).
_head = struct.Struct("!5I").pack
_length = struct.Struct("!i").pack
_NULL = _length(-1)

_TYPES: tuple[tuple[type[sa.types.TypeEngine[Any]], str], ...] = (
    # The first match counts: a BigInteger is an Integer too.
    (sa.SmallInteger, "int2"),
    (sa.BigInteger, "int8"),
    (sa.Integer, "int4"),
    (sa.Text, "text"),
    (sa.LargeBinary, "bytea"),
)


class Array:
    """An encoded array, ready to be sent."""

    __slots__ = ("data", "oid")

    def __init__(self, oid: int, data: bytes) -> None:
        """`oid` is PostgreSQL's id of the array type."""
        self.oid = oid
        self.data = data


def packer(column_type: sa.types.TypeEngine[Any]) -> Callable[[Sequence[Any]], Array]:
    """Return the function that packs values of this column type into an array; any value may be None.

    It raises OverflowError for a number out of range, and UnicodeEncodeError for half of a surrogate pair.
    """
    name = next(name for kind, name in _TYPES if isinstance(column_type, kind))
    info = psycopg.adapters.types[name]
    if name == "text":
        return lambda values: Array(info.array_oid, _pack(info.oid, _encoded(values)))
    if name == "bytea":
        return lambda values: Array(info.array_oid, _pack(info.oid, values))
    code, size = {"int2": ("h", 2), "int4": ("i", 4), "int8": ("q", 8)}[name]
    pack_value = struct.Struct("!" + code).pack

    def pack(values: Sequence[int | None]) -> Array:
        flat: list[Any] = [size] * (2 * len(values))
        flat[1::2] = values
        try:
            data = _head(1, 0, info.oid, len(values), 1) + struct.pack("!" + ("I" + code) * len(values), *flat)
        except struct.error:
            try:
                data = _pack(info.oid, [None if value is None else pack_value(value) for value in values])
            except struct.error as error:
                message = f"a number does not fit {name}"
                raise OverflowError(message) from error
        return Array(info.array_oid, data)

    return pack


def as_arrays(
    names: Sequence[str], packers: Sequence[Callable[[Sequence[Any]], Array]], rows: Sequence[tuple[Any, ...]]
) -> dict[str, Array]:
    """Return rows as parameters of a statement, one array per name. Raises what the packers raise."""
    columns = zip(names, packers, zip(*rows, strict=True), strict=True)
    return {name: pack(values) for name, pack, values in columns}


def _encoded(values: Sequence[Any]) -> list[bytes | None]:
    # Checking for None first would take as long as all the rest.
    try:
        return list(map(str.encode, values))
    except TypeError:
        return [None if value is None else value.encode() for value in values]


def _pack(oid: int, values: Sequence[Any]) -> bytes:
    """Return the encoded array of values that are bytes or None; each is preceded by its length."""
    count = len(values)
    parts = [b""] * (2 * count + 1)
    try:
        parts[1::2] = map(_length, map(len, values))
        parts[2::2] = values
        has_null = False
    except TypeError:
        parts[1::2] = [_NULL if value is None else _length(len(value)) for value in values]
        parts[2::2] = [value or b"" for value in values]
        has_null = True
    parts[0] = _head(1, has_null, oid, count, 1)
    return b"".join(parts)


class _ArrayDumper(Dumper):
    """Passes the bytes to psycopg, with the array's type."""

    format = Format.BINARY

    def get_key(self, obj: Array, format: PyFormat) -> DumperKey:  # noqa: A002, ARG002 (psycopg's names)
        return (self.cls, obj.oid)  # type: ignore[return-value]

    def upgrade(self, obj: Array, format: PyFormat) -> Dumper:  # noqa: A002, ARG002 (psycopg's names)
        dumper = type(self)(self.cls)
        dumper.oid = obj.oid
        return dumper

    def dump(self, obj: Array) -> bytes:
        return obj.data


psycopg.adapters.register_dumper(Array, _ArrayDumper)


def among(conn: sa.Connection, column: sa.Column[Any], keys: Sequence[Any]) -> sa.ColumnElement[bool]:
    """Return the condition that a column has one of `keys`.

    On PostgreSQL they are one array: psycopg takes a millisecond to parse a statement with hundreds of parameters.
    """
    if conn.dialect.name == "postgresql":
        return column == sa.any_(sa.bindparam(None, list(keys), type_=postgresql.ARRAY(column.type)))
    return column.in_(keys)


def look_up(conn: sa.Connection, query: sa.Select[Any], column: sa.Column[Any], keys: Iterable[K]) -> Iterator[Any]:
    """Yield the rows of a query in which a column has one of `keys`, which may be any number; in no order."""
    for part in slices(keys):
        yield from conn.execute(query.where(among(conn, column, part)))


def slices(keys: Iterable[K]) -> Iterator[list[K]]:
    """Yield distinct keys in ascending order, as many at a time as a statement takes."""
    ordered = sorted(set(keys))
    return (ordered[start : start + _SLICE] for start in range(0, len(ordered), _SLICE))
