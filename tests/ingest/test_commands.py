"""`send` without a service: what goes over the wire, and what is said where nothing can go."""

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.core.signature import sign
from app.ingest.samples import SAMPLES
from app.service import commands
from app.settings import SETTINGS
from tests.served import free_port

Type = Callable[..., Result]

SECRET = "s3cret-\u00fcn\u00ef"


@pytest.fixture
def type_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Type:
    """Type a command in an empty folder, with nothing set but the port of nobody."""
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.setenv("PORT", str(free_port()))
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(commands.main, words)


class Listener:
    """Takes one request, and answers it."""

    def __init__(self, answer: bytes) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        self.head, self.body = "", b""
        self._answer = answer
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self.server.accept()
        with connection:
            head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            while len(body) < length:
                body += connection.recv(65536)
            connection.sendall(self._answer)
        self.head, self.body = head.decode(), body

    def close(self) -> None:
        self._thread.join()
        self.server.close()


def listen(type_: Type, answer: bytes, *words: str) -> tuple[Result, Listener]:
    listener = Listener(answer)
    result = type_("send", *words, "--secret", SECRET, "--url", listener.url)
    listener.close()
    return result, listener


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_send_speaks_as_segment_does(type_: Type) -> None:
    result, listener = listen(type_, OK, "identify")
    assert result.output == "identify           200 ok\n"
    request, *lines = listener.head.split("\r\n")
    assert request == "POST /webhooks/segment HTTP/1.1"
    headers = dict(line.split(": ", 1) for line in lines)
    assert headers["user-agent"] == "Segment (Actions)"
    assert headers["content-type"] == "application/json"
    assert headers["x-signature"] == sign(listener.body, SECRET)
    call = json.loads(listener.body)
    assert call["messageId"] == "sample-identify"
    assert listener.body == json.dumps(call, separators=(",", ":")).encode()


def test_a_batch_is_signed_over_its_first_call(type_: Type) -> None:
    result, listener = listen(type_, OK, "sample", "--batch")
    assert result.output == "4 calls            200 ok\n"
    calls = json.loads(listener.body)
    assert [call["messageId"] for call in calls] == [sample["messageId"] for sample in SAMPLES.values()]
    first = json.dumps(calls[0], separators=(",", ":")).encode()
    assert f"x-signature: {sign(first, SECRET)}" in listener.head
    assert listener.body.startswith(b"[" + first + b",")


@pytest.mark.parametrize("status", ["302 Found\r\nLocation: /", "401 Unauthorized", "503 Service Unavailable"])
def test_whatever_is_not_200_is_a_failure_and_no_redirect_is_followed(type_: Type, status: str) -> None:
    result, _ = listen(type_, f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode(), "seats")
    assert result.exit_code == 1
    assert result.output.split() == ["seats", status[:3]]


def test_what_does_not_speak_http_is_said_to(type_: Type) -> None:
    result, _ = listen(type_, b"SSH-2.0\r\n", "seats")
    assert result.exit_code == 1
    assert "does not speak HTTP" in result.stderr


def test_an_answer_does_not_reach_the_terminal_as_it_came(type_: Type) -> None:
    result, _ = listen(type_, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\x1b[2J\xff", "seats")
    assert "\x1b" not in result.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("seats --secret x", "does not answer: Connection refused"),
        ("seats --secret x --url https://127.0.0.1:1/x", "does not answer"),
        ("seats", "there is no secret to sign with"),
        ("nothing.json --secret x", "there is no file 'nothing.json', and no sample of that name"),
        (". --secret x", "cannot be read"),
        ("bad.json --secret x", "bad.json: The body is not JSON"),
        ("empty.json --secret x", "empty.json holds no call"),
        ("list.json --secret x --set 3=1", "there is no '3' to set"),
        ("list.json --secret x --set a.b=1", "there is no 'a' to set"),
    ],
)
def test_what_cannot_be_sent_is_said_in_a_sentence(type_: Type, tmp_path: Path, words: str, said: str) -> None:
    for name, text in {"bad": "{", "empty": "[]", "list": "[[1]]"}.items():
        (tmp_path / f"{name}.json").write_text(text)
    result = type_("send", *words.split())
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words", ["", "seats --secret x --url example.com", "seats --secret x --url http://h:port", "seats --set nothing"]
)
def test_what_is_typed_wrong_is_explained(type_: Type, words: str) -> None:
    result = type_("send", *words.split())
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


def test_the_samples_are_listed(type_: Type) -> None:
    assert [line.split()[0] for line in type_("send", "--list").output.splitlines()] == list(SAMPLES)
