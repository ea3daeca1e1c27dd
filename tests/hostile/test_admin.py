"""The admin can always come in, and a stranger who guesses stops nobody: against the real service."""

import contextlib
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from app.web.sign_in import DELAY_SECONDS, DELAYED_MAX
from tests.builders import a_document, to_raw
from tests.served import ADMIN_TOKEN, Answer, Served, served, signed, wait_until

GUESSES = 300
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def service(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The service with its two workers."""
    folder = tmp_path_factory.mktemp("admin")
    with served(f"sqlite:///{folder / 'test.db'}", folder) as running:
        yield running


def sign_in(service: Served, token: str, **headers: str) -> Answer:
    return service.request("POST", "/sign-in", urlencode({"token": token, "next": "/"}).encode(), {**FORM, **headers})


def cookie_of(answer: Answer) -> str:
    return answer.headers["set-cookie"].split(";")[0]


def guess(service: Served) -> socket.socket:
    """Send a wrong token; return the connection on which its answer comes."""
    connection = service.socket()
    body = urlencode({"token": "guess", "next": "/"}).encode()
    lines = ["POST /sign-in HTTP/1.1", "Host: x", f"Content-Type: {FORM['Content-Type']}"]
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
    connection.sendall(head.encode() + body)
    return connection


def test_hundreds_of_wrong_tokens_at_once_hold_up_nobody(service: Served) -> None:
    body = to_raw(a_document())
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        connections = [stack.enter_context(contextlib.closing(guess(service))) for _ in range(GUESSES)]
        assert sign_in(service, ADMIN_TOKEN).status == 303
        assert service.post(body, signed(body)).status == 200
        statuses = Counter(int(connection.recv(64).split(b" ")[1]) for connection in connections)
        seconds = time.monotonic() - began
    # Two workers; a wrong token waits for its answer, and beyond a bound it is answered at once.
    assert statuses[401] <= 2 * DELAYED_MAX * (1 + seconds // DELAY_SECONDS)
    assert statuses[401] >= DELAYED_MAX
    assert statuses[401] + statuses[429] == GUESSES
    assert seconds < GUESSES * DELAY_SECONDS / 4, "they do not wait for each other"
    assert sign_in(service, ADMIN_TOKEN).status == 303


def test_a_copied_cookie_opens_nothing_on_any_worker_two_seconds_after_the_sign_out(service: Served) -> None:
    cookie = cookie_of(sign_in(service, ADMIN_TOKEN))
    copy = {"Cookie": cookie}
    page = service.request("GET", "/", headers=copy)
    assert page.status == 200
    csrf = page.body.decode().split('<meta name="csrf" content="')[1].split('"')[0]
    assert service.request("POST", "/sign-out", headers={**copy, "X-CSRF-Token": csrf}).status == 303
    time.sleep(2)
    for path in ("/", "/api/v1/ledger", "/calls", "/setup") * 10:
        assert service.request("GET", path, headers=copy).status == 401


def test_what_a_sender_writes_about_a_proxy_is_noted_and_decides_nothing(service: Served) -> None:
    forged = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example", "X-Forwarded-For": "192.0.2.1"}
    answer = sign_in(service, ADMIN_TOKEN, **forged)
    assert answer.headers["location"] == "/"
    assert "Secure" not in answer.headers["set-cookie"]
    copy = {"Cookie": cookie_of(answer)}
    assert "evil.example" not in service.request("GET", "/setup", headers={**copy, **forged}).body.decode()
    wait_until(lambda: b"X-Forwarded-For" in service.request("GET", "/setup", headers=copy).body)


def test_a_short_token_is_warned_of_on_loopback_and_ends_the_start_elsewhere(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    with served(url, tmp_path / "here", ADMIN_TOKEN="short-one") as running:
        assert sign_in(running, "short-one").status == 303
    [warning] = [line for line in running.lines() if "ADMIN_TOKEN" in line["event"]]
    assert (warning["level"], "short-one" in running.output()) == ("warning", False)
    with served(url, tmp_path / "there", started=False, ADMIN_TOKEN="short-one", HOST="0.0.0.0") as refused:  # noqa: S104
        assert refused.wait() != 0
    assert "ADMIN_TOKEN is missing or shorter than 20 characters" in refused.output()
