"""Deliveries on the JSON API and among the numbers, from the webhook to the stand-in for Lotus."""

import pytest
import sqlalchemy as sa

from app.clock import clock
from app.core.times import format_time
from app.forward.fake_lotus.faults import InjectedFault, PlannedFault
from app.forward.fake_lotus.server import FakeLotus
from app.forward.sql_deliveries import DeliveryState, set_states
from app.store.ledger import append
from app.store.schema import deliveries
from tests.builders import a_document, to_raw
from tests.forward.amending import correct, ids_of
from tests.forward.forwarding import DAY, Clock, a_recent, a_worker, balanced, states_of, store, work
from tests.served import ADMIN_TOKEN
from tests.sites import Site


def send(site: Site, *ids: str) -> None:
    for id_ in ids:
        site.send(to_raw(a_document(messageId=id_, timestamp=format_time(clock()))))


def get(site: Site, path: str) -> object:
    answer = site.ask(path, ADMIN_TOKEN)
    assert answer.status_code == 200, answer.get_data()
    return answer.get_json()


def test_a_call_becomes_an_event_in_lotus(forwarding: Site, lotus: FakeLotus, address: str) -> None:
    send(forwarding, "m-1", "m-2", "m-1")
    [page] = [get(forwarding, "/api/v1/deliveries")]
    assert isinstance(page, dict)
    assert [(one["idempotency_id"], one["state"]) for one in page["deliveries"]] == [
        ("m-2", "waiting"),
        ("m-1", "waiting"),
    ]
    assert page["destination"]["waiting"] == 2
    lotus.faults.plan([PlannedFault(InjectedFault.ERROR, left=1)])
    time = Clock()
    work(a_worker(forwarding.service.database, address, time), time)
    assert lotus.events["m-1"]["properties"] == {"tokens": 10}
    page = get(forwarding, "/api/v1/deliveries?state=delivered&limit=1")
    assert isinstance(page, dict)
    [one] = page["deliveries"]
    assert get(forwarding, f"/api/v1/deliveries?before={page['next']}")["deliveries"][0]["idempotency_id"] == "m-1"  # type: ignore[index]
    whole = get(forwarding, f"/api/v1/deliveries/{one['event_id']}")
    assert isinstance(whole, dict)
    assert [attempt["status"] for attempt in whole["attempts"]] == [500, 201]
    assert whole["attempts"][0]["answer"] == '{"message":"something went wrong"}'


def test_the_numbers_tell_of_the_outbox_and_of_a_pause(forwarding: Site, address: str) -> None:
    send(forwarding, "m-1")
    numbers = forwarding.ask("/metrics", ADMIN_TOKEN).get_data(as_text=True)
    assert 'segment_lotus_deliveries{state="waiting"} 1' in numbers
    assert "segment_lotus_destination_paused 0" in numbers
    a_worker(forwarding.service.database, address, key="wrong").step()
    numbers = forwarding.ask("/metrics", ADMIN_TOKEN).get_data(as_text=True)
    assert "segment_lotus_destination_paused 1" in numbers
    page = get(forwarding, "/api/v1/deliveries")
    assert isinstance(page, dict)
    assert page["destination"]["trouble"] == "key"


def test_a_pause_is_ended(forwarding: Site, lotus: FakeLotus, address: str) -> None:
    path = "/api/v1/deliveries/try-now"
    send(forwarding, "m-1")
    assert ask_for(forwarding, path, {}) == {"paused": False}
    a_worker(forwarding.service.database, address, key="wrong").step()
    assert forwarding.client.post(path).status_code == 401
    assert a_worker(forwarding.service.database, address).step() > 0
    assert ask_for(forwarding, path, {}) == {"paused": True}
    a_worker(forwarding.service.database, address).step()
    assert list(lotus.events) == ["m-1"]


def test_without_a_key_nothing_is_queued(site: Site) -> None:
    send(site, "m-1")
    assert get(site, "/api/v1/deliveries?state=waiting")["deliveries"] == []  # type: ignore[index]
    assert get(site, "/api/v1/deliveries/groups") == {"groups": [], "looked_back_to": None}
    assert get(site, "/api/v1/ledger")["deliveries"]["not_requested"] == 1  # type: ignore[index]


def ask_for(site: Site, path: str, words: object, status: int = 200) -> dict[str, object]:
    answer = site.client.post(path, json=words, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
    assert answer.status_code == status, answer.get_data()
    document: dict[str, object] = answer.get_json()
    return document


def test_a_group_is_counted_first_and_then_waits_again(forwarding: Site, address: str) -> None:
    old = format_time(clock() - 31 * DAY)
    forwarding.send(to_raw(a_document(messageId="old-1", timestamp=old)))
    forwarding.send(to_raw(a_document(messageId="old-2", timestamp=old, userId="another")))
    time = Clock()
    work(a_worker(forwarding.service.database, address, time), time)
    [group] = get(forwarding, "/api/v1/deliveries/groups")["groups"]  # type: ignore[index]
    assert (group["state"], group["count"]) == ("unforwardable", 2)
    assert group["first_at"] <= group["last_at"]
    retry = "/api/v1/deliveries/retry"
    assert "deliveries export" in str(ask_for(forwarding, retry, {"state": "unforwardable"}, 400)["message"])
    assert "deliveries export" in str(
        ask_for(forwarding, f"/api/v1/deliveries/{group['sample']}/retry", {}, 400)["message"]
    )
    # Lotus refused them for good.
    with forwarding.service.database.writing() as conn:
        ids = list(conn.execute(sa.select(deliveries.c.event_id)).scalars())
        changes = set_states(conn, ids, DeliveryState.UNFORWARDABLE, DeliveryState.FAILED)
        append(conn, 1, clock(), changes)
    words = {"state": "failed", "reason": group["reason"]}
    assert ask_for(forwarding, retry, {**words, "dry_run": True}) == {"dry_run": True, "count": 2, "is_all": True}
    assert states_of(forwarding.service.database) == {"failed": 2}
    assert ask_for(forwarding, retry, {**words, "customer": "another"})["count"] == 1
    assert ask_for(forwarding, retry, words) == {"dry_run": False, "count": 1, "next": None}
    assert balanced(forwarding.service.database) == {"waiting": 2}
    with forwarding.service.database.writing() as conn:
        append(conn, 1, clock(), set_states(conn, ids, DeliveryState.WAITING, DeliveryState.FAILED))
    one = f"/api/v1/deliveries/{group['sample']}/retry"
    assert ask_for(forwarding, one, {}) == {"retried": True}
    # It waits already, and is due.
    assert ask_for(forwarding, one, {}) == {"retried": False}
    ask_for(forwarding, "/api/v1/deliveries/7/retry", {}, 404)


def test_a_surplus_is_credited_released_and_exported(forwarding: Site, address: str) -> None:
    database = forwarding.service.database
    send(forwarding, "m-1", "m-2", "m-3")
    time = Clock()
    work(a_worker(database, address, time), time)
    correct(database, {"m-1": {"properties": {"tokens": 1}}, "m-2": {"properties": {"tokens": 2}}, "m-3": None})
    numbers = ids_of(database)
    assert 'state="surplus"} 3' in forwarding.ask("/metrics", ADMIN_TOKEN).get_data(as_text=True)
    listed = get(forwarding, "/api/v1/deliveries?state=held")["deliveries"]  # type: ignore[index]
    assert [row["held_for"] for row in listed] == [str(numbers["m-2"]), str(numbers["m-1"])]
    credit, release = "/api/v1/deliveries/credit", "/api/v1/deliveries/release"
    for words in ({}, {"note": ""}, {"note": "n", "state": "held"}, {"note": "n", "nothing": "x"}, {"note": "x" * 501}):
        ask_for(forwarding, credit, words, 400)
    assert ask_for(forwarding, credit, {"note": "n", "dry_run": True})["count"] == 3
    done = ask_for(forwarding, credit, {"note": "credit note 114", "author": "bob", "id": "m-1"})
    assert done == {"dry_run": False, "count": 1, "left": 0, "next": None}
    row = get(forwarding, f"/api/v1/deliveries/{numbers['m-1']}")["delivery"]  # type: ignore[index]
    assert (row["state"], row["note"], row["note_author"]) == ("credited", "credit note 114", "bob")
    one = f"/api/v1/deliveries/{numbers['m-3']}/credit"
    assert ask_for(forwarding, one, {"note": "n"}) == {"credited": True}
    assert "credited, and not surplus" in str(ask_for(forwarding, one, {"note": "n"}, 400)["message"])
    counted = {"dry_run": True, "count": 2, "is_all": True, "doubled": 1}
    assert ask_for(forwarding, release, {"dry_run": True}) == counted
    assert ask_for(forwarding, f"/api/v1/deliveries/{numbers['m-1~2']}/release", {}) == {"released": True}
    assert ask_for(forwarding, release, {})["count"] == 1
    ask_for(forwarding, "/api/v1/deliveries/7/release", {}, 404)
    table = forwarding.ask("/api/v1/deliveries/export?state=credited&format=csv", ADMIN_TOKEN)
    assert table.content_type == "text/csv; charset=utf-8"
    assert table.get_data(as_text=True).count("\n") == 3
    assert get(forwarding, "/api/v1/deliveries/export") == {"events": [], "sums": []}
    assert forwarding.ask("/api/v1/deliveries/export?format=xls", ADMIN_TOKEN).status_code == 400
    assert balanced(database) == {"surplus": 1, "credited": 2, "waiting": 2}


def test_what_was_not_requested_is_queued(forwarding: Site) -> None:
    database = forwarding.service.database
    store(database, [a_recent(f"id-{number}") for number in range(3)], forwards=False)
    correct(database, {"id-0": None})
    queue = "/api/v1/deliveries/queue"
    ask_for(forwarding, queue, {"nothing": "x"}, 400)
    assert ask_for(forwarding, queue, {}) == {"count": 2, "next": None}
    assert ask_for(forwarding, queue, {"after": str(ids_of(database)["id-1"])}) == {"count": 0, "next": None}
    assert balanced(database) == {"waiting": 2}


@pytest.mark.parametrize(
    "words",
    [
        [],
        {},
        {"dry_run": True},
        {"state": "delivered"},
        {"state": ""},
        {"nothing": "x"},
        {"id": 7},
        {"since": "x"},
        {"state": "failed", "dry_run": "yes"},
        {"state": "failed", "before": "x"},
    ],
)
def test_what_cannot_be_tried_again_is_said(site: Site, words: object) -> None:
    assert ask_for(site, "/api/v1/deliveries/retry", words, 400)["code"] == "bad_query"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/deliveries?state=x", 400),
        ("/api/v1/deliveries?nothing=x", 400),
        ("/api/v1/deliveries?since=x", 400),
        ("/api/v1/deliveries/x", 400),
        ("/api/v1/deliveries/7", 404),
    ],
)
def test_what_cannot_be_asked_is_said(site: Site, path: str, status: int) -> None:
    assert site.ask(path, ADMIN_TOKEN).status_code == status
