"""Migrated PostgreSQL databases that tests use one after another: emptying one costs a tenth of making one."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy as sa

# What a test may have made different beside the rows of tables. Object ids are the same in each copy of a template.
_SHAPE = """
SELECT md5(concat_ws('/',
    (SELECT string_agg(version_num, ' ') FROM alembic_version),
    (SELECT string_agg(row(oid, relname, relkind, relowner, relacl, reloptions, relrowsecurity)::text, ' ' ORDER BY oid)
        FROM pg_class WHERE relnamespace = 'public'::regnamespace),
    (SELECT string_agg(a::text, ' ' ORDER BY attrelid, attnum)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE c.relnamespace = 'public'::regnamespace),
    (SELECT string_agg(d::text, ' ' ORDER BY d.oid) FROM pg_attrdef d),
    (SELECT string_agg(k::text, ' ' ORDER BY k.oid) FROM pg_constraint k WHERE connamespace = 'public'::regnamespace),
    (SELECT string_agg(i::text, ' ' ORDER BY indexrelid)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = 'public'::regnamespace),
    (SELECT string_agg(t::text, ' ' ORDER BY t.oid) FROM pg_trigger t),
    (SELECT string_agg(p::text, ' ' ORDER BY p.oid) FROM pg_proc p WHERE pronamespace = 'public'::regnamespace),
    (SELECT string_agg(nspname, ' ' ORDER BY oid) FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_temp%'
        AND nspname NOT LIKE 'pg\\_toast\\_temp%'),
    (SELECT string_agg(s::text, ' ' ORDER BY setrole) FROM pg_db_role_setting s
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())),
    (SELECT row(datallowconn, datconnlimit)::text FROM pg_database WHERE datname = current_database()),
    (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()),
    (SELECT count(*) FROM pg_stats WHERE schemaname = 'public')
))
"""
# Also a row that was rolled back takes room in its table.
_FILLED = """
SELECT string_agg(oid::regclass::text, ', ') FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'
    AND pg_relation_size(oid) > 0
"""
# Waits until they are gone, as dropping a database by force does.
_ALONE = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def named(url: str, database: str) -> str:
    """Return the SQLAlchemy URL of another database of the same server."""
    return sa.make_url(url).set(database=database).render_as_string(hide_password=False)


def session(url: str) -> psycopg.Connection:
    """Connect to the database of a SQLAlchemy URL; each statement is a transaction of its own."""
    libpq = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(libpq, autocommit=True)


class Pool:
    """Copies of a migrated database. A test has one to itself, and finds it as the template is."""

    def __init__(self, url: str, template: str) -> None:
        """`url`: of the server, for SQLAlchemy; `template`: the name of a database that nobody is connected to."""
        self._url = url
        self._template = template
        self._free: list[str] = []
        self._made = 0
        with session(named(url, template)) as conn:
            self._shape = _shape(conn)

    @contextmanager
    def database(self) -> Iterator[str]:
        """Give the SQLAlchemy URL of a database that holds nothing, until the end of the block."""
        name = self._free.pop() if self._free else self._make()
        url = named(self._url, name)
        try:
            yield url
        finally:
            if self._emptied(url):
                self._free.append(name)
            else:
                self._drop(name)

    def close(self) -> None:
        """Drop them all."""
        while self._free:
            self._drop(self._free.pop())

    def _make(self) -> str:
        self._made += 1
        name = f"{self._template}_{self._made}"
        with session(self._url) as conn:
            conn.execute(f'CREATE DATABASE "{name}" TEMPLATE "{self._template}"')
        return name

    def _drop(self, name: str) -> None:
        with session(self._url) as conn:
            conn.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _emptied(self, url: str) -> bool:
        """Empty all tables, and tell whether nothing else is different from the template."""
        try:
            with session(url) as conn:
                conn.execute(_ALONE)
                if _shape(conn) != self._shape:
                    return False
                (filled,) = conn.execute(_FILLED).fetchone() or (None,)
                if filled:
                    conn.execute(f"TRUNCATE {filled} CASCADE")
        except psycopg.Error:
            return False
        return True


def _shape(conn: psycopg.Connection) -> object:
    return conn.execute(_SHAPE).fetchone()
