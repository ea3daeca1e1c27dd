"""Each page on each database: it comes, it is valid HTML, and it asks as few questions on the one as on the other."""

from collections.abc import Callable
from typing import Any

import pytest

from app.replay.parameters import parse_replay_request
from app.replay.replayer import Replayer
from app.service.build import replay_hooks
from app.store.ids import Ids
from tests.builders import DEFAULT_TEXT, published, some_ids, some_transforms
from tests.served import ADMIN_TOKEN
from tests.sites import Site
from tests.web.queries import queries_of
from tests.web.visiting import ids, page, send

# How many questions each page asks.
PAGES = {
    "/": 2,
    "/?range=week": 2,
    "/calls": 4,
    "/calls?outcome=rejected,conflict&since=all": 5,
    "/calls?q=customer&since=all": 5,
    "/calls?event=API+Call&customer=customer-1&since=30d": 7,
    "/calls/newer?newest=0": 4,
    "/problems": 4,
    "/replays": 1,
    "/corrections": 1,
    "/transforms": 8,
    "/transforms/_default": 4,
    "/usage": 5,
    "/setup": 5,
    "/help": 0,
}
# The most that the page of one call asks: its events, its request, its like, its versions, its metrics.
A_CALL = 20


@pytest.fixture
def filled(migrated_url: str, make_site: Callable[..., Site]) -> Site:
    """A service on either database with calls of every outcome, one of them replayed; and somebody signed in."""
    site = make_site(database_url=migrated_url)
    assert site.client.post("/sign-in", data={"token": ADMIN_TOKEN}).status_code == 303
    send(site, 3)
    send(site, 1)
    send(site, 1, properties={})
    send(site, 1, first=10, userId=None)
    send(site, 1, type="identify")
    send(site, 1, first=20, timestamp=None, userId="")
    database = site.service.database
    text = DEFAULT_TEXT.replace("customer_id: userId", "customer_id: event")
    catalog = published(database, some_transforms(text), some_ids(34))
    ids = Ids(lambda _below: 35)
    replayer = Replayer(
        database=database, catalog=catalog, ids=ids, clock=lambda: 1, hooks=replay_hooks(ids, forwards=False)
    )
    problem = site.ask("/api/v1/problems", ADMIN_TOKEN).get_json()["groups"][0]["key"]
    replayer.run(replayer.plan(parse_replay_request({"problem": problem}), (None, None)), lambda _calls: None)
    return site


def test_every_page_comes_with_few_questions(filled: Site) -> None:
    asked: dict[str, int] = {}
    for path in PAGES:
        # What a live page asks for is rows alone, and no page.
        if "newer" not in path:
            page(filled, path)
        asked[path] = len(queries_of(filled, path))
    assert asked == PAGES


def test_the_page_of_a_call_of_each_outcome_comes(filled: Site) -> None:
    told: dict[str, Any] = {}
    for number in ids(filled):
        page(filled, f"/calls/{number}")
        outcome = filled.ask(f"/api/v1/calls/{number}", ADMIN_TOKEN).get_json()["outcome"]
        told[outcome] = max(told.get(outcome, 0), len(queries_of(filled, f"/calls/{number}")))
    assert set(told) == {"stored", "duplicate", "conflict", "ignored", "rejected"}
    assert max(told.values()) <= A_CALL, told
