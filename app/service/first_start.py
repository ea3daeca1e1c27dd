"""The first start in an empty folder: the shipped transforms and metrics to edit, a database, and `.env`.

`app/service/stock` has a symbolic link to each shipped file; in a wheel, the file itself.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from app.cli.program import DOTENV
from app.service.first_env import write_first_env
from app.settings import SETTINGS, is_loopback, load
from app.store.engine import connect
from app.store.migrate import migrate

UNFINISHED = Path(".env.unfinished")
"""Becomes `.env` as the last step, so that a start that was killed before is repeated."""

STOCK = ("transforms", "metrics")

# What people set to try the program. Any other setting in the environment means that it is configured there.
_INNOCENT = {"HOST", "PORT", "WEB_CONCURRENCY", "TIME_ZONE", "LOG_LEVEL", "LOG_PROPERTIES"}
_STOCK_FOLDER = Path(__file__).with_name("stock")


def is_first_start(environ: Mapping[str, str]) -> bool:
    """Whether `serve` may set up this folder with new secrets.

    It may if there is no `.env` and nothing but hidden files, the environment configures nothing, and the service will
    listen on this machine alone: no node of a deployment gets secrets of its own. Raises SettingInvalid.
    """
    configured = {setting.name for setting in SETTINGS if environ.get(setting.name, "").strip()} - _INNOCENT
    if configured or os.path.lexists(DOTENV) or not is_loopback(load(environ).host):
        return False
    return UNFINISHED.exists() or all(path.name.startswith(".") for path in Path().iterdir())


def prepare_folder() -> None:
    """Set up this folder as `make serve` sets up a checkout. Several processes take turns.

    Raises:
        OSError: a file cannot be written.
        Unavailable: the database cannot be written.

    """
    with _lock():
        if os.path.lexists(DOTENV):
            return
        UNFINISHED.unlink(missing_ok=True)
        write_first_env(UNFINISHED)
        for name in STOCK:
            _copy_stock(name)
        database = connect(load({}, UNFINISHED).database_url)
        try:
            migrate(database)
        finally:
            database.close()
        UNFINISHED.rename(DOTENV)


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """Hold a lock on this folder."""
    descriptor = os.open(".", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _copy_stock(name: str) -> None:
    """Copy a folder of shipped files, complete or not at all, unless there is one of that name."""
    target = Path(name)
    if target.exists():
        return
    partial = Path(f".{name}.unfinished")
    shutil.rmtree(partial, ignore_errors=True)
    # Only the content: an installed file may be read-only.
    shutil.copytree(_STOCK_FOLDER / name, partial, copy_function=shutil.copyfile)
    partial.rename(target)
