"""The pages of deliveries with Flask's own client, over a real outbox and the stand-in for Lotus."""

import re
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa

from app.clock import clock
from app.core.times import format_time
from app.forward import verdict
from app.forward.fake_lotus.server import FakeLotus
from app.forward.outbox import ADVICE, describe_pause
from app.forward.sql_destination import Destination, pause, read_destination
from app.service.ledger import read_ledger
from app.store.ledger_total import LedgerTotal
from app.store.schema import deliveries
from tests.forward.amending import correct, ids_of
from tests.forward.forwarding import DAY, KEY, Clock, a_recent, a_worker, balanced, states_of, store, work
from tests.metrics.conftest import publish
from tests.metrics.metrics import a_metric
from tests.served import ADMIN_TOKEN
from tests.sites import Site
from tests.web.queries import queries_of
from tests.web.visiting import ids, listed, page, send

REFUSED = "No customer_id provided"
TOO_OLD = "Lotus takes no event that is more than 30 days old"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def forwarding(forwarding: Site) -> Site:
    """A service that forwards, with somebody signed in."""
    assert forwarding.client.post("/sign-in", data={"token": ADMIN_TOKEN}).status_code == 303
    return forwarding


def now(age: int = 0) -> str:
    return format_time(clock() - age)


def forward(site: Site, address: str, key: str = KEY) -> None:
    """Send everything that waits, or as much as a wrong key lets through."""
    time = Clock()
    worker = a_worker(site.service.database, address, time, key=key)
    if key == KEY:
        work(worker, time)
    else:
        worker.step()


def fail(site: Site, count: int, reason: str = REFUSED, state: str = "failed") -> None:
    """Let the newest deliveries have ended badly."""
    with site.service.database.writing() as conn:
        newest = sa.select(deliveries.c.event_id).order_by(deliveries.c.event_id.desc()).limit(count)
        known = sa.select(deliveries.c.state).where(deliveries.c.event_id.in_(newest)).limit(1)
        before = conn.execute(known).scalar_one()
        changed = sa.update(deliveries).where(deliveries.c.event_id.in_(newest))
        conn.execute(changed.values(state=state, reason=reason, settled_at=clock()))
        for name, sign in ((before, -count), (state, count)):
            row = {"minute": 1, "node": 9, "subject": "delivery", "reason": "", "outcome": name, "count": sign}
            text = "INSERT INTO ledger VALUES (:minute, :node, :subject, :outcome, :reason, :count)"
            conn.execute(sa.text(f"{text} ON CONFLICT DO UPDATE SET count = count + excluded.count"), row)


def post(site: Site, path: str, status: int = 200, **words: str) -> str:
    csrf = re.search(r'name="csrf" content="([^"]+)"', site.client.get("/setup").get_data(as_text=True))
    assert csrf
    answer = site.client.post(path, data={**words, "csrf": csrf[1]})
    assert answer.status_code == status, answer.get_data(as_text=True)[:2000]
    return answer.headers.get("Location") or answer.get_data(as_text=True)


def figures(text: str) -> dict[str, int]:
    found = re.findall(r"<div><dt>(.*?)</dt><dd>(?:<a [^>]+>)?([\d,]+)(?:</a>)?</dd>", text)
    return {re.sub("<[^>]+>", "", name): int(number.replace(",", "")) for name, number in found}


def test_without_a_key_the_page_says_the_two_variables(visited: Site) -> None:
    send(visited)
    text = page(visited, "/deliveries")
    assert "Events are not forwarded" in text
    assert "LOTUS_HOST=" in text
    assert "LOTUS_API_KEY=" in text
    assert figures(text)["not requested"] == figures(text)["stored"] == 1


def test_the_ledger_of_events_balances_on_the_page_and_says_what_the_command_says(
    forwarding: Site, address: str
) -> None:
    send(forwarding, 2, timestamp=now())
    send(forwarding, 1, first=10, timestamp=now(31 * DAY))
    forward(forwarding, address)
    send(forwarding, 1, first=20, timestamp=now())
    text = page(forwarding, "/deliveries")
    told = figures(text)
    assert told == {
        "Waiting": 1,
        "stored": 4,
        "waiting": 1,
        "delivered": 2,
        "failed": 0,
        "not forwardable": 1,
        "voided": 0,
        "surplus": 0,
        "credited": 0,
        "held": 0,
        "not requested": 0,
    }
    assert "balances</span>" in text
    ledger = read_ledger(forwarding.service.database)
    assert ledger.balances
    assert ledger.deliveries.pop("differences") == 0
    assert sorted(ledger.deliveries.values()) == sorted(list(told.values())[2:])
    with forwarding.service.database.writing() as conn:
        conn.execute(sa.delete(deliveries).where(deliveries.c.state == "unforwardable"))
    assert "does not balance" in page(forwarding, "/deliveries")


def test_the_sum_of_the_ledger_is_the_same_when_it_is_remembered(forwarding: Site) -> None:
    send(forwarding, 3, timestamp=now())
    total = LedgerTotal()
    with forwarding.service.database.reading() as conn:
        first = total.read(conn, clock())
        # Two days on, all of it is closed.
        assert total.read(conn, clock() + 2 * DAY) == first
        assert total.read(conn, clock() + 3 * DAY) == first
        assert total.read(conn, clock()) == first


def test_the_list_is_the_newest_first_by_any_filter_and_by_page(forwarding: Site, address: str) -> None:
    send(forwarding, 60, timestamp=now())
    send(forwarding, 1, first=100, userId="somebody else", event="Another", timestamp=now())
    forward(forwarding, address)
    fail(forwarding, 3)
    text = page(forwarding, "/deliveries")
    first = listed(text)
    assert len(first) == 50
    assert first == sorted(first, reverse=True)
    [older] = re.findall(r'href="(/deliveries\?before=\d+)#list" rel="next"', text)
    rest = listed(page(forwarding, older))
    assert len(rest) == 11
    assert max(rest) < min(first)
    for count, filters in (
        (3, {"state": "failed"}),
        (3, {"reason": REFUSED}),
        (3, {"reason": REFUSED, "state": "failed"}),
        (1, {"customer": "somebody else"}),
        (1, {"event_name": "Another"}),
        (0, {"event_name": "Another", "state": "waiting"}),
        (1, {"id": "m-7"}),
        (50, {"since": "1h"}),
        (0, {"until": "1h"}),
        (50, {"state": "delivered", "since": "1h", "until": ""}),
    ):
        found = page(forwarding, f"/deliveries?{urlencode(filters)}")
        assert len(listed(found)) == count, filters
        assert ("No delivery matches" in found) == (count == 0)


@pytest.mark.parametrize("query", ["state=x", "since=soon", "before=x", "nothing=1", "id=a&id=b"])
def test_what_cannot_be_asked_is_said_beside_the_form(forwarding: Site, query: str) -> None:
    assert 'role="alert"' in page(forwarding, f"/deliveries?{query}", 400)


def test_errors_come_in_groups_and_a_group_is_counted_and_tried_again(
    forwarding: Site, address: str, lotus: FakeLotus
) -> None:
    send(forwarding, 5, timestamp=now())
    fail(forwarding, 5)
    fail(forwarding, 2, "another reason")
    text = page(forwarding, "/deliveries")
    groups = re.findall(r'<td class="number count"[^>]*>(\d+)</td>.*?<bdi>(.*?)</bdi>', text, re.DOTALL)
    assert groups == [("3", REFUSED), ("2", "another reason")]
    asked = post(forwarding, "/deliveries/retry", state="failed", reason="another reason")
    assert "Retry 2 deliveries?" in asked
    assert states_of(forwarding.service.database) == {"failed": 5}
    done = post(forwarding, "/deliveries/retry/start", state="failed", reason="another reason")
    assert "2 deliveries queued again" in done
    assert states_of(forwarding.service.database) == {"failed": 3, "waiting": 2}
    forward(forwarding, address)
    assert len(lotus.events) == 2
    assert "No delivery matches" in post(forwarding, "/deliveries/retry", state="failed", reason="x")


def test_a_range_is_counted_and_tried_again_and_one_alone(forwarding: Site) -> None:
    send(forwarding, 4, timestamp=now())
    fail(forwarding, 4)
    asked = post(forwarding, "/deliveries/retry", state="failed", since="1h", until="30m")
    assert "Retry 0 deliveries?" in asked
    asked = post(forwarding, "/deliveries/retry", state="failed", since="1h")
    assert "Retry 4 deliveries?" in asked
    # An hour ago stays where it was while somebody makes up their mind.
    assert re.search(r'name="since" value="\d{4}-', asked)
    newest = listed(page(forwarding, "/deliveries"))[0]
    assert post(forwarding, f"/deliveries/{newest}/retry", 303, back="/calls?outcome=stored") == "/calls?outcome=stored"
    assert post(forwarding, f"/deliveries/{newest}/retry", 303, back="//elsewhere") == "/"
    assert balanced(forwarding.service.database)["waiting"] == 1
    assert "3 deliveries queued again" in post(forwarding, "/deliveries/retry/start", state="failed")


def test_a_surplus_is_settled_with_a_note_and_what_it_held_is_sent(forwarding: Site, address: str) -> None:
    database = forwarding.service.database
    send(forwarding, 3, timestamp=now())
    forward(forwarding, address)
    changes: dict[str, dict[str, object] | None] = {f"m-{number}": {"properties": {"tokens": 1}} for number in (0, 1)}
    correct(database, {**changes, "m-2": None})
    numbers = ids_of(database)
    assert figures(page(forwarding, "/deliveries")) | {"surplus": 3, "held": 2, "voided": 0} == figures(
        page(forwarding, "/deliveries")
    )
    assert "Settle all that match" in page(forwarding, "/deliveries?state=surplus")
    assert "Lotus bills too much" in page(forwarding, f"/deliveries/{numbers['m-0']}")
    assert "which Lotus has" in page(forwarding, f"/deliveries/{numbers['m-0~2']}")
    one = f"/deliveries/{numbers['m-0']}/credit"
    post(forwarding, one, 400, note="credit note 114")
    assert post(forwarding, one, 303, note="credit note <114>", author="bob").endswith(str(numbers["m-0"]))
    assert "credit note &lt;114&gt;" in page(forwarding, f"/deliveries/{numbers['m-0']}")
    assert "Settle 2 deliveries?" in post(forwarding, "/deliveries/credit", state="surplus")
    asked = post(forwarding, "/deliveries/release", state="held")
    assert "Of 1 the surplus is not settled: Lotus will count both." in asked
    done = post(forwarding, "/deliveries/credit/start", state="surplus", note="n", author="bob")
    assert "2 deliveries settled" in done
    post(forwarding, "/deliveries/credit/start", 400, state="surplus", note="n")
    post(forwarding, f"/deliveries/{numbers['m-0~2']}/release", 303)
    assert "1 delivery queued" in post(forwarding, "/deliveries/release/start", state="held")
    assert balanced(database) == {"credited": 3, "waiting": 2}
    for path in (one, "/deliveries/release", "/deliveries/credit/start", "/deliveries/queue"):
        assert forwarding.client.post(path, data={"note": "n", "author": "x"}).status_code == 403


def test_a_difference_is_shown_as_what_it_is(forwarding: Site, address: str) -> None:
    database = forwarding.service.database
    publish(database, a_metric("total", event_name="API Call", property_name="tokens"))
    [call] = send(forwarding, timestamp=now())
    forward(forwarding, address)
    correct(database, {"m-0": {"properties": {"tokens": 3}}}, "difference")
    text = page(forwarding, "/deliveries?state=waiting")
    assert "difference</span>" in text
    [number] = listed(text)
    text = page(forwarding, f"/deliveries/{number}")
    assert "A difference, and no event" in text
    assert "Show the call" not in text
    assert figures(page(forwarding, "/deliveries"))["differences"] == 1
    assert "balances</span>" in page(forwarding, "/deliveries")
    text = page(forwarding, f"/calls/{call}")
    assert "1 of its 2 events counts" in text
    assert "difference correction-" in text
    correct(database, {"m-0~2": None})
    assert "0 of 2 events count" in page(forwarding, f"/calls/{call}")


def test_what_was_not_requested_is_queued_from_its_call_and_from_the_list(visited: Site, forwarding: Site) -> None:
    database = forwarding.service.database
    store(database, [a_recent(f"id-{number}") for number in range(2)], forwards=False)
    first = ids(forwarding)[-1]
    assert "1 event was not requested" in page(forwarding, f"/calls/{first}")
    post(forwarding, "/deliveries/queue", 303, call=str(first))
    assert "was not requested" not in page(forwarding, f"/calls/{first}")
    assert balanced(database) == {"waiting": 1}
    assert "Queue those that were not requested" in page(forwarding, "/deliveries")
    assert "1 event queued" in post(forwarding, "/deliveries/queue")
    assert "Each event that counts was queued before" in post(forwarding, "/deliveries/queue")


def test_what_is_too_old_is_exported_in_place_of_a_retry(forwarding: Site, address: str) -> None:
    send(forwarding, timestamp=now(31 * DAY))
    forward(forwarding, address)
    text = page(forwarding, "/deliveries?state=unforwardable")
    assert "Retry" not in text
    [link] = re.findall(r'href="(/api/v1/deliveries/export\?[^"]+reason[^"]+format=csv)"', text)
    table = forwarding.client.get(link.replace("&amp;", "&")).get_data(as_text=True)
    assert table.count("\n") == 2
    [number] = listed(text)
    assert "Bill it by hand" in page(forwarding, f"/deliveries/{number}")
    post(forwarding, f"/deliveries/{number}/retry", 400)


def test_nothing_is_tried_again_without_the_token_of_the_session(forwarding: Site) -> None:
    send(forwarding, timestamp=now())
    fail(forwarding, 1)
    [number] = listed(page(forwarding, "/deliveries"))
    for path in ("/deliveries/retry", "/deliveries/retry/start", f"/deliveries/{number}/retry"):
        assert forwarding.client.post(path, data={"state": "failed"}).status_code == 403
    assert states_of(forwarding.service.database) == {"failed": 1}
    post(forwarding, "/deliveries/retry", 400, state="delivered")
    post(forwarding, "/deliveries/retry/start", 400, state="delivered")
    post(forwarding, "/deliveries/retry/start", 400, nothing="x")
    post(forwarding, "/deliveries/1/retry", 404)


def test_one_delivery_tells_every_attempt(forwarding: Site, address: str) -> None:
    send(forwarding, timestamp=now())
    forward(forwarding, address, key="wrong")
    [number] = listed(page(forwarding, "/deliveries"))
    text = page(forwarding, f"/deliveries/{number}")
    assert "It waits until forwarding resumes" in text
    forward(forwarding, address)
    text = page(forwarding, f"/deliveries/{number}")
    assert "Lotus took it on" in text
    rows = re.findall(r'data-label="Status"><span><span class="chip \w+">(\d+)', text)
    assert rows == ["400", "201"]
    assert "Invalid API key" in text
    assert re.search(r"\d+ ms", text)
    for unknown in ("/deliveries/1", "/deliveries/x", "/deliveries/retry"):
        page(forwarding, unknown, 404)


def test_the_page_of_a_call_tells_of_each_event_how_it_reached_lotus(forwarding: Site, address: str) -> None:
    [call] = send(forwarding, timestamp=now())
    text = page(forwarding, f"/calls/{call}")
    assert re.findall(r'<span class="stage">(\w+)</span>', text)[-2:] == ["stored", "queued"]
    assert "It has not been sent yet." in text
    forward(forwarding, address, key="wrong")
    text = page(forwarding, f"/calls/{call}")
    assert "it waits, the last time" in text
    assert "Try now" in text
    forward(forwarding, address)
    text = page(forwarding, f"/calls/{call}")
    assert re.findall(r'<span class="stage">(\w+)</span>', text)[-3:] == ["stored", "queued", "delivered"]
    assert re.findall(r'data-label="Status"><span><span class="chip \w+">(\d+)', text) == ["400", "201"]
    fail(forwarding, 1)
    text = page(forwarding, f"/calls/{call}")
    assert re.findall(r'<li class="stopped">\s*<span class="stage">(\w+)', text) == ["delivered"]
    assert REFUSED in text
    [number] = listed(page(forwarding, "/deliveries"))
    assert f'action="/deliveries/{number}/retry"' in text


def test_a_call_without_deliveries_says_nothing_of_them(visited: Site) -> None:
    [call] = send(visited)
    assert "queued" not in page(visited, f"/calls/{call}")


def test_a_pause_is_told_on_every_page_at_the_price_of_one_query(forwarding: Site, address: str) -> None:
    [call] = send(forwarding, timestamp=now())
    pages = ["/", "/calls", f"/calls/{call}", "/problems", "/replays", "/deliveries", "/transforms"]
    pages += ["/transforms/_default", "/usage", "/setup"]
    assert not any("is paused" in page(forwarding, path) for path in pages)
    forward(forwarding, address, key="wrong")
    for path in pages:
        text = page(forwarding, path)
        assert "Forwarding to Lotus is paused" in text, path
        assert "Invalid API key" in text
        assert "Set LOTUS_API_KEY" in text
        assert sum("destinations" in one for one in queries_of(forwarding, path)) == 1, path
    assert "is paused" not in forwarding.client.get("/calls/newer?newest=0").get_data(as_text=True)
    forward(forwarding, address)
    assert "is paused" not in page(forwarding, "/")


@pytest.mark.parametrize("path", ["/deliveries", "/calls?outcome=stored", "/"])
def test_a_pause_is_ended_from_the_page_that_tells_of_it(
    forwarding: Site, lotus: FakeLotus, address: str, path: str
) -> None:
    send(forwarding)
    forward(forwarding, address, key="wrong")
    text = page(forwarding, path)
    (form,) = re.findall(r'<form method="post" action="/deliveries/try-now">.*?</form>', text, re.DOTALL)
    words = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
    assert forwarding.client.post("/deliveries/try-now", data={**words, "csrf": "wrong"}).status_code == 403
    assert "one is tried again at" in page(forwarding, path)
    answer = forwarding.client.post("/deliveries/try-now", data=words)
    assert (answer.status_code, answer.location) == (303, path)
    text = page(forwarding, path)
    assert "one is tried again now" in text
    assert "Try now" not in text
    assert not lotus.events
    a_worker(forwarding.service.database, address).step()
    assert len(lotus.events) == 1
    assert "is paused" not in page(forwarding, path)


def test_the_overview_counts_deliveries_where_there_are_any(forwarding: Site, address: str) -> None:
    send(forwarding, 3, timestamp=now())
    forward(forwarding, address)
    send(forwarding, 2, first=10, timestamp=now())
    fail(forwarding, 1)
    text = page(forwarding, "/")
    shown = text[text.index("Deliveries to Lotus") :]
    found = re.findall(r'<a href="/deliveries\?state=(\w+)">(\d+)</a>', shown)
    assert found == [("delivered", "3"), ("waiting", "1"), ("failed", "1"), ("unforwardable", "0")]
    assert "event was refused by Lotus" in text
    # Calls, refusals, delivered, what is not (two), the pause.
    assert len(queries_of(forwarding, "/")) <= 6


def test_without_a_key_no_page_asks_for_a_pause(visited: Site) -> None:
    assert not any("destinations" in one for one in queries_of(visited, "/calls"))
    assert "Deliveries to Lotus" not in page(visited, "/")


def test_each_trouble_has_an_advice() -> None:
    words = {verdict.KEY, verdict.BROKER, verdict.SERVER, verdict.BUSY, verdict.NETWORK, verdict.ANSWER}
    assert set(ADVICE) == words
    told = describe_pause(Destination("key", "no", 1, 5, 90), 100)
    assert told is not None
    assert (told.is_due, describe_pause(Destination(), 1)) == (True, None)


def test_the_queries_of_the_pages_do_not_grow_with_what_they_show(forwarding: Site, address: str) -> None:
    send(forwarding, 2, timestamp=now())
    forward(forwarding, address, key="wrong")
    few = len(queries_of(forwarding, "/deliveries"))
    forward(forwarding, address)
    send(forwarding, 40, first=10, timestamp=now())
    forward(forwarding, address)
    fail(forwarding, 20)
    assert few <= 13
    # The ledger's closed part was summed by then.
    assert len(queries_of(forwarding, "/deliveries")) <= few
    [first, *_] = listed(page(forwarding, "/deliveries"))
    assert len(queries_of(forwarding, f"/deliveries/{first}")) <= 3


def test_what_lotus_and_senders_say_stays_text(forwarding: Site) -> None:
    send(forwarding, userId=HOSTILE, event=HOSTILE, messageId=HOSTILE, timestamp=now())
    fail(forwarding, 1, HOSTILE)
    [number] = listed(page(forwarding, "/deliveries"))
    for path in ("/deliveries", f"/deliveries/{number}", f"/calls/{ids(forwarding)[0]}"):
        text = page(forwarding, path)
        assert HOSTILE not in text
        assert "&lt;script&gt;alert(1)" in text
    assert HOSTILE not in post(forwarding, "/deliveries/retry", state="failed", reason=HOSTILE)


def test_events_that_nobody_sends_are_told(forwarding: Site) -> None:
    send(forwarding, timestamp=now())
    assert "no worker is running" not in page(forwarding, "/deliveries")
    with forwarding.service.database.writing() as conn:
        conn.execute(sa.update(deliveries).values(due_at=clock() - DAY))
    assert "no worker is running" in page(forwarding, "/deliveries")
    # In a pause nothing is sent either, until its time has come.
    for probe_at, is_told in ((clock() + DAY, False), (clock() - DAY, True)):
        with forwarding.service.database.writing() as conn:
            pause(conn, read_destination(conn), "network", "away", now=clock(), probe_at=probe_at)
        assert ("no worker is running" in page(forwarding, "/deliveries")) == is_told
