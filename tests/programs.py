"""Programs and rights of the machine that some tests need: without them a test is skipped, and in CI it fails.

`.ci/run` installs the programs. A test that CI skips in silence is one that nobody runs.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

# Where Debian has servers and what only root needs; not everybody's PATH has it.
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def find_program(*names: str) -> str | None:
    """Return the path of the first of these programs that is installed; None without any."""
    paths = (shutil.which(name, path=_PATH) for name in names)
    return next((path for path in paths if path is not None), None)


def require_program(*names: str) -> str:
    """Return the path of the first of these programs that is installed; without any, skip the test."""
    path = find_program(*names)
    if path is None:
        pytest.skip(f"needs {names[0]}: install it to run this test")
    return path


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Give a disk of so many bytes; skip the test where this user may not mount one."""
    folder.mkdir()
    mounted = subprocess.run(
        [require_program("mount"), "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a skipped test fail in CI."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        *_, reason = report.longrepr if isinstance(report.longrepr, tuple) else (report.longrepr,)
        report.outcome = "failed"
        report.longrepr = f"{reason}. In CI no test is skipped: .ci/run has to install what it needs."
    return report
