"""What it takes to look at what is stored, and to map by it: a database and the versions in it."""

from dataclasses import dataclass

from app.catalog.live import Catalog, build_catalog
from app.store.engine import Database, connect


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """What it takes to look at what is stored: no transform files, no writer."""

    database: Database
    catalog: Catalog
    """Knows the versions in the database; none is active."""


def connect_backend(database_url: str, pseudonym_key: str, *, bulk: bool = False, serving: bool = False) -> Backend:
    """Put together what looks at a database, or goes through all of it (`bulk`). Its connections are its own.

    `serving`: it looks for somebody who sent a request.

    Raises:
        SettingInvalid: DATABASE_URL is not of a kind we know.

    """
    database = connect(database_url, bulk=bulk, serving=serving)
    return Backend(database=database, catalog=build_catalog(pseudonym_key))
