"""The page of calls, with Flask's own client: what it shows, and what it asks of the database."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa

from app.calls import sql_search as search
from app.clock import clock
from app.core.outcome import Outcome
from app.store.schema import calls
from tests.served import ADMIN_TOKEN
from tests.sites import Site
from tests.web.visiting import counted, ids, listed, page, send


def test_calls_are_listed_newest_first_with_outcome_as_colour_and_word(visited: Site) -> None:
    sent = send(visited, 3)
    text = page(visited, "/calls")
    assert listed(text) == sent[::-1]
    assert text.count('<span class="chip stored">stored</span>') == 3 + 1
    for shown in ("API Call", "customer-1", "m-2", "_default"):
        assert shown in text


def test_each_filter_narrows_and_stands_in_the_form_and_in_the_address(visited: Site) -> None:
    send(visited, 1, event="Seats", userId="ann")
    send(visited, 1, first=1, userId="")
    send(visited, 1, first=0, event="Seats", userId="ann")
    for query, outcome in (
        ("outcome=rejected", Outcome.REJECTED),
        ("reason=event_invalid", Outcome.REJECTED),
        ("id=m-1", Outcome.REJECTED),
        ("event=Seats&outcome=stored", Outcome.STORED),
        ("customer=ann&outcome=duplicate", Outcome.DUPLICATE),
        ("transform=_default&q=%22m-1%22", Outcome.REJECTED),
    ):
        text = page(visited, f"/calls?{query}")
        assert listed(text) == ids(visited, outcomes=(outcome,)), query
        for name, [value] in parse_qs(query).items():
            written = value.replace('"', "&#34;")
            field = f'name="{name}" value="{written}"' if name != "reason" else f"<option selected>{value}"
            assert field in text or f"<option selected>{value}" in text, (name, value)
    both = page(visited, "/calls?outcome=rejected&outcome=duplicate")
    assert (
        listed(both)
        == listed(page(visited, "/calls?outcome=rejected,duplicate"))
        == ids(visited, outcomes=(Outcome.REJECTED, Outcome.DUPLICATE))
    )


def test_empty_fields_of_the_form_leave_nothing_out(visited: Site) -> None:
    sent = send(visited)
    assert listed(page(visited, "/calls?q=&event=&customer=&since=7d&reason=&id=&transform=&until=")) == sent


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("outcom=rejected", "there is no parameter &#39;outcom&#39;"),
        ("outcome=lost", "outcome must be one of"),
        ("reason=duplicate&outcome=stored", "reason duplicate belongs to the outcome duplicate"),
        ("since=yesterday", "since must be a time"),
        ("before=x", "before must be an id"),
        ("event=a&event=b", "event is there 2 times"),
        ("q=" + "x" * 501, "q is longer than 500 characters"),
    ],
)
def test_a_filter_that_cannot_be_used_is_said_and_the_rest_of_the_form_stays(
    visited: Site, query: str, sentence: str
) -> None:
    send(visited)
    text = page(visited, f"/calls?customer=ann&{query}", 400)
    assert sentence in text
    assert listed(text) == []


def test_a_page_leads_to_the_older_one_until_there_are_no_more(visited: Site) -> None:
    sent = send(visited, 120)
    address: str | None = "/calls?event=API+Call"
    seen: list[int] = []
    while address:
        text = page(visited, address)
        seen += listed(text)
        found = re.search(r'href="([^"]+)" rel="next"', text)
        address = found[1].replace("&amp;", "&") if found else None
        assert address is None or "event=API+Call" in address
    assert seen == sent[::-1]


def test_seven_days_are_shown_unless_an_id_or_another_time_is_asked_for(visited: Site) -> None:
    [old] = send(visited)
    eight_days = 8 * 86_400_000_000
    with visited.service.database.writing() as conn:
        older = old - (eight_days << 12)
        conn.execute(sa.update(calls).values(id=older, received_at=clock() - eight_days))
    assert listed(page(visited, "/calls")) == []
    assert "Show all time" in page(visited, "/calls")
    assert listed(page(visited, "/calls?since=30d")) == [older]
    assert listed(page(visited, "/calls?since=all")) == [older]
    assert listed(page(visited, f"/calls?id={older}")) == [older]
    assert listed(page(visited, f"/calls?id={older}&since=7d")) == []


def test_nothing_there_says_what_to_do(visited: Site) -> None:
    text = page(visited, "/calls")
    assert "No calls yet." in text
    assert 'href="/setup"' in text
    send(visited)
    text = page(visited, "/calls?customer=nobody")
    assert "No calls match." in text
    assert 'href="/calls"' in text


def test_a_search_that_stops_early_says_how_far_it_looked_and_goes_on(
    visited: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    [wanted, *_] = send(visited, 12)
    defaults = search.search_calls.__kwdefaults__ or {}
    monkeypatch.setattr(search.search_calls, "__kwdefaults__", {**defaults, "most": 5})
    address, found = "/calls?q=%22m-0%22", []
    texts = []
    while address:
        texts.append(page(visited, address))
        found += listed(texts[-1])
        following = re.search(r'href="([^"]+)" rel="next"', texts[-1])
        address = following[1].replace("&amp;", "&") if following else ""
    assert found == [wanted]
    assert len(texts) == 3
    assert re.search(r"Searched 5 calls, back to <time[^>]*>\d{4}-\d\d-\d\d [\d:.]+</time>: none found", texts[0])
    assert "No match in 5 calls." in texts[0]


def test_a_live_page_asks_for_newer_calls_and_gets_those_that_fit(visited: Site) -> None:
    [first] = send(visited)
    text = page(visited, "/calls?outcome=stored")
    newest = re.search(r'data-newest="(\d+)"', text)
    query = re.search(r'data-query="([^"]+)"', text)
    assert newest is not None
    assert query is not None
    assert int(newest[1]) == first
    [second] = send(visited, first=1)
    [third] = send(visited, first=2, userId="")
    answer = visited.client.get(f"{query[1]}&newest={first}").get_data(as_text=True)
    # The last 30 s are read again: who asks leaves out what it has.
    assert listed(answer) == [second, first]
    assert f'data-newest="{third}"' in answer
    assert "data-more" not in answer


def test_a_call_that_is_seen_late_is_brought_though_its_id_is_older(visited: Site) -> None:
    [first, second] = send(visited, 2)
    late = first - (20_000_000 << 12)
    with visited.service.database.writing() as conn:
        conn.execute(sa.update(calls).where(calls.c.id == first).values(id=late))
    assert listed(visited.client.get(f"/calls/newer?newest={second}").get_data(as_text=True)) == [second, late]


def test_no_more_newer_calls_are_brought_than_a_page_takes(visited: Site) -> None:
    send(visited, 105)
    answer = visited.client.get("/calls/newer?newest=0").get_data(as_text=True)
    assert len(listed(answer)) == 100
    assert "data-more" in answer


def test_an_older_page_and_one_with_an_end_are_not_live(visited: Site) -> None:
    [one] = send(visited)
    assert 'id="live"' in page(visited, "/calls")
    assert 'id="live"' not in page(visited, f"/calls?before={one}")
    assert 'id="live"' not in page(visited, "/calls?until=1h")


def test_the_number_of_queries_is_small_and_does_not_grow_with_the_rows(visited: Site) -> None:
    # Ten messages of one id: a page of one call tells of the others, too.
    def look() -> dict[str, int]:
        looks = {}
        for name, address in {
            "calls": "/calls",
            "search": "/calls?q=customer",
            "filters": "/calls?customer=customer-1&event=API+Call&outcome=stored",
            "newer": "/calls/newer?newest=0",
            "stored": f"/calls/{ids(visited, outcomes=(Outcome.STORED,))[-1]}",
            "conflict": f"/calls/{ids(visited, outcomes=(Outcome.CONFLICT,))[-1]}",
            "overview": "/",
        }.items():
            visited.client.get(address)
            with counted(visited) as statements:
                assert visited.client.get(address).status_code == 200
            looks[name] = len(statements)
        return looks

    send(visited, 1)
    send(visited, 1, properties={"tokens": 0})
    few = look()
    send(visited, 60, first=1)
    for number in range(20):
        send(visited, 1, properties={"tokens": number})
    many = look()
    # Fewer where the newest others of a message are all of one kind; never more.
    assert all(many[name] <= few[name] for name in few), (few, many)
    assert max(many.values()) <= 20, many
    assert many["calls"] <= 5, many


def test_the_menu_of_a_call_leads_to_everything_that_can_be_done_about_it(visited: Site) -> None:
    [one] = send(visited, userId=None)
    text = page(visited, "/calls")
    menu = text[text.index(f'id="menu-{one}"') :]
    forms = re.findall(r'<form method="post" action="(/[a-z]+)">(.*?)</form>', menu, re.DOTALL)
    fields = [dict(re.findall(r'name="(\w+)" value="([^"]*)"', inner)) for _, inner in forms]
    assert [action for action, _ in forms] == ["/replays", "/replays"]
    token = fields[0].pop("csrf")
    assert token == fields[1].pop("csrf")
    told = visited.ask(f"/api/v1/calls/{one}", ADMIN_TOKEN).get_json()
    version, problem = told["transform_digest"], told["problem"]
    exact = {"outcome": "rejected", "reason": "event_invalid", "by": "_default", "version": version, "problem": problem}
    assert fields == [{"id": str(one)}, exact]
    [stored] = send(visited, first=7)
    other = page(visited, f"/calls/{stored}")
    assert "Replay this call" in other
    assert "Replay all like this" not in other, "what made its events is like no problem"
    for given in fields:
        assert visited.client.post("/replays", data={**given, "csrf": token}).status_code in {200, 303}
    links = [urlsplit(link.replace("&amp;", "&")) for link in re.findall(r'class="button quiet" href="([^"]+)"', menu)]
    assert [(link.path, link.query) for link in links] == [
        ("/transforms/_default", f"call={one}"),
        ("/transforms/_default", f"call={one}&example=1"),
        (f"/calls/{one}/curl", ""),
    ]
