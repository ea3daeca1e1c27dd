"""The first minutes with the program, typed into a real shell: init, migrate, serve, send, log."""

import contextlib
import http.client
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.forked import run_command
from tests.served import ROOT, free_port, wait_until

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")


@dataclass(frozen=True)
class Folder:
    """A folder in which somebody works."""

    path: Path
    port: int

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        own = {"PORT": str(self.port), "TRANSFORMS_DIR": str(ROOT / "transforms"), "PYTHONPATH": str(ROOT)}
        return {**inherited, **own, "WEB_CONCURRENCY": "1"}

    def start(self, *words: str, **settings: str) -> subprocess.Popen[str]:
        """Start a command as a shell does."""
        return subprocess.Popen(
            [sys.executable, "-m", "app.service", *words],
            cwd=self.path,
            env={**self.environment, **settings},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def type(self, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end: forked, since some thirty of them would start for a second each."""
        return run_command(self.path, {**self.environment, **settings}, *words)

    def secret(self) -> str:
        lines = (self.path / ".env").read_text().splitlines()
        return next(line.partition("=")[2] for line in lines if line.startswith("SEGMENT_SHARED_SECRETS="))

    def outcomes(self, *words: str) -> list[str]:
        """The outcomes of the calls in the log, the newest last."""
        return [json.loads(line)["outcome"] for line in self.type("log", "--json", *words).stdout.splitlines()]


def answers(port: int) -> bool:
    """Whether a worker answers; gunicorn listens before it has one."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.closing(connection):
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
    return False


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path, free_port())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """A folder in which the service runs."""
    folder = Folder(tmp_path_factory.mktemp("served"), free_port())
    assert folder.type("init").returncode == 0
    assert folder.type("migrate").returncode == 0
    process = folder.start("serve")
    try:
        # A minute: it is three programs, one after the other, on a machine that may be busy.
        wait_until(lambda: answers(folder.port) or process.poll() is not None, 60)
        yield folder
        # The process that was started is gunicorn's own by now: nobody stands between it and the signal.
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, (stdout, stderr)
    lines = [json.loads(line) for line in stdout.splitlines()]
    assert lines[0]["event"] == "starting"
    assert lines[0]["webhook"] == f"http://127.0.0.1:{folder.port}/webhooks/segment"
    assert folder.secret() not in stdout + stderr
    # For a terminal only: a log is kept, and others read it.
    assert "/sign-in/link" not in stdout + stderr


def test_samples_are_stored_and_sent_again_are_duplicates(served: Folder) -> None:
    first = served.type("send", "sample")
    assert first.returncode == 0, first.stderr
    assert [line.split()[:2] for line in first.stdout.splitlines()] == [
        [name, "200"] for name in ("api_call", "order_completed", "seats", "identify")
    ]
    assert served.outcomes("--limit", "4") == ["stored", "stored", "stored", "ignored"]
    again = served.type("send", "samples", "--batch")
    assert '"received":4' in again.stdout
    assert served.outcomes("--limit", "4") == ["duplicate", "duplicate", "duplicate", "ignored"]
    changed = served.type("send", "api_call", "--set", "properties.input_tokens=9")
    assert '"conflict":1' in changed.stdout


def test_set_changes_what_is_sent(served: Folder) -> None:
    changes = ["messageId=set-1", "properties.tokens=5", "properties.new.deep=[1]", "userId=007", "context.groupId=x y"]
    sent = served.type("send", "seats", *(word for change in changes for word in ("--set", change)))
    assert sent.returncode == 0, sent.stderr
    raw = json.loads(served.type("show", "set-1", "--raw").stdout)
    assert raw["properties"] == {"workspace_id": "acme", "role": "Admin", "tokens": 5, "new": {"deep": [1]}}
    assert (raw["userId"], raw["context"]["groupId"]) == ("007", "x y")


def test_a_file_is_sent_as_it_stands(served: Folder) -> None:
    text = b'{"type": "track",\n "event": "F\xc3\xbc", "messageId": "file-1", "userId": "u", "n": 1.0, "s": "\\ud83d"}'
    (served.path / "call.json").write_bytes(b"\n" + text + b"\n")
    assert served.type("send", "call.json").returncode == 0
    process = served.start("show", "file-1", "--raw")
    assert process.communicate()[0].encode() == text


@pytest.mark.parametrize("batch", [True, False])
def test_the_calls_of_a_file_are_sent_one_by_one_or_as_a_batch(served: Folder, batch: bool) -> None:
    calls = [{"type": "track", "event": "E", "messageId": f"list-{batch}-{at}", "userId": "u"} for at in range(3)]
    (served.path / "calls.json").write_text(json.dumps(calls, indent=1))
    sent = served.type("send", "calls.json", *(["--batch"] if batch else []))
    assert len(sent.stdout.splitlines()) == (1 if batch else 3)
    document = json.loads(served.type("show", f"list-{batch}-2", "--json").stdout)
    assert document["shape"] == ("array" if batch else "single")
    assert document["auth"] == ("first_call" if batch else "signature")


def test_a_wrong_secret_is_refused_and_the_refusal_is_listed(served: Folder) -> None:
    sent = served.type("send", "seats", "--secret", "wrong")
    assert sent.returncode == 1
    assert sent.stdout.startswith("seats              401")
    wait_until(lambda: "signature_mismatch" in served.type("refused").stdout)


def test_following_ends_quietly_with_ctrl_c(served: Folder) -> None:
    process = served.start("log", "--follow", "--event", "Followed", "--json")
    seen = iter(process.stdout or ())
    # It has begun by then or not: the call is shown either way.
    served.type("send", "seats", "--set", "event=Followed", "--set", "messageId=followed")
    assert json.loads(next(seen))["message_id"] == "followed"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (130, "")


def test_a_reader_that_goes_away_is_no_error(served: Folder) -> None:
    served.type("send", "seats", "--set", "messageId=pipe", "--set", f"properties.long={'x' * 100}")
    command = f"{sys.executable} -m app.service log --json --limit 1000 | true"
    done = subprocess.run(
        ["bash", "-c", command], cwd=served.path, env=served.environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


def test_serve_ends_with_a_sentence_where_something_is_missing(folder: Folder) -> None:
    nothing = folder.type("serve")
    assert nothing.returncode == 1
    for name in ("DATABASE_URL", "SEGMENT_SHARED_SECRETS", "ADMIN_TOKEN"):
        assert name in nothing.stderr
    folder.type("init")
    unmigrated = folder.type("serve")
    assert (unmigrated.returncode, "segment-lotus migrate" in unmigrated.stderr) == (1, True)
    folder.type("migrate")
    transforms = folder.path / "transforms"
    transforms.mkdir()
    (transforms / "_default.yaml").write_text("match: [")
    broken = folder.type("serve", TRANSFORMS_DIR=str(transforms))
    assert broken.returncode == 1
    assert broken.stderr.startswith("error: _default.yaml:")
    for done in (nothing, unmigrated, broken):
        assert done.stdout == ""
        assert "Traceback" not in done.stderr


def test_serve_starts_with_what_is_live_and_says_which_file_is_not_used(folder: Folder) -> None:
    folder.type("init")
    folder.type("migrate")
    transforms = folder.path / "transforms"
    shutil.copytree(ROOT / "transforms", transforms)
    names = sorted(path.stem for path in transforms.glob("*.yaml"))
    for text, warned in ((None, False), ("match: [", True)):
        if text is not None:
            (transforms / "seats.yaml").write_text(text)
        process = folder.start("serve", TRANSFORMS_DIR=str(transforms))
        wait_until(lambda: answers(folder.port), 30)
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=30)
        lines = [json.loads(line) for line in stdout.splitlines()]
        assert [line["names"] for line in lines if line["event"] == "transforms published"] == ([] if text else [names])
        assert ("warning: the last good version stays active; seats.yaml:1:9: " in stderr) is warned


def on_a_terminal(folder: Folder, enough: Callable[[str], bool]) -> str:
    """Type `serve` on a terminal; stop it once it has shown enough; return all that it showed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "app.service", "serve"],
        cwd=folder.path,
        env=folder.environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = ""
    until = time.monotonic() + 30
    while time.monotonic() < until and not enough(shown):
        if select.select([ours], [], [], 0.05)[0]:
            shown += os.read(ours, 65536).decode()
    process.terminate()
    process.wait(30)
    os.close(ours)
    return shown


def test_the_command_line_loads_no_web_framework_and_no_server() -> None:
    names = "('flask', 'gevent', 'gunicorn')"
    code = f"import sys, app.service.commands; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
