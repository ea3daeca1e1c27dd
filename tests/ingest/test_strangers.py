"""What a stranger costs: who can be seen to have no credential is refused before anything is inflated or parsed."""

import gzip
import io
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from werkzeug.test import TestResponse

from app.store.refusals import BODY_START_BYTES
from app.web.body import RATIO_FREE_BYTES, RATIO_MAX
from tests.builders import a_document, to_raw
from tests.served import WEBHOOK, signed
from tests.sites import Site, counts

KIB, MIB = 1 << 10, 1 << 20
KEY = "a-write-key"

BOMB = gzip.compress(b'[{"a":"' + bytes(16 * MIB - 20) + b'"}]')
BRACKETS = gzip.compress(b'{"a":' + b"[]" * (250_000 - 10) + b"}")
"""Half a kilobyte that inflates to half a megabyte, the most that the tracking API takes."""

COST_SECONDS = 0.02
"""What one such request may cost at most. It is far more than it does, since other tests take the processor, too."""

TRIES = 20

SEEN_TO_BE_NONE: dict[str, tuple[str, dict[str, str], str]] = {
    "nothing": (WEBHOOK, {}, "signature_missing"),
    "an empty signature": (WEBHOOK, {"X-Signature": ""}, "signature_missing"),
    "a wrong token": (WEBHOOK, {"Authorization": "Bearer wrong"}, "unauthorized"),
    "a wrong password": (WEBHOOK, {"Authorization": "Basic d3Jvbmc6"}, "unauthorized"),
    "no API key": ("/api/track/", {}, "unauthorized"),
    "a wrong API key": ("/api/track/", {"X-API-KEY": "wrong"}, "unauthorized"),
}

ONLY_THE_BODY_TELLS: dict[str, tuple[str, dict[str, str]]] = {
    "a wrong signature": (WEBHOOK, {"X-Signature": "0" * 40}),
    "a signature that is none": (WEBHOOK, {"X-Signature": "x"}),
    "no write key": ("/v1/batch", {}),
    "a wrong write key": ("/v1/batch", {"Authorization": "Basic d3Jvbmc6"}),
}


class Counted(io.BytesIO):
    """A body that counts what is read of it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.given = 0

    def read(self, size: int | None = -1) -> bytes:
        part = super().read(size)
        self.given += len(part)
        return part


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site(segment_write_keys=(KEY,), lotus_ingest_keys=(KEY,), segment_bearer_tokens=("token",))


def ask(
    site: Site, path: str, body: bytes | Counted, headers: Mapping[str, str], *, sized: bool = True
) -> TestResponse:
    stream = Counted(body) if isinstance(body, bytes) else body
    environ: dict[str, Any] = {"wsgi.input": stream}
    if sized:
        environ["CONTENT_LENGTH"] = str(len(stream.getvalue()))
    return site.client.post(path, headers=dict(headers), environ_overrides=environ)


def cost(work: Callable[[], object]) -> float:
    """Return the seconds of processor time that something takes, the best of some tries."""
    tries = []
    for _ in range(TRIES):
        began = time.process_time()
        work()
        tries.append(time.process_time() - began)
    return min(tries)


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("name", SEEN_TO_BE_NONE)
def test_who_can_be_seen_to_be_a_stranger_is_read_no_further_than_64_kib(site: Site, name: str, *, sized: bool) -> None:
    path, headers, code = SEEN_TO_BE_NONE[name]
    body = Counted(b'{"writeKey":"k", "a":"' + b"x" * MIB)
    answer = ask(site, path, body, headers, sized=sized)
    assert (answer.status_code, answer.get_json()["code"]) == (401, code)
    assert answer.headers["Connection"] == "close"
    assert body.given == 64 * KIB
    (kept,) = site.refusals(1)
    assert kept.code == code
    assert kept.body_start == b'{"writeKey":"(hidden)", "a":"'.ljust(BODY_START_BYTES + 7, b"x")


@pytest.mark.parametrize("name", SEEN_TO_BE_NONE)
def test_a_strangers_bomb_costs_no_more_than_a_plain_body(site: Site, name: str) -> None:
    path, headers, _ = SEEN_TO_BE_NONE[name]
    assert cost(lambda: ask(site, path, BOMB, {**headers, "Content-Encoding": "gzip"})) < COST_SECONDS
    # Of what is compressed, people are shown the beginning all the same.
    kept = site.refusals(TRIES)[0]
    assert kept.body_start.startswith(b'[{"a":"')
    assert len(kept.body_start) <= BODY_START_BYTES


@pytest.mark.parametrize("bomb", [BOMB, BRACKETS, BOMB[:-10], b"\x1f\x8b" + bytes(1000)])
@pytest.mark.parametrize("name", ONLY_THE_BODY_TELLS)
def test_a_bomb_of_which_only_the_content_could_tell_the_sender_is_inflated_in_proportion(
    site: Site, name: str, bomb: bytes
) -> None:
    path, headers = ONLY_THE_BODY_TELLS[name]
    answers: list[int] = []

    def send() -> None:
        answers.append(ask(site, path, bomb, {**headers, "Content-Encoding": "gzip"}).status_code)

    assert cost(send) < COST_SECONDS
    assert set(answers) <= {400, 401, 413}


def test_real_calls_are_never_compressed_so_well_and_who_is_known_may_send_what_he_likes(site: Site) -> None:
    calls = [a_document(messageId=f"{number:016d}", properties={"plan": "pro" * 100}) for number in range(1500)]
    body = to_raw(calls)
    packed = gzip.compress(body)
    # Nothing real is as much alike, and yet it is taken.
    assert len(body) > RATIO_MAX * len(packed)
    assert counts(ask(site, WEBHOOK, packed, {**signed(body), "Content-Encoding": "gzip"}))["received"] == 1500
    alike = b"[" + b",".join([to_raw(a_document(properties={"x": "y" * 1000}))] * 1500) + b"]"
    packed = gzip.compress(alike)
    assert len(alike) > RATIO_FREE_BYTES + RATIO_MAX * len(packed)
    answer = ask(site, WEBHOOK, packed, {**signed(alike), "Content-Encoding": "gzip"})
    assert answer.status_code == 413
    assert "Authorization" in answer.get_json()["message"]
    by_token = {"Authorization": "Bearer token", "Content-Encoding": "gzip"}
    assert counts(ask(site, WEBHOOK, packed, by_token)) == {"received": 1500, "stored": 1, "duplicate": 1499}


@pytest.mark.parametrize("beside", [b"", b'"writeKey":"wrong",'])
def test_half_a_kilobyte_of_brackets_costs_nobody_66_ms(site: Site, beside: bytes) -> None:
    body = gzip.compress(b"{" + beside + b'"a":' + b"[]" * 249_000 + b"}")
    assert len(body) < KIB
    assert cost(lambda: ask(site, "/v1/batch", body, {"Content-Encoding": "gzip"})) < COST_SECONDS


@pytest.mark.parametrize(
    "body",
    [
        b'{"batch":[{"event":"E"}],"writeKey":"%b"}',
        b'{"batch":[],"writeKey" :\n"%b"}',
        b'{"batch":["\\ud83d"],"writeKey":"%b"}',
        b'{"batch":[{"writeKey":"other"}],"writeKey":"%b"}',
        b'\xef\xbb\xbf {"writeKey":"%b"}',
    ],
)
def test_the_key_in_a_body_is_found_wherever_it_stood_before(site: Site, body: bytes) -> None:
    escaped = KEY.encode().replace(b"-", b"\\u002d")
    for key in (KEY.encode(), escaped):
        assert ask(site, "/v1/batch", body % key, {}).status_code == 200
        # A wrong header does not stand in the way of a right body.
        assert ask(site, "/v1/batch", body % key, {"Authorization": "Basic d3Jvbmc6"}).status_code == 200
    assert ask(site, "/v1/batch", body % b"wrong", {}).status_code == 401


def test_a_key_that_is_only_somewhere_in_a_body_opens_nothing(site: Site) -> None:
    key = KEY.encode()
    for body in (
        b'{"batch":[{"writeKey":"%b"}]}',
        b'[{"writeKey":"%b"}]',
        b'{"context":{"writeKey":"%b"},"writeKey":"wrong","batch":[]}',
        b'{"a":"\\"writeKey\\":\\"%b\\""}',
    ):
        assert ask(site, "/v1/batch", body % key, {}).status_code == 401
