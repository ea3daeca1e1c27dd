"""The fuzzers at a small size, each as it runs by hand: `make fuzz` is the same at a large one."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.served import ROOT

# A run takes ten seconds on a quiet machine. On one with a load of twenty it takes minutes, and does not hang.
SECONDS = 400
pytestmark = pytest.mark.timeout(SECONDS + 20)

SMALL = ("--each-kind", "1", "--commands", "4")
NONE = ("--bodies", "0", "--routes", "0", "--wire", "0")


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the fuzzers in a process of their own: its memory is measured, and its log is looked at."""
    command = [sys.executable, "-m", "tools.fuzz", *NONE, "--folder", str(folder / "fuzz"), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)


def assert_faultless(done: subprocess.CompletedProcess[str]) -> None:
    """Fail with all that the fuzzers said."""
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    assert "0 kinds of faults" in done.stdout


def test_no_body_breaks_what_takes_it_or_what_looks_at_it_later(tmp_path: Path) -> None:
    assert_faultless(run(tmp_path, "--bodies", "500", *SMALL))


def test_no_body_breaks_it_on_postgresql_either(tmp_path: Path, postgres_database_url: str) -> None:
    assert_faultless(run(tmp_path, "--bodies", "150", *SMALL, "--database-url", postgres_database_url))


def test_no_request_to_any_route_breaks_it(tmp_path: Path) -> None:
    assert_faultless(run(tmp_path, "--routes", "2500"))


def test_no_bytes_on_a_connection_break_it_or_stop_a_good_sender(tmp_path: Path) -> None:
    assert_faultless(run(tmp_path, "--wire", "200"))
