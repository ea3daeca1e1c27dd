"""Every route has a limit, for bodies with a length and for those in chunks: what is beyond it is not held."""

import contextlib
import itertools
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from flask import Flask

from app.service.build import build
from app.service.flask_app import create_app
from app.settings import Settings
from app.store.engine import connect
from app.store.migrate import migrate
from app.transforms.sandboxes import SANDBOXES
from app.web.application import limit_of
from app.web.sessions import CSRF_HEADER
from tests.builders import SECRET
from tests.served import ADMIN_TOKEN, ROOT, Served, served, wait_until

KIB, MIB = 1 << 10, 1 << 20
MAX_BODY = 256 * KIB
KEY = "a-key-of-the-tests"

GROWTH_MAX = 40 * MIB
"""What a worker may grow by while it is sent gigabytes."""

REFUSED_BY_HEAD = {401, 403}

FORM, JSON = "application/x-www-form-urlencoded", "application/json"
MULTIPART = "multipart/form-data; boundary=x"


class Way(NamedTuple):
    """How a body is sent."""

    content_type: str
    chunked: bool


WAYS = [Way(kind, chunked) for kind in (FORM, JSON, MULTIPART) for chunked in (False, True)]


class Target(NamedTuple):
    """A route as it is called."""

    method: str
    path: str
    limit: int


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("limits")
    with served(
        f"sqlite:///{folder / 'test.db'}",
        folder,
        WEB_CONCURRENCY="1",
        MAX_BODY_BYTES=str(MAX_BODY),
        SEGMENT_WRITE_KEYS=KEY,
        LOTUS_INGEST_KEYS=KEY,
    ) as service:
        yield service


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """The application as it is served, to read its routes."""
    folder = tmp_path_factory.mktemp("routes")
    database = connect(f"sqlite:///{folder / 'test.db'}")
    migrate(database)
    database.close()
    service = build(
        Settings(
            database_url=f"sqlite:///{folder / 'test.db'}",
            admin_token=ADMIN_TOKEN,
            segment_shared_secrets=(SECRET,),
            max_body_bytes=MAX_BODY,
            transforms_dir=ROOT / "transforms",
        )
    )
    app = create_app(service)
    yield app
    app.extensions[SANDBOXES].close()
    service.database.close()


@pytest.fixture(scope="module")
def session(service: Served) -> dict[str, str]:
    """The headers of somebody who is signed in."""
    answer = service.request("POST", "/sign-in", f"token={ADMIN_TOKEN}".encode(), {"Content-Type": FORM})
    cookie = {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
    page = service.request("GET", "/setup", headers=cookie).body.decode()
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found is not None
    return {**cookie, CSRF_HEADER: found[1]}


def targets(app: Flask) -> list[Target]:
    """Return every route with each of its methods."""
    made = []
    for rule in app.url_map.iter_rules():
        limit = limit_of(app.view_functions[rule.endpoint])
        # A door has its own: no more than MAX_BODY_BYTES.
        most = MAX_BODY if limit is None else limit.most
        path = re.sub(r"<[^>]*>", "1", rule.rule)
        made += [Target(method, path, most) for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})]
    return made


def send(service: Served, target: Target, size: int, way: Way, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """Send a body as far as it is taken; return the status of the answer and all of it."""
    lines = [f"{target.method} {target.path} HTTP/1.1", "Host: x", f"Content-Type: {way.content_type}"]
    lines.append("Transfer-Encoding: chunked" if way.chunked else f"Content-Length: {size}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    answer = b""
    with service.socket(20) as connection, contextlib.suppress(OSError):
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        with contextlib.suppress(OSError):
            while size:
                part = b"x" * min(size, 64 * KIB)
                size -= len(part)
                connection.sendall(b"%x\r\n%b\r\n" % (len(part), part) if way.chunked else part)
            connection.sendall(b"0\r\n\r\n" if way.chunked else b"")
            connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(65536):
            answer += part
    status = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    return int(status[1]) if status else 0, answer


def memory(service: Served) -> int:
    """Return the most bytes that the worker ever had."""
    [pid] = service.worker_pids()
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * KIB


def test_no_route_takes_a_body_beyond_its_limit_however_it_is_sent(
    service: Served, application: Flask, session: dict[str, str]
) -> None:
    every = targets(application)
    assert len(every) > 60
    token = {"Authorization": f"Bearer {ADMIN_TOKEN}", "X-API-KEY": KEY}
    # The signature cannot be seen to be wrong before the body is there.
    cookie = {**session, "X-API-KEY": KEY, "X-Signature": "0" * 40}
    before = memory(service)
    sent = 0
    wrong = []
    for target, way in itertools.product(every, WAYS):
        # Segment's own status for what is too large on its tracking API is 400.
        too_large = 400 if target.path.startswith("/v1/") else 413
        size = target.limit + 128 * KIB
        statuses = [send(service, target, size, way, headers)[0] for headers in (token, cookie)]
        sent += size * len(statuses)
        if too_large not in statuses or not set(statuses) <= REFUSED_BY_HEAD | {too_large}:
            wrong.append((target, way, statuses))
    for target in every:
        status, _ = send(service, target, target.limit + 128 * KIB, WAYS[1], {})
        if status not in {400, 413, *REFUSED_BY_HEAD}:
            wrong.append((target, WAYS[1], [status]))
    assert wrong == []
    assert memory(service) - before < GROWTH_MAX
    print(f"{len(every)} routes, {sent / MIB:.0f} MB, {(memory(service) - before) / MIB:.1f} MB more")  # noqa: T201


def test_sixty_megabytes_for_the_sign_in_form_by_a_stranger_cost_no_memory(service: Served) -> None:
    target = Target("POST", "/sign-in", 0)
    before = memory(service)
    for way in WAYS:
        status, _ = send(service, target, 60 * MIB, way, {})
        # Where the connection is closed in the middle of what it sends, the sender may not hear the answer.
        assert status in {413, 0}
    assert memory(service) - before < GROWTH_MAX
    assert service.request("POST", "/sign-in", b"token=x", {"Content-Type": FORM}).status == 401


def test_nothing_takes_files(service: Served, session: dict[str, str]) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="token"; filename="f"\r\n\r\n'
        + ADMIN_TOKEN.encode()
        + b"\r\n--x--\r\n"
    )
    for path in ("/sign-in", "/sign-out", "/replays", "/deliveries/retry", "/transforms/api_call"):
        for headers in (session, {name: value for name, value in session.items() if name != CSRF_HEADER}):
            answer = service.request("POST", path, body, {"Content-Type": MULTIPART, **headers})
            assert answer.status in {415, 405}, path
    answer = service.request("POST", "/sign-in", body, {"Content-Type": MULTIPART})
    assert (answer.status, "set-cookie" in answer.headers) == (415, False)


def test_a_form_fits_with_the_longest_token_and_place(service: Served) -> None:
    form = f"token={'%C3%BC' * 500}&next=%2F{'x' * 890}".encode()
    answer = service.request("POST", "/sign-in", form, {"Content-Type": FORM})
    assert answer.status == 401
    assert b"This is not the admin token." in answer.body
    for place, kept in (("/calls?event=" + "x" * 500, True), ("/calls?event=" + "x" * 1000, False)):
        page = service.request("GET", f"/sign-in?next={place}").body
        assert (b"x" * 500 in page) is kept
        assert service.request("GET", place).status == 401


@pytest.mark.parametrize(
    "framed", [b"zz\r\nabc\r\n0\r\n\r\n", b"\r\nabc", b"5\r\na", b"-1\r\n\r\n", b"3\r\nabcdef\r\n"]
)
def test_a_body_in_broken_chunks_leaves_no_traceback_in_the_log(
    service: Served, application: Flask, session: dict[str, str], framed: bytes
) -> None:
    for target in targets(application):
        if target.method == "GET":
            continue
        lines = [f"{target.method} {target.path} HTTP/1.1", "Host: x", f"Content-Type: {FORM}"]
        lines += ["Transfer-Encoding: chunked", f"X-Signature: {'0' * 40}", f"X-API-KEY: {KEY}"]
        lines += [f"{name}: {value}" for name, value in session.items()]
        with service.socket(10) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode() + framed)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65536)
        assert answer.startswith((b"HTTP/1.1 503", b"HTTP/1.1 400", b"HTTP/1.1 405")), (target, answer)
        assert b"Connection: close" in answer, target
    wait_until(lambda: service.get("/healthz").status == 200)
    assert "Traceback" not in service.output()
