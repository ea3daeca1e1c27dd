"""Evidence and lists as CSV over HTTP: as files, with safe names, in the zone that was asked for."""

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from werkzeug.test import TestResponse

from app.core.csv_text import to_cell, to_csv_text, to_file_name, to_plain
from app.store import csv_table
from app.store.schema import evidence
from tests.builders import a_document, to_raw
from tests.evidence.proving import problems, public_key, unpack
from tests.metrics.conftest import publish
from tests.metrics.metrics import a_metric
from tests.served import ADMIN_TOKEN
from tests.sites import Site

TOKENS = a_metric("tokens", event_name="api_call", property_name="tokens")
NOVEMBER = "start=2026-11-01&end=2026-11-02"


@pytest.fixture
def sent(visited: Site) -> Site:
    """A site with a metric and three events, of which one is void."""
    publish(visited.service.database, TOKENS)
    for number in (1, 2, 4):
        send(visited, f"m-{number}", tokens=number)
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    void = {"kind": "void", "ids": ["m-2"], "reason": "=internal", "author": "@ann"}
    assert visited.client.post("/api/v1/corrections", json=void, headers=headers).status_code == 200
    return visited


def send(site: Site, message: str, customer: str = "customer-1", **properties: Any) -> None:
    document = a_document(event="api_call", messageId=message, userId=customer, properties=properties)
    answer = site.send(to_raw(document)).get_json()
    assert answer["received"] == 1


def file_name(answer: TestResponse) -> str:
    assert answer.status_code == 200, answer.get_data()
    match = re.fullmatch(r'attachment; filename="([A-Za-z0-9._-]+)"', answer.headers["Content-Disposition"])
    assert match, answer.headers["Content-Disposition"]
    return match[1]


def rows(answer: TestResponse) -> list[dict[str, str]]:
    assert answer.content_type == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.get_data(as_text=True), newline="")))


def test_the_events_behind_a_number_say_what_became_of_each(sent: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.metrics.tables.PAGE_ROWS", 2)
    path = f"/api/v1/metrics/tokens/events.csv?{NOVEMBER}&customer_id=customer-1&tz=Asia/Kathmandu"
    answer = sent.ask(path, ADMIN_TOKEN)
    assert file_name(answer) == "tokens_events_customer-1_2026-11-01_2026-11-02.csv"
    found = rows(answer)
    assert [(row["value"], row["standing"], row["delivery_state"]) for row in found] == [
        ("1", "counted", "not_requested"),
        ("", "voided", "not_requested"),
        ("4", "counted", "not_requested"),
    ]
    assert {row["time"] for row in found} == {"2026-11-01T15:45:00.123000+05:45"}
    assert all(row["received"].endswith("+05:45") for row in found)
    void = found[1]
    assert (void["correction_kind"], void["correction_author"]) == ("void", "'@ann")
    assert (void["correction_reason"], bool(void["voided_at"])) == ("'=internal", True)
    calls = json.loads(sent.ask("/api/v1/calls", ADMIN_TOKEN).get_data())["calls"]
    assert {row["call_id"] for row in found} == {call["id"] for call in calls}
    assert {row["transform_version"] for row in found} == {call["transform_digest"] for call in calls}
    page = sent.client.get(f"/usage/events?metric=tokens&{NOVEMBER}").get_data(as_text=True)
    assert "/api/v1/metrics/tokens/events.csv?" in page
    for wrong in ("?window=day", "?tz=Mars", "?group={}x", '?group={"a":"b"}'):
        assert sent.ask(f"/api/v1/metrics/tokens/events.csv{wrong}", ADMIN_TOKEN).status_code == 400
    assert sent.ask("/api/v1/metrics/none/events.csv", ADMIN_TOKEN).status_code == 404


def test_lists_are_files_as_long_as_they_are(sent: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.calls.tables.PAGE_ROWS", 2)
    send(sent, "m-2", tokens=3)
    sent.send(b"{", {})
    calls = sent.ask("/api/v1/calls.csv?customer=customer-1&since=2026-01-01", ADMIN_TOKEN)
    assert file_name(calls) == "calls_customer-1_2026-01-01.csv"
    assert [(row["outcome"], row["idempotency_ids"], row["void_events"]) for row in rows(calls)] == [
        ("conflict", "m-2", "0"),
        ("stored", "m-4", "0"),
        ("stored", "m-2", "1"),
        ("stored", "m-1", "0"),
    ]
    text = sent.ask(f"/api/v1/calls.csv?outcome=conflict&q={quote('m-2')}&tz=Europe/Berlin", ADMIN_TOKEN)
    assert [row["received"][-6:] for row in rows(text)] == ["+01:00"]
    assert file_name(text) == "calls_conflict.csv"
    sent.refusals(1)
    refused = sent.ask("/api/v1/refused.csv", ADMIN_TOKEN)
    assert (file_name(refused), [row["body_start"] for row in rows(refused)]) == ("refused.csv", ["{"])
    deliveries = sent.ask("/api/v1/deliveries.csv?state=failed", ADMIN_TOKEN)
    assert (file_name(deliveries), rows(deliveries)) == ("deliveries_failed.csv", [])
    assert 'href="/api/v1/calls.csv?since=7d&amp;tz=UTC"' in sent.client.get("/calls").get_data(as_text=True)
    for path in ("calls.csv?tz=x", "calls.csv?limit=1", "deliveries.csv?state=x", "refused.csv?since=1d"):
        assert sent.ask(f"/api/v1/{path}", ADMIN_TOKEN).status_code == 400
    for path in ("calls", "deliveries", "refused", "metrics/tokens/events"):
        assert sent.app.test_client().get(f"/api/v1/{path}.csv").status_code == 401


def test_a_delivery_has_its_state_and_its_correction(make_site: Callable[..., Site]) -> None:
    forwarding = make_site(lotus_host="http://127.0.0.1:1", lotus_api_key="key")
    for number in (1, 2):
        send(forwarding, f"m-{number}", tokens=number)
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    void = {"kind": "void", "ids": ["m-1"], "reason": "tests"}
    forwarding.client.post("/api/v1/corrections", json=void, headers=headers)
    found = rows(forwarding.ask("/api/v1/deliveries.csv", ADMIN_TOKEN))
    assert [(row["idempotency_id"], row["delivery_state"], row["correction_reason"]) for row in found] == [
        ("m-2", "waiting", ""),
        ("m-1", "voided", "tests"),
    ]


HOSTILE = [
    "../../x",
    'a"; filename=b',
    "line\r\nSet-Cookie: a=b",
    "kund\u0151 \U0001f600",
    "." * 40,
    "=cmd",
    "%2e%2e/",
]


@pytest.mark.parametrize("customer", HOSTILE)
def test_a_hostile_customer_makes_no_hostile_name(sent: Site, tmp_path: Path, customer: str) -> None:
    send(sent, "hostile", customer, tokens=5)
    asked = sent.ask(f"/api/v1/metrics/tokens/events.csv?{NOVEMBER}&customer_id={quote(customer)}", ADMIN_TOKEN)
    assert not file_name(asked).startswith(".")
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    body = {"metric": "tokens", "customer_id": customer, "month": "2026-11"}
    made = sent.client.post("/api/v1/evidence", json=body, headers=headers)
    assert re.fullmatch(r"evidence_tokens_.*2026-11_UTC\.zip", file_name(made))
    assert ".." not in file_name(made)
    (tmp_path / "e.zip").write_bytes(made.get_data())
    assert problems(tmp_path / "e.zip", public_key(sent.service.database)) == []
    assert json.loads(unpack(tmp_path / "e.zip")["manifest.json"])["customer_id"] == customer
    assert [row["value"] for row in json.loads(unpack(tmp_path / "e.zip")["number.json"])["rows"]] == ["5"]


def test_evidence_is_made_from_the_page_of_a_customer_and_over_the_api(sent: Site, tmp_path: Path) -> None:
    assert "There is no key yet" in sent.client.get("/evidence").get_data(as_text=True)
    assert sent.ask("/api/v1/evidence/keys", ADMIN_TOKEN).get_json() == {"keys": []}
    everybody = sent.client.get(f"/usage?metric=tokens&{NOVEMBER}").get_data(as_text=True)
    page = sent.client.get(f"/usage?metric=tokens&{NOVEMBER}&customer_id=customer-1").get_data(as_text=True)
    assert ("Make evidence" in everybody, "Make evidence" in page) == (False, True)
    form_text = page[page.index('action="/evidence"') :].partition("</form>")[0]
    form = dict(re.findall(r'name="(\w+)"(?: type="month")? value="([^"]*)"', form_text))
    assert form.items() >= {"metric": "tokens", "customer_id": "customer-1", "month": "2026-11", "tz": "UTC"}.items()
    made = sent.client.post("/evidence", data=form)
    assert file_name(made) == "evidence_tokens_customer-1_2026-11_UTC.zip"
    assert made.headers["Content-Length"] == str(len(made.get_data()))
    (tmp_path / "e.zip").write_bytes(made.get_data())
    [key] = sent.ask("/api/v1/evidence/keys", ADMIN_TOKEN).get_json()["keys"]
    assert (key["signs"], set(key)) == (True, {"algorithm", "public_key", "made_at", "signs"})
    listed = sent.ask("/api/v1/evidence", ADMIN_TOKEN).get_json()["evidence"]
    digest = hashlib.sha256(unpack(tmp_path / "e.zip")["manifest.json"]).hexdigest()
    assert [(row["manifest_sha256"], row["author"], row["public_key"]) for row in listed] == [
        (digest, "page", key["public_key"])
    ]
    shown = sent.client.get("/evidence").get_data(as_text=True)
    assert (key["public_key"].replace("+", "&#43;") in shown or key["public_key"] in shown, digest in shown) == (
        True,
        True,
    )


def test_evidence_needs_a_session_its_token_and_what_it_is_about(sent: Site) -> None:
    assert sent.client.post("/evidence", data={"metric": "tokens"}).status_code == 403
    assert sent.app.test_client().post("/evidence").status_code == 401
    assert sent.app.test_client().post("/api/v1/evidence", json={}).status_code == 401
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    about = {"metric": "tokens", "customer_id": "customer-1", "month": "2026-11"}
    for body, status in (
        ({}, 400),
        ([], 400),
        ({**about, "more": "x"}, 400),
        ({**about, "month": 1}, 400),
        ({**about, "month": "2026"}, 400),
        ({**about, "tz": "Mars"}, 400),
        ({**about, "customer_id": "c" * 256}, 400),
        ({**about, "customer_id": "a\0"}, 400),
        ({**about, "author": "a" * 201}, 400),
        ({**about, "metric": "none"}, 404),
    ):
        answer = sent.client.post("/api/v1/evidence", json=body, headers=headers)
        assert (answer.status_code, answer.is_json) == (status, True), body
    assert sent.rows(evidence) == []


def test_a_cell_is_harmless_and_read_back() -> None:
    for text in ("=1", "+1", "-1", "@x", "\tx", "\rx", "\nx", "'=1", "''=1", "\uff1dx", "x=1", "'x", "", "plain"):
        cell = to_cell(text)
        assert to_plain(cell) == text
        assert cell[:1] not in {*"=+-@\t\r\n\uff1d"} or not cell
    assert to_csv_text([["a,b", 'c"d', "e\rf", None, 1]]) == '"a,b","c""d","e\rf",,1\n'
    assert to_file_name("../..", "", None, suffix=".csv") == "list.csv"


def test_a_list_is_read_a_page_at_a_time(sent: Site) -> None:
    pages = [([["1"]], 1), ([], 2), ([["2"]], None)]
    table = csv_table.CsvTable[int](["n"], lambda _conn, place: pages[place or 0])
    database = sent.service.database
    assert [table.read_piece(database) for _ in range(4)] == ["n\n1\n", "", "2\n", None]
