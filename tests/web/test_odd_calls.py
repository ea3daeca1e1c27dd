"""A call with a token that is no JSON: rejected alone, kept as it came, and read again wherever calls are read."""

import base64
import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from app.core.outcome import Outcome
from app.service.commands import main
from app.store.engine import Database
from app.store.schema import calls, requests
from tests.builders import a_document, an_ingest, balance, outcomes_of, post, rows_of, some_transforms, to_raw
from tests.replay.replaying import replay
from tests.served import ADMIN_TOKEN, signed
from tests.sites import Site, counts

GOOD = to_raw(a_document(messageId="good"))
TAIL = to_raw(a_document(messageId="tail"))
ODD = to_raw(a_document(messageId="odd", properties={"tokens": 777})).replace(b"777", b"NaN")
LATIN = ODD.replace(b"NaN", b'"M\xfcller"')
SENTENCE = f"`properties.tokens` is NaN, which JSON does not have (byte {ODD.index(b'NaN')})."
UNSTORABLE = ("rejected", "unstorable")
TRANSFORMS = some_transforms()


@pytest.mark.parametrize("odd", [ODD, LATIN], ids=["NaN", "Latin-1"])
def test_the_others_are_stored_and_the_odd_call_is_kept_as_it_came(database: Database, odd: bytes) -> None:
    ingest = an_ingest(database, TRANSFORMS)
    records = post(ingest, b"[" + b",".join([GOOD, odd, TAIL]) + b"]", GOOD)
    assert outcomes_of(records) == [Outcome.STORED, Outcome.REJECTED, Outcome.STORED]
    columns = (calls.c.raw, calls.c.outcome, calls.c.reason, calls.c.message_id, calls.c.event)
    kept = rows_of(database, calls, *columns)
    assert kept[1] == (odd, *UNSTORABLE, "odd", "API Call")
    assert balance(database) == {("stored", ""): 2, UNSTORABLE: 1}
    # A replay reads it as it was read when it came.
    assert replay(database, TRANSFORMS, outcomes=(Outcome.REJECTED,)).tally.changed == {}
    assert (
        rows_of(database, calls, calls.c.raw, calls.c.outcome, calls.c.reason, calls.c.message_id, calls.c.event)
        == kept
    )


def test_a_signature_over_the_first_element_holds_whatever_tokens_the_batch_has(site: Site) -> None:
    for number, first in enumerate((ODD, LATIN, ODD.replace(b"NaN", b'"\\x41"'))):
        body = b"[" + first + b"," + GOOD.replace(b"good", b"good-%d" % number) + b"]"
        assert counts(site.send(body, signed(body, over=first))) == {"received": 2, "stored": 1, "rejected": 1}
        wrapped = b'[{"json":' + first + b'},{"json":' + GOOD.replace(b"good", b"wrapped-%d" % number) + b"}]"
        assert counts(site.send(wrapped, signed(wrapped, over=first))) == {"received": 2, "stored": 1, "rejected": 1}


def test_alone_it_is_one_rejected_call_and_never_a_400(site: Site) -> None:
    for body in (ODD, LATIN, b'{"json":' + ODD + b"}", b'{"x":"' + b"a" * 100_000 + b'","n":Infinity}'):
        assert counts(site.send(body)) == {"received": 1, "rejected": 1}
    assert {row[0] for row in site.rows(calls, calls.c.reason)} == {"unstorable"}


def test_it_is_shown_by_the_api_on_its_page_and_by_show(visited: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    visited.send(ODD)
    visited.send(LATIN)
    monkeypatch.setenv("DATABASE_URL", visited.service.settings.database_url)
    [odd, latin] = [str(number) for (number,) in sorted(visited.rows(calls, calls.c.id))]
    listed = visited.ask("/api/v1/calls", ADMIN_TOKEN).get_json()
    assert [call["reason"] for call in listed["calls"]] == ["unstorable"] * 2
    for call_id, raw in ((odd, ODD), (latin, LATIN)):
        told = visited.ask(f"/api/v1/calls/{call_id}", ADMIN_TOKEN).get_json()
        sent = told["raw"].encode() if told["raw"] is not None else base64.b64decode(told["raw_base64"])
        assert sent == raw
        assert "`properties.tokens`" in told["detail"]
        assert [step["name"] for step in told["steps"] if not step["passed"]] == ["parsed"]
        page = visited.client.get(f"/calls/{call_id}")
        assert page.status_code == 200
        assert "properties.tokens" in page.get_data(as_text=True)
        shown = CliRunner().invoke(main, ["show", call_id])
        assert (shown.exit_code, "`properties.tokens`" in shown.output) == (0, True)
        assert CliRunner().invoke(main, ["show", "--raw", call_id]).stdout_bytes == raw
    for path in ("/calls", "/problems", "/setup", "/transforms", "/transforms/_default"):
        assert visited.client.get(path).status_code == 200
    assert json.loads(visited.ask(f"/api/v1/calls/{odd}", ADMIN_TOKEN).get_data())["detail"] == SENTENCE


def test_segments_tracking_api_takes_it_as_well(make_site: Callable[..., Site]) -> None:
    site = make_site(segment_write_keys=("key",))
    basic = {"Authorization": f"Basic {base64.b64encode(b'key:').decode()}"}
    batch = b'{"batch":[' + b",".join([GOOD, ODD, TAIL]) + b'],"sentAt":"2026-11-01T10:00:00Z"}'
    answer = site.send(batch, basic, path="/v1/batch")
    assert (answer.status_code, answer.get_json()) == (200, {"success": True})
    answer = site.send(ODD.replace(b'"type":"track",', b""), basic, path="/v1/track")
    assert (answer.status_code, answer.get_json()) == (200, {"success": True})
    assert site.rows(calls, calls.c.outcome, calls.c.type) == [
        *(("stored", "track"), ("rejected", "track"), ("stored", "track"), ("rejected", "track"))
    ]


def test_what_a_batch_says_for_all_of_its_calls_is_theirs_to_answer_for(make_site: Callable[..., Site]) -> None:
    site = make_site(segment_write_keys=("key",))
    basic = {"Authorization": f"Basic {base64.b64encode(b'key:').decode()}"}
    batch = b'{"batch":[' + GOOD + b'],"context":{"app":{"build":NaN}}}'
    # The webhook makes nothing of it.
    assert counts(site.send(batch)) == {"received": 1, "stored": 1}
    assert site.send(batch.replace(b"good", b"tail"), basic, path="/v1/batch").status_code == 200
    ((number, reason, detail, message),) = site.rows(
        calls, calls.c.id, calls.c.reason, calls.c.detail, calls.c.message_id
    )[1:]
    assert (reason, message) == ("unstorable", "tail")
    assert detail == (
        "The data beside its batch is not JSON: `context.app.build` is NaN, which JSON does not have (byte 27)."
    )
    assert site.rows(requests, requests.c.envelope)[1] == (b'{"context":{"app":{"build":NaN}}}',)
    told = site.ask(f"/api/v1/calls/{number}", ADMIN_TOKEN)
    assert json.loads(told.get_data(), parse_constant=pytest.fail)["envelope"] == '{"context":{"app":{"build":NaN}}}'


def test_lotus_says_of_such_an_event_what_it_says_of_such_a_request(make_site: Callable[..., Site]) -> None:
    site = make_site(lotus_ingest_keys=("key",))
    event = b'{"event_name":"E","idempotency_id":"%s","customer_id":"c","time_created":"2026-11-01T10:00:00Z"%s}'
    good, odd = event % (b"good", b""), event % (b"odd", b',"properties":{"n":NaN}')
    keyed = {"X-API-KEY": "key"}
    answer = site.send(b'{"batch":[' + good + b"," + odd + b"]}", keyed, path="/api/track/")
    assert (answer.status_code, answer.get_json()) == (
        201,
        {"success": "some", "failed_events": {"odd": "Invalid JSON"}},
    )
    answer = site.send(odd, keyed, path="/api/track/")
    assert (answer.status_code, answer.get_json()) == (
        400,
        {"success": "none", "failed_events": {"odd": "Invalid JSON"}},
    )
    assert site.rows(calls, calls.c.outcome, calls.c.reason) == [("stored", None), UNSTORABLE, UNSTORABLE]
