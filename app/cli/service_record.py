"""Where the services of this folder listen: a small file in `var/` for each, so that commands find them.

Its service holds a lock on its file as long as it runs. So a file that a killed service left behind misleads nobody,
even if its process id has been given to another program since.
"""

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import IO, NamedTuple

FOLDER = Path("var")

_EVERY_ADDRESS = {"", "0.0.0.0", "::"}  # noqa: S104  nothing is bound here
_SIZE_MAX = 1000


class ServiceRecord(NamedTuple):
    """One running service."""

    host: str
    """The setting HOST."""
    port: int
    pid: int


class HeldRecord:
    """The record of this process, until it is closed."""

    def __init__(self, path: Path, file: IO[str]) -> None:
        self._path = path
        self._file = file

    def close(self) -> None:
        """Remove the file, and release its lock."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        self._file.close()


def hold_record(host: str, port: int, folder: Path = FOLDER) -> HeldRecord | None:
    """Write the record of this process; None where that is not possible: then commands go by the settings."""
    path = folder / f"service-{port}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Not truncated before it is locked: it may be another's.
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+", encoding="utf-8")
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate()
        json.dump(ServiceRecord(host, port, os.getpid())._asdict(), file)
        file.flush()
    except OSError:
        file.close()
        return None
    return HeldRecord(path, file)


def list_services(folder: Path = FOLDER) -> list[ServiceRecord]:
    """Return the services that run in this folder, the last one to start first."""
    running = []
    for path in folder.glob("service-*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError), path.open(encoding="utf-8") as file:
            started_at = os.fstat(file.fileno()).st_mtime_ns
            if _is_held(file):
                document = json.loads(file.read(_SIZE_MAX))
                record = ServiceRecord(str(document["host"]), int(document["port"]), int(document["pid"]))
                running.append((started_at, record))
    return [record for _, record in sorted(running, reverse=True)]


def _is_held(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


def to_address(host: str, port: int) -> str:
    """Return the address of a service on this machine, given its HOST and PORT."""
    local = "127.0.0.1" if host in _EVERY_ADDRESS else host
    return f"http://{f'[{local}]' if ':' in local else local}:{port}"
