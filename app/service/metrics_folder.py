"""The folder of the counters that all processes of a service share, and the removal of abandoned ones.

A killed process removes nothing, and /dev/shm is memory. So gunicorn's first process holds a lock in its folder, which
its workers inherit: the kernel releases it when the last of them has ended, however it ended. The next start removes
the folders whose lock nobody holds. Process ids would not do: they are reused, and mean nothing in another container.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "segment-lotus-metrics-"
LOCK = "service.lock"


def make_metrics_folder(parent: Path) -> Path:
    """Make a folder in `parent`, locked until this process and all that it forks have ended. Raises OSError."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = folder / LOCK
        descriptor = os.open(lock, os.O_CREAT | os.O_WRONLY, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Another start may have found the lock not yet held, and removed the folder as abandoned.
        if lock.exists():
            return folder
        os.close(descriptor)


def remove_abandoned(parent: Path) -> None:
    """Remove the folders in `parent` that killed services left behind, if this user may.

    One without a lock file stays: an older version of the service may be running with it.
    """
    for lock in parent.glob(f"{PREFIX}*/{LOCK}"):
        # It is held, another user's, or going away.
        with contextlib.suppress(OSError):
            descriptor = os.open(lock, os.O_WRONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
            finally:
                os.close(descriptor)
