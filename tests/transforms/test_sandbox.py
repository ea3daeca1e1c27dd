"""The sandbox: no draft, however bad, slows or stops a webhook request; and what is killed takes nothing with it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.errors import TransformInvalid, Unavailable
from app.store.engine import connect
from app.transforms.sandbox.client import Sandbox, SandboxFailed
from app.transforms.sandbox.wire import Setup
from tests.builders import DEFAULT_TEXT, a_document, published, some_transforms, to_raw
from tests.served import ADMIN_TOKEN, ROOT, Served, served, wait_until

NUMBERS = list(range(200))

# One call takes all the steps that the engine gives it, which is more than a second; then there are the examples.
ENDLESS = "match: {event: API Call}\neach: properties.n\nevent:\n  properties:\n"
ENDLESS += "".join(f"    p{number}: length(root().properties.n[*].root().properties.n[])\n" for number in range(100))
ENDLESS += f"examples:\n  - given: &given {{properties: {{n: {NUMBERS}}}}}\n    expect: rejected\n"
ENDLESS += "  - {given: *given, expect: rejected}\n" * 40

# To read a text takes time and memory, before anybody knows what it says.
LONG = "description: [" + "[], " * 60_000 + "]\n"

CALL = json.dumps(a_document(properties={"n": NUMBERS}))

BAD = {"endless": ENDLESS, "long": LONG}


def asked(text: str, call: str = CALL) -> bytes:
    return json.dumps({"text": text, "call": call}).encode()


GOOD = asked("match: {event: API Call}\n")


def is_alive(pid: int) -> bool:
    """Whether there is such a process, which is no zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.fixture
def make_sandbox(tmp_path: Path, migrated_sqlite_url: str) -> Iterator[Callable[..., Sandbox]]:
    """Makes a sandbox on a database in which a `_default` is live."""
    database = connect(migrated_sqlite_url)
    published(database, some_transforms())
    database.close()
    made: list[Sandbox] = []

    def make(**settings: Any) -> Sandbox:
        values = {
            "database_url": migrated_sqlite_url,
            "transforms_dir": str(tmp_path),
            "pseudonym_key": "",
            "idle_seconds": 60,
            "memory_bytes": 768 << 20,
            **settings,
        }
        made.append(Sandbox(Setup(**values)))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def sandbox(make_sandbox: Callable[..., Sandbox]) -> Sandbox:
    return make_sandbox()


def preview(sandbox: Sandbox, asked: bytes = GOOD, seconds: int = 20) -> Any:
    return json.loads(sandbox.ask("preview", "api_call", asked, seconds))


def test_one_process_serves_one_job_after_the_other(sandbox: Sandbox) -> None:
    assert not sandbox._child
    assert preview(sandbox)["draft"]["events"]
    first = sandbox.pid
    assert first is not None
    assert preview(sandbox)["draft"]["events"]
    assert sandbox.pid == first
    sandbox.close()
    assert not is_alive(first)


def test_a_draft_that_takes_too_long_is_killed_and_the_next_preview_works(sandbox: Sandbox) -> None:
    preview(sandbox)
    first = sandbox.pid
    assert first is not None
    with pytest.raises(TransformInvalid, match="this takes longer than 1 second and was stopped"):
        preview(sandbox, asked(ENDLESS), seconds=1)
    assert not is_alive(first)
    assert preview(sandbox)["draft"]["events"]
    assert sandbox.pid != first


def test_a_draft_that_takes_too_much_memory_is_stopped_and_the_next_preview_works(
    make_sandbox: Callable[..., Sandbox],
) -> None:
    usual = make_sandbox()
    preview(usual)
    status = Path(f"/proc/{usual.pid}/status").read_text().split()
    sandbox = make_sandbox(memory_bytes=(int(status[status.index("VmSize:") + 1]) << 10) + (8 << 20))
    with pytest.raises(TransformInvalid, match=r"needs (more|too much) memory"):
        preview(sandbox, asked(LONG))
    assert preview(sandbox)["draft"]["events"]


def test_it_works_at_a_lower_priority_and_within_a_limit_of_memory(sandbox: Sandbox) -> None:
    preview(sandbox)
    assert sandbox.pid is not None
    assert os.getpriority(os.PRIO_PROCESS, sandbox.pid) > os.getpriority(os.PRIO_PROCESS, 0)
    limits = Path(f"/proc/{sandbox.pid}/limits").read_text()
    line = next(line for line in limits.splitlines() if line.startswith("Max address space"))
    assert "unlimited" not in line


def test_after_a_time_without_jobs_it_ends_and_comes_back_when_it_is_asked(
    make_sandbox: Callable[..., Sandbox],
) -> None:
    sandbox = make_sandbox(idle_seconds=1)
    preview(sandbox)
    first = sandbox.pid
    assert first is not None
    wait_until(lambda: not is_alive(first))
    assert preview(sandbox)["draft"]["events"]
    assert sandbox.pid != first


def test_a_process_that_was_killed_from_outside_is_started_anew(sandbox: Sandbox) -> None:
    sandbox.warm()
    preview(sandbox)
    first = sandbox._child
    assert first is not None
    os.kill(first.process.pid, signal.SIGKILL)
    # Not the state in /proc: a process of several threads is a zombie a little before it can be waited for.
    wait_until(lambda: first.process.poll() is not None)
    assert preview(sandbox)["draft"]["events"]


def test_many_at_once_are_served_in_turn_or_told_to_come_back(sandbox: Sandbox) -> None:
    def ask(_number: int) -> str:
        try:
            return str(preview(sandbox)["draft"]["outcome"])
        except Unavailable as error:
            return error.message

    with ThreadPoolExecutor(20) as threads:
        said = set(threads.map(ask, range(40)))
    assert said <= {"stored", "too many previews are waiting; try again in a moment"}
    assert "stored" in said
    assert preview(sandbox)["draft"]["events"]


def test_a_fault_of_ours_is_for_the_log_and_the_next_preview_works(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxFailed, match="Traceback"):
        sandbox.ask("preview", "api_call", b"no JSON", 20)
    assert preview(sandbox)["draft"]["events"]


def test_without_its_database_it_says_so_and_goes_on_when_it_is_back(
    make_sandbox: Callable[..., Sandbox], migrated_sqlite_url: str
) -> None:
    database = connect(migrated_sqlite_url)

    def rename(before: str, after: str) -> None:
        with database.writing() as conn:
            conn.execute(sa.text(f"ALTER TABLE {before} RENAME TO {after}"))

    rename("publications", "away")
    sandbox = make_sandbox()
    with pytest.raises(Unavailable):
        preview(sandbox)
    rename("away", "publications")
    database.close()
    assert preview(sandbox)["draft"]["events"]


@pytest.mark.parametrize("busy", [False, True])
def test_it_ends_with_whoever_started_it_even_in_the_middle_of_a_job(
    tmp_path: Path, migrated_sqlite_url: str, *, busy: bool
) -> None:
    program = f"""
import sys, threading, time
from app.transforms.sandbox.client import Sandbox
from app.transforms.sandbox.wire import Setup
sandbox = Sandbox(Setup(database_url={migrated_sqlite_url!r}, transforms_dir={str(tmp_path)!r}, pseudonym_key="",
                        idle_seconds=60, memory_bytes=768 << 20))
sandbox.warm()
if {busy}:
    asked = sys.stdin.buffer.read()
    threading.Thread(target=lambda: sandbox.ask("preview", "api_call", asked, 60), daemon=True).start()
    time.sleep(1)
print(sandbox.pid, flush=True)
time.sleep(60)
"""
    database = connect(migrated_sqlite_url)
    published(database, some_transforms())
    database.close()
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(asked(ENDLESS))
        parent.stdin.close()
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.kill()
        wait_until(lambda: not is_alive(pid))


# --- Below the real gunicorn


def serving(folder: Path) -> contextlib.AbstractContextManager[Served]:
    """Run the real service, with one worker: whoever slows that slows all."""
    transforms = folder / "transforms"
    transforms.mkdir()
    (transforms / "_default.yaml").write_text(DEFAULT_TEXT)
    return served(f"sqlite:///{folder / 'test.db'}", folder, TRANSFORMS_DIR=str(transforms), WEB_CONCURRENCY="1")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Served]:
    """A service of the test's own."""
    with serving(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service that has to stand one bad text after the other; no test publishes anything in it."""
    with serving(tmp_path_factory.mktemp("lasting")) as running:
        yield running


def do(service: Served, act: str, body: bytes) -> tuple[int, Any]:
    answer = service.request(
        "POST", f"/api/v1/transforms/api_call/{act}", body, {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    )
    return answer.status, answer.json


def children_of(pid: int) -> set[int]:
    table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [line.split() for line in table.splitlines()]
    return {int(child) for child, parent in pairs if int(parent) == pid}


def sandboxes_of(service: Served) -> set[int]:
    return {child for worker in service.worker_pids() for child in children_of(worker)}


_CALLS = count()


def stored(service: Served) -> int:
    """Return how many calls the service has stored."""
    return int(service.get("/api/v1/ledger", ADMIN_TOKEN).json["calls"]["stored"])


@contextlib.contextmanager
def sending(service: Served) -> Iterator[list[int]]:
    """Send calls all the time, one soon after the other; gives the statuses."""
    statuses: list[int] = []
    done = threading.Event()

    def send() -> None:
        # Without a pause it would take what the bad text and its process need.
        while not done.wait(0.005):
            statuses.append(service.post(to_raw(a_document(messageId=f"m-{next(_CALLS)}"))).status)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield statuses
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_draft_neither_slows_nor_stops_a_webhook_request(lasting: Served, bad: str) -> None:
    before = stored(lasting)
    with sending(lasting) as statuses:
        wait_until(lambda: len(statuses) > 5)
        status, told = do(lasting, "preview", asked(BAD[bad]))
        # A fast machine is through with the long one before its time is over.
        assert status == 400 or bad == "long"
        assert status == 200 or "was stopped" in told["message"]
        seen = len(statuses)
        assert seen > 20
        # The next one works, and calls go on.
        status, told = do(lasting, "preview", GOOD)
        assert (status, told["draft"]["outcome"]) == (200, "stored")
    assert set(statuses) == {200}
    assert stored(lasting) - before == len(statuses)


@pytest.mark.parametrize("bad", BAD)
def test_a_text_that_takes_long_is_not_published_and_nothing_waits_for_it(lasting: Served, bad: str) -> None:
    with sending(lasting) as statuses:
        wait_until(lambda: len(statuses) > 5)
        status, told = do(lasting, "publish", json.dumps({"text": BAD[bad], "live": None}).encode())
        assert (status, told["code"]) == (400, "transform_invalid")
        # Somebody else's preview does not wait for it either: it has a process of its own.
        assert do(lasting, "preview", GOOD)[0] == 200
    assert set(statuses) == {200}
    found = lasting.get("/api/v1/transforms/api_call", ADMIN_TOKEN).json
    assert found["live"] is None


def test_a_text_that_takes_long_on_a_stored_call_is_not_published(service: Served) -> None:
    service.post(to_raw(a_document(messageId="m-1", properties={"n": NUMBERS})))
    slow = ENDLESS.partition("examples:")[0]
    status, told = do(service, "publish", json.dumps({"text": slow, "live": None}).encode())
    assert (status, told["code"]) == (400, "transform_invalid")
    assert "api_call is not published: mapping call " in told["message"]
    assert ", one of the newest, takes " in told["message"]
    # A text is tried on the calls that it takes.
    other = slow.replace("event: API Call", "event: Other")
    assert do(service, "publish", json.dumps({"text": other, "live": None}).encode())[0] == 200


def test_what_is_published_is_soon_what_calls_are_mapped_by(service: Served) -> None:
    text = "match: {event: API Call}\nevent: {event_name: {const: mine}}\n"
    status, told = do(service, "publish", json.dumps({"text": text, "live": None}).encode())
    assert (status, told["inheriting"]) == (200, [])
    numbers = count()

    def is_mapped() -> bool:
        service.post(to_raw(a_document(messageId=f"m-{next(numbers)}")))
        event = service.get("/api/v1/events?limit=1", ADMIN_TOKEN).json["events"][0]
        return bool((event["event_name"], event["transform_digest"]) == ("mine", told["version"]))

    wait_until(is_mapped)


def test_previews_do_not_wait_for_an_impact_that_takes_long(service: Served) -> None:
    # Each takes about half a second before it is refused.
    for number in range(10):
        service.post(to_raw(a_document(messageId=f"m-{number}", properties={"n": NUMBERS})))
    with ThreadPoolExecutor(1) as threads:
        impact = threads.submit(do, service, "impact", json.dumps({"text": ENDLESS}).encode())
        wait_until(lambda: len(sandboxes_of(service)) == 1)
        assert do(service, "preview", GOOD)[0] == 200
        assert not impact.done()
        status, told = impact.result()
    assert (status, told["calls"]) == (200, 10)


def test_a_service_that_stops_takes_its_sandboxes_with_it(service: Served) -> None:
    assert do(service, "preview", GOOD)[0] == 200
    found = sandboxes_of(service)
    assert len(found) == 1
    service.term()
    assert service.wait() == 0
    wait_until(lambda: not any(is_alive(pid) for pid in found))


def test_a_worker_that_is_killed_takes_its_sandbox_with_it_and_the_next_worker_has_another(service: Served) -> None:
    assert do(service, "preview", GOOD)[0] == 200
    found = sandboxes_of(service)
    for worker in service.worker_pids():
        os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not any(is_alive(pid) for pid in found))
    until = time.monotonic() + 30
    while True:
        try:
            status, _ = do(service, "preview", GOOD)
            break
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.2)
    assert status == 200
