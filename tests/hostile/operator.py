"""What an operator has at hand: the service on a file, and the command line with the service's settings."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from click.testing import CliRunner, Result

from app.service.commands import main
from tests.served import ADMIN_TOKEN, ROOT, Served, served, wait_until


@contextlib.contextmanager
def serving(file: Path, name: str = "service", *, workers: int = 2) -> Iterator[Served]:
    """Run the service on a SQLite file; it stands, and logs, in another folder than that of the file."""
    with served(f"sqlite:///{file}", file.parent.parent / name, WEB_CONCURRENCY=str(workers)) as service:
        # A worker that opens it only after the operator's deed refuses that, and says so in other words.
        wait_until(lambda: all(_has_open(pid, file) for pid in service.worker_pids()))
        yield service


def _has_open(pid: int, file: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return any(link.readlink() == file for link in Path(f"/proc/{pid}/fd").iterdir())
    return False


def type_command(file: Path, *words: str) -> Result:
    """Type a command with the settings of that service."""
    return type_command_for(f"sqlite:///{file}", file.parent.parent, *words)


def type_command_for(database_url: str, folder: Path, *words: str) -> Result:
    """Type a command for a database, in a folder. It runs in this process, which is another than the service's."""
    environment = {
        "DATABASE_URL": database_url,
        "TRANSFORMS_DIR": str(ROOT / "transforms"),
        "SEGMENT_SHARED_SECRETS": "a-secret-of-the-tests",
        "ADMIN_TOKEN": ADMIN_TOKEN,
    }
    with contextlib.chdir(folder):
        return CliRunner(env=environment).invoke(main, words)
