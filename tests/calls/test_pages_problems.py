"""The problems page and its JSON, over a real service."""

import html5lib
import pytest

from app.calls import problems
from tests.builders import a_document, to_raw
from tests.served import ADMIN_TOKEN, WEBHOOK, signed
from tests.service.test_setup import text_of
from tests.sites import Site
from tests.web.queries import queries_of
from tests.web.test_sign_in import sign_in

HOSTILE = "<script>alert(1)</script>\N{RIGHT-TO-LEFT OVERRIDE}`\"'&"


def send(site: Site, **members: object) -> None:
    assert site.send(to_raw(a_document(**members))).status_code == 200


def ask(site: Site, query: str = "") -> dict[str, list[dict[str, object]]]:
    answer = site.ask(f"/api/v1/problems{query}", ADMIN_TOKEN)
    assert answer.status_code == 200, answer.get_data()
    found: dict[str, list[dict[str, object]]] = answer.get_json()
    return found


def test_calls_that_fail_in_one_way_are_one_group_with_its_words_and_a_sample(site: Site) -> None:
    sign_in(site.client)
    assert "All is well" in text_of(site.client.get("/problems"))
    for number in range(3):
        send(site, messageId=f"m-{number}", userId=None)
    send(site, messageId="m-9", userId="x" * 60)
    send(site, messageId="m-9b", userId="x" * 70)
    send(site, messageId="same", properties={"n": 1})
    send(site, messageId="same", properties={"n": 2})
    [first, second, third] = ask(site)["groups"]
    assert (first["count"], first["path"], first["reason"], first["is_live"]) == (
        3,
        "customer_id",
        "event_invalid",
        True,
    )
    assert (second["count"], second["sentence"]) == (
        2,
        "customer_id has \N{HORIZONTAL ELLIPSIS} characters; Lotus takes at most 50",
    )
    assert (third["outcome"], third["path"]) == ("conflict", "idempotency_id")
    assert first["replay"] == {
        "outcome": "rejected",
        "reason": "event_invalid",
        "by": "_default",
        "version": first["version"],
        "problem": first["key"],
    }
    page = site.client.get("/problems").get_data(as_text=True)
    assert f'href="/transforms/_default?call={first["sample"]}"' in page
    assert f'name="version" value="{first["version"]}"' in page


def test_what_no_transform_takes_stands_apart_with_a_link_to_make_one(site: Site) -> None:
    sign_in(site.client)
    body = to_raw({"type": "identify", "messageId": "i-1", "userId": "u"})
    site.send(body)
    found = ask(site)
    assert found["groups"] == []
    [unmapped] = found["unmapped"]
    assert (unmapped["type"], unmapped["event"], unmapped["count"]) == ("identify", None, 1)
    page = site.client.get("/problems").get_data(as_text=True)
    assert f'href="/transforms/new?call={unmapped["sample"]}"' in page


def test_ids_that_stand_for_none_are_warned_of(site: Site) -> None:
    sign_in(site.client)
    send(site, messageId="usual")
    assert ask(site)["shared_ids"] == []
    assert "Placeholder ids" not in text_of(site.client.get("/problems"))
    for number, user in enumerate(("undefined", "undefined", " ", "[object Object]", "undefined-1")):
        send(site, messageId=f"m-{number}", userId=user)
    send(site, messageId="null")
    found = [(one["field"], one["id"], one["count"], one["is_more"]) for one in ask(site)["shared_ids"]]
    assert sorted(found, key=str) == [
        ("customer_id", " ", 1, False),
        ("customer_id", "[object Object]", 1, False),
        ("customer_id", "undefined", 2, False),
        ("idempotency_id", "null", 1, False),
    ]
    page = site.client.get("/problems").get_data(as_text=True)
    assert "real_id(userId)" in page
    for shared in ask(site)["shared_ids"]:
        assert site.client.get(f"/calls/{shared['sample']}").status_code == 200
    assert 'href="/calls?customer=%5Bobject%20Object%5D&amp;since=all"' in page
    assert ask(site, "?range=2090-01-01")["shared_ids"] == []


def test_every_call_is_counted_and_the_largest_groups_are_listed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in(site.client)
    monkeypatch.setattr(problems, "GROUPS_MAX", 1)
    for number in range(5):
        send(site, messageId=f"m-{number}", userId=None)
        site.send(to_raw({"type": "page", "messageId": f"p-{number}", "userId": "u"}))
    send(site, messageId="m-9", userId="x" * 60)
    site.send(to_raw({"type": "alias", "messageId": "a-1", "userId": "u"}))
    result = site.ask("/api/v1/problems?range=1d", ADMIN_TOKEN).get_json()
    assert [group["count"] for group in result["groups"]] == [5]
    assert [group["count"] for group in result["unmapped"]] == [5]
    assert (result["more"], result["unmapped_more"]) == (1, 1)
    # The keys of when a look was bounded are still there.
    assert (result["seen"], result["unmapped_seen"]) == ({"calls": 6, "since": None, "before": None},) * 2
    page = text_of(site.client.get("/problems"))
    assert "1 more group is not shown" in page
    assert "1 more event is not shown" in page


def test_the_range_is_kept(site: Site) -> None:
    send(site, userId=None)
    assert len(ask(site, "?range=1h")["groups"]) == 1
    assert ask(site, "?range=0s")["groups"] == []
    assert len(ask(site, "?range=all")["groups"]) == 1


@pytest.mark.parametrize("query", ["range=soon", "range=", "before=1", "nonsense=1"])
def test_what_cannot_be_asked_is_said(site: Site, query: str) -> None:
    sign_in(site.client)
    assert site.client.get(f"/problems?{query}").status_code == 400
    answer = site.ask(f"/api/v1/problems?{query}", ADMIN_TOKEN)
    assert (answer.status_code, answer.get_json()["code"]) == (400, "bad_query")


def test_what_a_call_says_stays_text(site: Site) -> None:
    sign_in(site.client)
    body = to_raw({"type": HOSTILE, "messageId": "i-1", "event": HOSTILE})
    assert site.client.post(WEBHOOK, data=body, headers=signed(body)).status_code == 200
    site.send(to_raw({"type": "identify", "event": HOSTILE, "messageId": "i-2", "userId": "u"}))
    page = site.client.get("/problems").get_data(as_text=True)
    assert "<script>alert" not in page
    html5lib.HTMLParser(strict=True).parse(page)


def test_a_page_asks_the_database_a_few_times_however_many_groups_there_are(site: Site) -> None:
    sign_in(site.client)
    for number in range(30):
        send(site, messageId=f"m-{number}", userId=None, timestamp=str(number))
        site.send(to_raw({"type": "page", "messageId": f"p-{number}", "event": f"E{number}"}))
    # The faults, the events that nothing takes, placeholder ids, what is live.
    assert len(queries_of(site, "/problems")) == 4
