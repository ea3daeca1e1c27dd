"""Commands as an operator types them, on the database and the files of services that run."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.builders import SECRET
from tests.served import ADMIN_TOKEN, ROOT

_SECONDS = 300


class Shell:
    """A shell in a folder of its own. It does not know `LOTUS_API_KEY`, and need not."""

    def __init__(self, url: str, folder: Path) -> None:
        self._folder = folder
        self.transforms = folder / "transforms"
        self.metrics = folder / "metrics"
        for path in (self.transforms, self.metrics):
            path.mkdir(parents=True)
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": url,
            "SEGMENT_SHARED_SECRETS": SECRET,
            "ADMIN_TOKEN": ADMIN_TOKEN,
            "TRANSFORMS_DIR": str(self.transforms),
            "METRICS_DIR": str(self.metrics),
        }

    def begin(self, *words: str, program: str = "app.service") -> "subprocess.Popen[str]":
        """Start a command."""
        return subprocess.Popen(
            [sys.executable, "-m", program, *words],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str) -> str:
        """Run a command to its end; return what it says."""
        process = self.begin(*words)
        output, trouble = process.communicate(timeout=_SECONDS)
        assert process.returncode == 0, trouble
        return output

    def run_each(self, commands: Iterable[Sequence[str]]) -> list[Any]:
        """Run commands in one process, which starts once; return (words, exit code, output, traceback) of each."""
        process = self.begin(program="tests.survival.a_shell")
        output, trouble = process.communicate(json.dumps(list(commands)), timeout=_SECONDS)
        assert process.returncode == 0, trouble
        assert "Traceback" not in trouble, trouble
        return [json.loads(line) for line in output.splitlines()]
