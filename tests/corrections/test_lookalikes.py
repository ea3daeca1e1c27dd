"""Doubles under new ids: found, told from ordinary events, and void but for the first. On both databases."""

import json
import random
from collections.abc import Callable, Iterable
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app.core.times import format_time
from app.corrections.lookalike_search import find_lookalikes
from app.corrections.lookalikes import AROUND_MICROS, LookalikesPage, Ordinary, parse_question
from app.errors import BadQuery, NotFound
from app.service import commands
from app.service.build import find_counted
from app.settings import SETTINGS
from app.store.engine import Database
from app.store.schema import corrections
from tests.builders import NOW, an_event, rows_of, some_transforms
from tests.corrections.correcting import METRICS, check, counted, void
from tests.forward.forwarding import store
from tests.metrics.conftest import publish
from tests.replay.replaying import take
from tests.replay.test_dry_run import items
from tests.served import ADMIN_TOKEN
from tests.service.test_setup import text_of
from tests.sites import Site
from tests.web.test_sign_in import csrf_of, sign_in

SECOND = 1_000_000
DAY = 86_400 * SECOND


def keep(database: Database, *told: tuple[str, float, dict[str, Any]], **fields: Any) -> None:
    """Store events: id, seconds from NOW, properties; each of a call of its own."""
    store(
        database,
        [
            an_event(
                idempotency_id=id_, time_created=format_time(NOW + int(at * SECOND)), properties=properties, **fields
            )
            for id_, at, properties in told
        ],
    )


def find(database: Database, **members: str) -> LookalikesPage:
    question = parse_question({"since": format_time(NOW - DAY), **members}, NOW)
    with database.reading() as conn:
        return find_lookalikes(conn, question, find_counted, limit=1000)


def groups_of(page: LookalikesPage) -> list[tuple[list[str], str | None]]:
    return [([event.idempotency_id for event in group.events], group.why_ordinary) for group in page.groups]


T = {"tokens": 7, "path": "/a"}


@pytest.mark.parametrize(
    ("told", "groups"),
    [
        pytest.param([("a", 0, T), ("b", 20, T)], [(["a", "b"], None)], id="a retry"),
        pytest.param([("b", 300, T), ("a", 0, T)], [(["a", "b"], None)], id="the gap is within, its end included"),
        pytest.param([("a", 0, T), ("b", 301, T)], [], id="too far apart"),
        pytest.param([("a", 0, T), ("b", 250, T), ("c", 900, {**T, "x": 1})], [(["a", "b"], None)], id="other content"),
        pytest.param([("a", 0, T), ("b", 1, {"path": "/a", "tokens": 7.0})], [(["a", "b"], None)], id="7 is 7.0"),
        pytest.param([("a", 0, T), ("b", 1, {**T, "tokens": "7"})], [], id="a text is no number"),
        pytest.param(
            [("a", 0, T), ("b", 2, T), ("c", 290, T)], [(["a", "b", "c"], None)], id="a chain of retries, ever later"
        ),
        pytest.param(
            [("a", 0, T), ("b", 60, T), ("c", 121, T)], [(["a", "b", "c"], Ordinary.STEADY)], id="a heartbeat"
        ),
        pytest.param(
            [("a", 0, T), ("b", 2, T), ("c", 9000, T)], [(["a", "b"], Ordinary.RECURS)], id="it comes again later"
        ),
        pytest.param([("a", 0, {}), ("b", 2, {})], [(["a", "b"], Ordinary.EMPTY)], id="nothing to tell them apart"),
        pytest.param(
            [(f"e{n}", n * n, T) for n in range(6)], [([f"e{n}" for n in range(6)], Ordinary.MANY)], id="a loop"
        ),
        pytest.param(
            [("a", 0, T), ("b", 2, T), ("c", 3600 * 20, T)],
            [(["a", "b"], Ordinary.RECURS)],
            id="it comes again after the period",
        ),
    ],
)
def test_what_is_a_group_and_which_are_ordinary(
    database: Database, told: list[tuple[str, float, dict[str, Any]]], groups: list[tuple[list[str], str | None]]
) -> None:
    keep(database, *told)
    page = find(database, until=format_time(NOW + 3600 * 10 * SECOND))
    assert groups_of(page) == groups
    assert page.selected == sum(why is None for _, why in groups)
    assert [len(group.spare_ids) for group in page.groups] == [len(ids) - 1 for ids, _ in groups]


def test_events_of_one_call_are_no_retries(database: Database) -> None:
    each = "match: {event: Order}\neach: properties.items\nevent: {idempotency_id: item.id, properties: {n: item.n}}\n"
    take(database, some_transforms(order=each), items(1, "a", "b"))
    assert groups_of(find(database)) == [(["a", "b"], Ordinary.ONE_CALL)]


def test_customers_and_names_are_apart_and_void_events_are_none(database: Database) -> None:
    for number, fields in enumerate(({}, {"customer_id": "b"}, {"event_name": "other"})):
        keep(database, (f"e-{number}", number, T), **fields)
    keep(database, ("again", 5, T), ("once-more", 19, T))
    assert groups_of(find(database)) == [(["e-0", "again", "once-more"], None)]
    void(database, "again")
    assert groups_of(find(database, customer="customer-1")) == [(["e-0", "once-more"], None)]
    assert find(database, customer="b").groups == []


def test_a_metric_chooses_its_events(database: Database) -> None:
    publish(database, *METRICS)
    keep(database, ("a", 0, T), ("b", 1, T), ("c", 0, {"seats": 1}), ("d", 1, {"seats": 1}))
    keep(database, ("e", 0, T), ("f", 1, T), event_name="other")
    assert groups_of(find(database, metric="tokens")) == [(["a", "b"], None)]
    assert len(find(database, metric="api_calls").groups) == 2
    assert len(find(database).groups) == 3
    with pytest.raises(NotFound, match="no metric"):
        find(database, metric="nothing")
    with pytest.raises(BadQuery, match="api_call"):
        find(database, metric="tokens", event_name="other")


def test_of_many_customers_it_goes_on_after_the_last(database: Database) -> None:
    for name in "abc":
        keep(database, (f"{name}-1", 0, T), (f"{name}-2", 1, T), customer_id=name)
    question = parse_question({"since": format_time(NOW - DAY)}, NOW)
    customers, after = [], None
    with database.reading() as conn:
        while True:
            page = find_lookalikes(conn, question, find_counted, limit=10, after=after, seconds=0)
            customers += [group.customer_id for group in page.groups]
            after = page.next
            if after is None:
                break
    assert customers == ["a", "b", "c"]


@pytest.mark.parametrize(
    "members",
    [{"within": "0s"}, {"within": "25h"}, {"within": "no"}, {"since": "7d", "until": "8d"}, {"none": "1"}],
)
def test_what_cannot_be_asked_is_named(members: dict[str, str]) -> None:
    with pytest.raises(BadQuery, match=next(iter(members))):
        parse_question(members, NOW)


# An independent judge: every pair is compared, by the values of its properties


def same(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool) or one is None or other is None:
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, int | float) and isinstance(other, int | float):
        return Decimal(repr(one)) == Decimal(repr(other))
    return type(one) is type(other) and one == other


def judge(told: Iterable[tuple[str, str, int, dict[str, Any]]], since: int, until: int, within: int) -> set[Any]:
    """Return (ids, whether it is pre-selected) of each group of (id, customer, time, properties)."""
    events = sorted(told, key=lambda event: event[2])
    inside = [event for event in events if since <= event[2] < until]
    around = [event for event in events if since - AROUND_MICROS <= event[2] < until + AROUND_MICROS]
    groups: set[Any] = set()
    for event in inside:
        alike = [other for other in inside if other[1] == event[1] and same(other[3], event[3])]
        chain = [event]
        grown = True
        while grown:
            near = [
                other
                for other in alike
                if other not in chain and any(abs(other[2] - member[2]) <= within for member in chain)
            ]
            grown = bool(near)
            chain += near
        if len(chain) > 1:
            times = sorted(member[2] for member in chain)
            gaps = [after - before for before, after in pairwise(times)]
            steady = len(gaps) > 1 and max(gaps) > 0 and max(gaps) <= 1.25 * min(gaps)
            everywhere = [other for other in around if other[1] == event[1] and same(other[3], event[3])]
            is_ordinary = len(everywhere) > len(chain) or len(chain) > 5 or steady or not event[3]
            groups.add((frozenset(member[0] for member in chain), not is_ordinary))
    return groups


@pytest.mark.parametrize("seed", range(4))
def test_random_events_are_grouped_as_by_comparing_each_with_each(database: Database, seed: int) -> None:
    drawn = random.Random(seed)  # noqa: S311  not for secrets
    values: list[Any] = [1, 1.0, "1", True, None, 2, 10**20, 1e20, [1], [1.0], {"a": 1}, {"a": 1.0}, "text"]
    told = []
    for number in range(150):
        properties = {} if drawn.random() < 0.05 else {"v": drawn.choice(values), "w": drawn.randrange(4)}
        at = NOW + drawn.randrange(0, 3 * 86_400) * SECOND
        told.append((f"e-{number}", drawn.choice("ab"), at, properties))
    for id_, customer, at, properties in drawn.sample(told, 20):
        told.append((f"{id_}-again", customer, at + drawn.randrange(0, 900) * SECOND, properties))
    store(
        database,
        [
            an_event(idempotency_id=id_, customer_id=customer, time_created=format_time(at), properties=properties)
            for id_, customer, at, properties in told
        ],
    )
    since, until = NOW + DAY, NOW + 2 * DAY
    for minutes in (5, 60):
        page = find(database, since=format_time(since), until=format_time(until), within=f"{minutes}m")
        found = {(frozenset(event.idempotency_id for event in group.events), group.selected) for group in page.groups}
        assert found == judge(told, since, until, minutes * 60 * SECOND)


# The command, the API and the page


@pytest.fixture
def type_(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.setenv("DATABASE_URL", migrated_url)
    return lambda *words, **more: CliRunner().invoke(commands.main, words, **more)


def test_the_command_shows_asks_and_voids_all_but_the_first(database: Database, type_: Callable[..., Result]) -> None:
    publish(database, *METRICS)
    keep(database, ("a", 0, T), ("b", 20, T), ("c", 50, T))
    keep(database, *((f"beat-{number}", 60 * number, {"kind": "beat"}) for number in range(4)))
    since = ["--since", format_time(NOW - DAY)]
    said = type_("lookalikes", *since)
    assert said.exit_code == 0, said.output
    assert "[x] customer-1  api_call  3 events" in said.output
    assert "[ ] customer-1  api_call  4 events; ordinary: they come at even intervals" in said.output
    assert "1 group of 2 pre-selected, with 2 doubles" in said.output
    shown = json.loads(type_("lookalikes", *since, "--json").output)
    assert [(group["count"], group["selected"]) for group in shown["groups"]] == [(3, True), (4, False)]
    words = ["lookalikes", *since, "--void", "--reason", "a sender that retries", "--author", "ann"]
    assert type_("lookalikes", "--void").exit_code == 2
    assert type_(*words, input="n\n").exit_code == 1
    assert len(counted(database)) == 7
    said = type_(*words, input="y\n")
    assert said.exit_code == 0, said.output
    assert counted(database) == ["a", *(f"beat-{number}" for number in range(4))]
    assert "tokens  customer-1" in said.output
    [(author, reason)] = rows_of(database, corrections, corrections.c.author, corrections.c.reason)
    assert (author, reason) == ("ann", "a sender that retries")
    assert "nothing to void" in type_(*words, "--yes").output
    check(database)


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    site = make_site()
    sign_in(site.client)
    keep(site.service.database, ("a", 0, T), ('b", "', 20, T))
    keep(site.service.database, *((f"beat-{number}", 60 * number, {"kind": "beat"}) for number in range(4)))
    return site


def test_the_api_lists_groups_whose_ids_it_voids(site: Site) -> None:
    since = format_time(NOW - DAY)
    answer = site.ask(f"/api/v1/lookalikes?since={since}", ADMIN_TOKEN).get_json()
    assert (answer["total"], answer["selected"], answer["doubles"], answer["next"]) == (2, 1, 1, None)
    group = answer["groups"][0]
    assert (group["customer_id"], group["event_name"], group["properties"]) == ("customer-1", "api_call", T)
    ids = [event["idempotency_id"] for event in group["events"][1:]]
    body = {"kind": "void", "ids": ids, "reason": "doubles"}
    voided = site.client.post(
        "/api/v1/corrections", json=body, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}
    ).get_json()
    assert (voided["state"], voided["events"]) == ("finished", 1)
    assert site.ask("/api/v1/lookalikes?within=soon", ADMIN_TOKEN).status_code == 400


def test_the_page_ticks_only_what_looks_like_retries_and_asks_before_it_voids(site: Site) -> None:
    since = format_time(NOW - DAY)
    shown = site.client.get(f"/lookalikes?since={since}").get_data(as_text=True)
    assert shown.count(" checked>") == 1
    assert shown.count('type="checkbox" name="ids"') == 2
    said = text_of(site.client.get(f"/lookalikes?since={since}"))
    assert "It looks ordinary: they come at even intervals" in said
    ticked = {"csrf": csrf_of(site.client), "ids": json.dumps(['b", "'])}
    asked = site.client.post("/lookalikes", data=ticked)
    assert "1 double would be made void; the first of each group stays" in text_of(asked)
    assert len(counted(site.service.database)) == 6
    made = site.client.post("/lookalikes/void", data={**ticked, "reason": "doubles", "author": "ann"})
    assert made.status_code == 303
    assert counted(site.service.database) == ["a", *(f"beat-{number}" for number in range(4))]
    again = site.client.post("/lookalikes/void", data={**ticked, "reason": "doubles", "author": "ann"})
    assert again.status_code == 409


@pytest.mark.parametrize("fields", [{}, {"ids": "nonsense"}, {"ids": "[1]"}, {"ids": '["none"]', "other": "1"}])
def test_what_the_page_cannot_use_is_said(site: Site, fields: dict[str, str]) -> None:
    answer = site.client.post("/lookalikes", data={"csrf": csrf_of(site.client), **fields})
    assert answer.status_code == 400


def test_the_events_behind_a_number_lead_there(site: Site) -> None:
    publish(site.service.database, *METRICS)
    page = site.client.get("/usage/events?metric=tokens&start=2026-11-01&end=2026-12-01&customer_id=customer-1")
    assert "/lookalikes?metric=tokens&amp;customer=customer-1&amp;since=2026-11-01T00" in page.get_data(as_text=True)
