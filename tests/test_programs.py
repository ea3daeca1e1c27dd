"""What tests need of a machine, and who sees to it: a test skips without it, CI installs it and fails without it."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.browser.conftest import CHROMIUM
from tests.programs import find_program, require_program
from tests.served import ROOT

SKIPPED = "def test_it():\n    from tests.programs import require_program\n    require_program('no-such-program')\n"


def run(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_skipped.py").write_text(SKIPPED)
    inherited = {name: text for name, text in os.environ.items() if name not in {"CI", "PYTEST_ADDOPTS"}}
    command = [sys.executable, "-m", "pytest", "-p", "tests.programs", "-rs", "--rootdir", str(folder), str(folder)]
    return subprocess.run(
        command,
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_its_program_a_test_is_skipped_with_a_line_and_in_ci_it_fails(tmp_path: Path) -> None:
    here, in_ci = run(tmp_path), run(tmp_path, CI="1")
    assert here.returncode == 0
    assert "needs no-such-program: install it" in here.stdout
    assert in_ci.returncode == 1
    assert "needs no-such-program" in in_ci.stdout
    assert "1 failed" in in_ci.stdout


def test_the_first_program_that_is_there_is_taken() -> None:
    assert find_program("no-such-program", "sh") == require_program("sh")
    assert find_program("no-such-program") is None


def test_ci_installs_each_program_that_a_test_needs() -> None:
    installed = set(re.findall(r"\[([a-z0-9-]+)\]=", (ROOT / ".ci" / "run").read_text()))
    texts = [file.read_text() for file in (ROOT / "tests").rglob("*.py") if file != Path(__file__)]
    needed = {CHROMIUM[0]}.union(*(re.findall(r'require_program\("([a-z0-9-]+)"', text) for text in texts))
    assert {"mount", "strace"} <= needed
    assert needed <= installed


def test_ci_ends_with_the_tests() -> None:
    # What reads its output takes pytest's closing line for the result.
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("\nmake test")
