"""Migrates a database to the schema of this program."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError

from app.errors import SettingInvalid
from app.store.engine import Database

# An arbitrary constant: nodes that migrate at the same time take turns. Not used for ingestion.
_ADVISORY_LOCK = 7_316_841


def migrate(database: Database) -> str:
    """Apply all missing migrations in one transaction; return the resulting revision.

    Creates a SQLite file that does not exist.

    Raises:
        Unavailable: the database cannot be reached, is locked, or was deleted.
        SettingInvalid: the database is newer than this program.

    """
    database.create()
    with database.writing() as conn:
        if conn.dialect.name == "postgresql":
            conn.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        with _config(conn) as config:
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise SettingInvalid(
                    "the database in DATABASE_URL was migrated by a newer version of this program"
                ) from error
        return find_revision(conn) or ""


def is_current(conn: sa.Connection) -> bool:
    """Tell whether the database has the schema of this program."""
    return find_revision(conn) == ScriptDirectory(str(_FOLDER)).get_current_head()


_FOLDER = Path(__file__).parent / "migrations"


@contextlib.contextmanager
def _config(conn: sa.Connection) -> Iterator[Config]:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = conn
    yield config


def find_revision(conn: sa.Connection) -> str | None:
    """Return the revision of the schema; None if this program did not make it."""
    return MigrationContext.configure(conn).get_current_revision()
