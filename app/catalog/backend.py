"""What reading and mapping stored calls needs: a database, and the versions in it."""

from dataclasses import dataclass

from app.catalog.live import Catalog, build_catalog
from app.store.engine import Database, connect


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A database and its versions, without transform files or a writer."""

    database: Database
    catalog: Catalog
    """Finds the versions in the database; none is active."""


def connect_backend(database_url: str, pseudonym_key: str, *, bulk: bool = False, serving: bool = False) -> Backend:
    """Return a backend with connections of its own.

    `bulk`: it processes the whole database. `serving`: a request waits for its answers.

    Raises:
        SettingInvalid: DATABASE_URL names no supported database.

    """
    database = connect(database_url, bulk=bulk, serving=serving)
    return Backend(database=database, catalog=build_catalog(pseudonym_key))
