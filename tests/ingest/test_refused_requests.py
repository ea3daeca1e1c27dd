"""RefusedRequests requests: kept with their reason, without their secrets, and cheap however many there are."""

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.errors import SignatureMismatch, Unavailable
from app.ingest.refused_requests import RefusedRequests, shown_headers
from app.ingest.sender import find_sender
from app.store.engine import Database
from app.store.ids import Ids
from app.store.refusals import BODY_START_BYTES, KEPT, Refusal, list_refusals
from app.web.peer import find_client
from tests.builders import IDS, NOW, a_document, to_raw
from tests.served import signed, wait_until
from tests.sites import Site, counts

SECRETS = {
    "Authorization": "Bearer the-bearer-token",
    "X-Signature": "the-signature",
    "Cookie": "session=the-cookie",
    "X-Api-Key": "the-api-key",
    "Proxy-Authorization": "Basic the-proxy",
    "X-Custom-Whatever": "the-custom-header",
    "Forwarded": "for=the-forwarded",
}


def test_a_refused_request_is_kept_with_its_reason_and_its_beginning(site: Site) -> None:
    body = to_raw(a_document(properties={"x": "y" * 5000}))
    headers = {"X-Signature": "0" * 40, "User-Agent": "Segment (Actions)"}
    site.send(body, headers, method="PUT", path="/webhooks/segment/")
    (kept,) = site.refusals(1)
    assert (kept.code, kept.method, kept.path) == ("signature_mismatch", "PUT", "/webhooks/segment/")
    assert kept.message == SignatureMismatch().message
    assert kept.body_start == body[:BODY_START_BYTES] == body[:2048]
    assert kept.received_at > 1_700_000_000_000_000
    shown = json.loads(kept.headers)
    assert shown["user-agent"] == "Segment (Actions)"
    assert shown["content-length"] == str(len(body))


def test_of_headers_that_may_hold_a_credential_only_the_name_is_kept(site: Site) -> None:
    site.app.test_client(use_cookies=False).post("/webhooks/segment", data=b"{}", headers=SECRETS)
    (kept,) = site.refusals(1)
    headers = json.loads(kept.headers)
    assert {name.lower() for name in SECRETS} <= headers.keys()
    for value in SECRETS.values():
        assert value not in kept.headers
        assert value.rpartition(" ")[2].rpartition("=")[2] not in kept.headers
    assert headers["authorization"] == "Bearer (hidden)"


def test_a_credential_without_a_scheme_is_not_taken_for_one() -> None:
    for value in ("the-token-alone", "x" * 300, "", " the-token"):
        shown = shown_headers({"HTTP_AUTHORIZATION": value})["authorization"]
        assert "token" not in shown
        assert "xx" not in shown


@pytest.mark.parametrize("value", ["\ud83d", "\0", "é\x80", "\x1b[31m", "x" * 100_000])
def test_any_value_of_a_header_can_be_kept(site: Site, value: str) -> None:
    shown = shown_headers({"HTTP_USER_AGENT": value, "HTTP_X_SIGNATURE": value})
    assert len(shown["user-agent"]) <= 300
    json.dumps(shown).encode()
    site.client.post("/webhooks/segment", environ_overrides={"HTTP_USER_AGENT": value})
    assert len(site.refusals(1)) == 1


def test_what_was_refused_is_not_in_the_ledger_and_not_among_the_calls(site: Site) -> None:
    site.send(b"{}", {})
    site.refusals(1)
    with site.service.database.reading() as conn:
        for table in ("calls", "requests", "events", "ledger"):
            assert conn.scalar(sa.text(f"SELECT count(*) FROM {table}")) == 0  # noqa: S608


def test_refusals_of_two_processes_whose_ids_meet_are_all_kept(database: Database) -> None:
    tags = iter([1, 1, 1, 2])
    processes = [RefusedRequests(database, Ids(lambda _below: next(tags)), lambda: NOW) for _ in range(2)]

    def kept() -> list[Refusal]:
        with database.reading() as conn:
            return list_refusals(conn, KEPT)

    for process in processes:
        before = len(kept())
        for _ in range(3):
            process.note(SignatureMismatch(), {"REQUEST_METHOD": "POST"}, b"{}")
        wait_until(partial(lambda count: len(kept()) == count, before + 3))


def test_only_the_last_thousand_are_kept(site: Site) -> None:
    for number in range(KEPT + 50):
        site.send(str(number).encode(), {})
        if number % 400 == 399:
            # Let it write, so that more than one write is at work.
            wait_until(lambda number=number: len(site.refusals(1)) == number + 1)  # type: ignore[misc]
    wait_until(lambda: site.refusals(KEPT)[0].body_start == str(KEPT + 49).encode())
    kept = site.refusals(KEPT)
    assert [int(one.body_start) for one in kept] == list(range(KEPT + 49, 49, -1))


class Counting(Database):
    """A database that counts how often it is written to, and refuses for as long as it is told to."""

    def __init__(self, inner: Database) -> None:
        super().__init__(inner.engine, inner._sqlite)
        self.writes = 0
        self.trouble: Exception | None = None

    def writing(self, *, durable: bool = True):  # type: ignore[no-untyped-def]  # noqa: ANN201
        """As Database does."""
        self.writes += 1
        if self.trouble is not None:
            raise self.trouble
        return super().writing(durable=durable)


@pytest.fixture
def counting(site: Site) -> Iterator[Counting]:
    counting = Counting(site.service.database)
    yield counting
    counting.close()


def note(refused: RefusedRequests, body: bytes) -> None:
    refused.note(SignatureMismatch(), {"REQUEST_METHOD": "POST", "PATH_INFO": "/webhooks/segment"}, body)


def kept_bodies(database: Database) -> list[bytes]:
    with database.reading() as conn:
        return [one.body_start for one in list_refusals(conn, KEPT + 1)]


def test_a_flood_is_few_writes(counting: Counting) -> None:
    refused = RefusedRequests(counting, IDS, lambda: NOW)
    for number in range(3000):
        note(refused, str(number).encode())
    wait_until(lambda: not refused._writing)
    assert kept_bodies(counting)[0] == b"2999"
    assert len(kept_bodies(counting)) == KEPT
    # At most four a second, and this took seconds at worst.
    assert counting.writes < 40


def test_a_good_call_is_taken_in_the_middle_of_a_flood(site: Site) -> None:
    def flood() -> None:
        client = site.app.test_client()
        for _ in range(700):
            client.post("/webhooks/segment", data=b"{}", headers=signed(b"x"))

    threads = [threading.Thread(target=flood) for _ in range(3)]
    for thread in threads:
        thread.start()
    taken = 0
    while any(thread.is_alive() for thread in threads):
        assert counts(site.send(to_raw(a_document(messageId=str(taken))))) == {"received": 1, "stored": 1}
        taken += 1
    assert taken > 5
    assert len(site.refusals(KEPT)) == KEPT


def test_while_the_database_is_away_the_last_ones_wait_and_are_kept_when_it_is_back(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.ingest.refused_requests._PAUSE_IN_TROUBLE_SECONDS", 0.05)
    refused = RefusedRequests(counting, IDS, lambda: NOW)
    counting.trouble = Unavailable()
    for number in range(KEPT):
        note(refused, str(number).encode())
    wait_until(lambda: counting.writes >= 3)
    for number in range(KEPT, KEPT + 500):
        note(refused, str(number).encode())
    beyond = counting.writes + 3
    wait_until(lambda: counting.writes >= beyond)
    counting.trouble = None
    wait_until(lambda: not refused._writing)
    assert [int(body) for body in kept_bodies(counting)] == list(range(KEPT + 499, 499, -1))


def test_whatever_goes_wrong_with_some_the_next_ones_are_kept(counting: Counting) -> None:
    refused = RefusedRequests(counting, IDS, lambda: NOW)
    counting.trouble = RuntimeError("something nobody thought of")
    note(refused, b"lost")
    wait_until(lambda: not refused._writing)
    counting.trouble = None
    note(refused, b"kept")
    wait_until(lambda: not refused._writing)
    assert kept_bodies(counting) == [b"kept"]


def test_a_good_request_leaves_nothing_behind(make_site: Callable[..., Site], tmp_path: Path) -> None:
    site = make_site()
    site.send(to_raw(a_document()))
    assert not any(thread.name == "refused" for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("agent", "address", "headers", "path", "sender"),
    [
        ("Segment.io/1.0", "198.51.100.7", {}, "/webhooks/segment", "segment"),
        ("Segment (Actions)", "198.51.100.7", {}, "/webhooks/segment", "segment"),
        ("Segment (Actions)", "127.0.0.1", {}, "/webhooks/segment", "machine"),
        ("Segment (Actions)", "::1", {}, "/webhooks/segment", "machine"),
        ("Segment (Actions)", "127.0.0.1", {"HTTP_X_FORWARDED_FOR": "198.51.100.7"}, "/webhooks/segment", "segment"),
        ("analytics-python/2.4.0", "198.51.100.7", {}, "/v1/batch", "sdk"),
        ("analytics-python/2.4.0", "198.51.100.7", {}, "/webhooks/segment", "stranger"),
        ("not Segment.io/1.0", "198.51.100.7", {}, "/v1/batch", "stranger"),
        ("", "", {}, "/", "stranger"),
    ],
)
def test_who_sent_it_is_told_by_its_head(
    agent: str, address: str, headers: dict[str, str], path: str, sender: str
) -> None:
    environ = {"HTTP_USER_AGENT": agent, "REMOTE_ADDR": address, "PATH_INFO": path, **headers}
    assert find_sender(environ, authentic=False) == sender
    assert find_sender(environ, authentic=True) == ("authentic" if sender == "stranger" else sender)


@pytest.mark.parametrize(
    ("proxies", "passed_on", "client"),
    [
        (0, "192.0.2.1", "10.0.0.9"),
        (1, "192.0.2.1, 192.0.2.2", "192.0.2.2"),
        (2, "192.0.2.1, 192.0.2.2", "192.0.2.1"),
        (3, "192.0.2.1, 192.0.2.2", "10.0.0.9"),
        (1, "", "10.0.0.9"),
        (1, "\0" * 5 + "x" * 500, "x" * 95),
    ],
)
def test_the_address_is_that_of_the_outermost_trusted_proxy(proxies: int, passed_on: str, client: str) -> None:
    environ = {"REMOTE_ADDR": "10.0.0.9", "HTTP_X_FORWARDED_FOR": passed_on}
    assert find_client(environ, proxies) == client


def test_one_mismatch_a_second_is_examined_and_segments_goes_first(database: Database) -> None:
    examined: list[bytes] = []

    def diagnose(body: bytes, _signature: str) -> str:
        examined.append(body)
        return "because"

    refused = RefusedRequests(database, IDS, lambda: NOW, diagnose=diagnose)
    stranger = {"REQUEST_METHOD": "POST", "REMOTE_ADDR": "203.0.113.9"}
    segment = {**stranger, "HTTP_USER_AGENT": "Segment.io/1.0"}
    for number in range(50):
        refused.note(SignatureMismatch(), stranger, b"stranger %d" % number)
    refused.note(SignatureMismatch(), segment, b"segment")
    refused.note(SignatureMismatch(), segment, b"segment again")
    refused.note(SignatureMismatch(), segment, b"x" * (64 * 1024 + 1))

    def kept() -> list[Refusal]:
        with database.reading() as conn:
            return list_refusals(conn, KEPT)

    wait_until(lambda: len(kept()) == 53)
    assert examined == [b"segment"]
    assert [one.body_start for one in kept() if one.diagnosis] == [b"segment"]
