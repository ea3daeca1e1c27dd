"""Asks a vulnerability database about every locked package, and reports. `make audit`.

It never fails: a fault that was found in a library today must not stop the fix of another. The program that asks is
installed into an environment that is thrown away afterwards, so that nothing here depends on it.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SECONDS = 50
LOCK = Path(__file__).parent.parent / "requirements-dev.txt"
"""It holds all that the service runs with, too."""

PROGRAM = "pip-audit>=2.9,<3"


def main() -> None:
    """Ask and report, within SECONDS."""
    try:
        report = ask(LOCK, SECONDS)
    except subprocess.TimeoutExpired:
        print(f"Vulnerabilities: not asked about, since there was no answer within {SECONDS} s.")
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"Vulnerabilities: not asked about, since {PROGRAM} cannot be installed or run here: {error}")
    else:
        print(describe(report))


def ask(lock: Path, seconds: float) -> Mapping[str, Any]:
    """Return what the database says of each package of a lock file, as pip-audit writes it.

    Raises TimeoutExpired after so many seconds, CalledProcessError, OSError, or ValueError where nothing was said.
    """
    run = _runner(time.monotonic() + seconds)
    with tempfile.TemporaryDirectory(prefix="segment-lotus-audit-", ignore_cleanup_errors=True) as folder:
        python, report = Path(folder) / "bin" / "python", Path(folder) / "report.json"
        run(sys.executable, "-m", "venv", folder).check_returncode()
        run(str(python), "-m", "pip", "install", "--quiet", "--retries=1", PROGRAM).check_returncode()
        options = ["--disable-pip", "--require-hashes", "--progress-spinner=off", "--timeout=10", "--format=json"]
        # Its exit code is the same for a vulnerability and for a database that does not answer: the report tells.
        run(str(python), "-m", "pip_audit", *options, f"--requirement={lock}", f"--output={report}")
        if not report.exists():
            raise ValueError("the database cannot be reached")
        document: Mapping[str, Any] = json.loads(report.read_bytes())
        return document


def describe(report: Mapping[str, Any]) -> str:
    """Return a report of pip-audit in words."""
    packages = report["dependencies"]
    unanswered = [package for package in packages if "skip_reason" in package]
    vulnerable = [package for package in packages if package.get("vulns")]
    if len(unanswered) == len(packages):
        reason = unanswered[0]["skip_reason"] if unanswered else "the lock file is empty"
        return f"Vulnerabilities: not asked about, since the database cannot be reached from here: {reason}"
    lines = [
        f"Vulnerabilities: {len(vulnerable)} of {len(packages) - len(unanswered)} locked packages have known ones."
    ]
    for package in vulnerable:
        for fault in package["vulns"]:
            fixed = ", ".join(fault["fix_versions"]) or "no release yet"
            lines.append(f"  {package['name']} {package['version']}: {fault['id']}, fixed in {fixed}")
    if unanswered:
        names = ", ".join(package["name"] for package in unanswered)
        lines.append(f"  {len(unanswered)} could not be asked about: {names}")
    return "\n".join(lines)


def _runner(until: float) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    def run(*command: str) -> subprocess.CompletedProcess[bytes]:
        left = max(0.0, until - time.monotonic())
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=left)

    return run


if __name__ == "__main__":
    main()
