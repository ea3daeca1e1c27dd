"""The only place where things are put together. Nothing is built at import."""

import os
import secrets
import sys
import time
from dataclasses import dataclass

from app.catalog import Catalog, read_transforms
from app.core.credentials import Credentials
from app.ingest import Ingest
from app.logs import CallLog
from app.settings import Settings
from app.store.engine import Database, connect
from app.store.ids import Ids
from app.store.writer import Writer
from app.telemetry import Telemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The assembled application: what a process serves with."""

    settings: Settings
    database: Database
    catalog: Catalog
    ids: Ids
    writer: Writer
    ingest: Ingest
    telemetry: Telemetry
    call_log: CallLog


def clock() -> int:
    """Return microseconds since 1970."""
    return time.time_ns() // 1000


def build(settings: Settings) -> Service:
    """Put a service together on a migrated database.

    Raises:
        SettingInvalid: DATABASE_URL is not of a kind we know.
        TransformInvalid: a file in TRANSFORMS_DIR cannot be used.
        Unavailable: the database cannot be reached.

    """
    database = connect(settings.database_url)
    catalog = Catalog(read_transforms(settings.transforms_dir))
    catalog.publish(database, clock)
    ids = Ids(secrets.randbelow)
    telemetry = Telemetry(shared="PROMETHEUS_MULTIPROC_DIR" in os.environ)
    writer = Writer(database, ids, catalog.map_again, telemetry.watch_commit)
    ingest = Ingest(
        credentials=Credentials(
            shared_secrets=settings.segment_shared_secrets,
            bearer_tokens=settings.segment_bearer_tokens,
            basic_auth=settings.segment_basic_auth,
        ),
        require_full_auth=settings.segment_require_full_auth,
        catalog=catalog,
        writer=writer,
        ids=ids,
        clock=clock,
    )
    call_log = CallLog(sys.stdout, level=settings.log_level, properties=settings.log_properties)
    return Service(
        settings=settings,
        database=database,
        catalog=catalog,
        ids=ids,
        writer=writer,
        ingest=ingest,
        telemetry=telemetry,
        call_log=call_log,
    )
