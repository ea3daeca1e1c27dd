"""The tracking APIs on the wire: gunicorn, and what real clients sent, byte for byte."""

import contextlib
import gzip
from collections.abc import Iterator

import pytest

from tests.builders import a_document, to_raw
from tests.ingest.test_tracking import CAPTURED
from tests.served import ADMIN_TOKEN, Served, served, wait_until

LOTUS = CAPTURED.parent / "lotus"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("wire-apis")
    url = f"sqlite:///{folder / 'test.db'}"
    with served(url, folder, SEGMENT_WRITE_KEYS="WRITEKEY123", LOTUS_INGEST_KEYS="INGESTKEY123") as running:
        yield running


def speak(service: Served, sent: bytes) -> tuple[bytes, bytes]:
    """Send bytes; return the status line and the body of what comes back."""
    with contextlib.closing(service.socket(10)) as connection:
        connection.sendall(sent)
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65536)
        head, _, body = received.partition(b"\r\n\r\n")
        [length] = [int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
        while len(body) < length:
            body += connection.recv(65536)
    return head.split(b"\r\n")[0], body


@pytest.mark.parametrize("name", ["sdk-node-batch", "sdk-python-batch-gzip"])
def test_segments_sdks_are_answered_as_by_segment(service: Served, name: str) -> None:
    answer = speak(service, (CAPTURED / f"{name}.http").read_bytes())
    assert answer == (b"HTTP/1.1 200 OK", b'{"success":true}')


@pytest.mark.parametrize("name", ["python-batch", "python-batch-gzip", "python-sync"])
def test_lotus_python_is_answered_as_by_lotus(service: Served, name: str) -> None:
    answer = speak(service, (LOTUS / f"{name}.http").read_bytes())
    assert answer == (b"HTTP/1.1 201 Created", b'{"success":"all","failed_events":null}')
    events = service.get("/api/v1/events?customer=42", ADMIN_TOKEN).json["events"]
    # With a space in place of the T, as lotus-python writes a datetime.
    times = {one["idempotency_id"]: one["time_created"] for one in events}
    assert times["lotus-1"] == "2026-11-23T06:18:23.934000Z"


def test_a_chunked_body_without_a_length_obeys_segments_limits(service: Served) -> None:
    def chunks(body: bytes) -> Iterator[bytes]:
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    for path, size, status in (("/v1/track", 40_000, 400), ("/v1/batch", 600_000, 400), ("/v1/track", 20_000, 200)):
        body = to_raw(a_document(messageId=f"chunked-{size}", properties={"x": "x" * size}))
        with contextlib.closing(service.connect()) as connection:
            connection.request("POST", path, chunks(body), {"Authorization": "Bearer WRITEKEY123"}, encode_chunked=True)
            assert connection.getresponse().status == status


def test_a_gzip_bomb_is_refused_and_no_key_is_in_the_log(service: Served) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    headers = {"Authorization": "Bearer WRITEKEY123", "Content-Encoding": "gzip"}
    assert service.request("POST", "/v1/batch", bomb, headers).status == 400
    wait_until(lambda: service.get("/api/v1/refused", ADMIN_TOKEN).json["refused"])
    assert "WRITEKEY123" not in service.output()
    assert "INGESTKEY123" not in service.output()
