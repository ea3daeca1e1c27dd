"""The time zone of the pages: the setting, the choice of a browser, and what is typed; the API stays in UTC."""

import html
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
from flask.testing import FlaskClient

from app.clock import clock
from app.core.times import format_time
from app.forward.sql_destination import Destination, pause
from app.replay.parameters import parse_replay_request
from app.replay.replayer import Replayer
from app.service.build import replay_hooks
from app.store.ids import Ids
from tests.builders import a_document, to_raw
from tests.metrics.test_pages import COUNT
from tests.served import ADMIN_TOKEN, signed
from tests.sites import Site
from tests.web.visiting import ids, page, send

KATHMANDU = ZoneInfo("Asia/Kathmandu")
"""Five hours and three quarters ahead of UTC, the whole year."""

NEW_YORK = ZoneInfo("America/New_York")
HOUR = 3600 * 1_000_000


@pytest.fixture
def abroad(make_site: Callable[..., Site], tmp_path: Path) -> Site:
    """A service with TIME_ZONE set, some calls of which one is rejected, a pause, and somebody signed in."""
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "calls.yaml").write_text(COUNT)
    site = make_site(
        time_zone=KATHMANDU, metrics_dir=tmp_path / "metrics", lotus_host="http://127.0.0.1:9", lotus_api_key="a-key"
    )
    assert site.client.post("/sign-in", data={"token": ADMIN_TOKEN}).status_code == 303
    send(site, 2, timestamp=format_time(clock() - HOUR))
    send(site, 1, first=10, userId="")
    return site


def csrf_of(site: Site) -> str:
    found = re.search(r'name="csrf" content="([^"]+)"', site.client.get("/setup").get_data(as_text=True))
    assert found
    return found[1]


def choose(site: Site, zone: str, back: str = "/") -> str:
    """Choose a zone for the browser; return where it leads back to."""
    answer = site.client.post("/time-zone", data={"csrf": csrf_of(site), "zone": zone, "back": back})
    assert answer.status_code == 303, answer.get_data(as_text=True)
    return str(answer.location)


def zone_told(text: str) -> str:
    (name,) = re.findall(r"Times on this page are in <strong>(.*?)</strong>\.", text)
    assert f'data-zone="{name}"' in text
    return str(name)


def times_of(text: str) -> list[tuple[str, str]]:
    """Return each time on a page: in UTC as programs read it, and as it is shown."""
    return re.findall(r'<time datetime="([^"]+)">([^<+]+)</time>', text)


def local_text(utc: str, zone: ZoneInfo) -> str:
    return datetime.fromisoformat(utc).astimezone(zone).isoformat(" ", "microseconds")


def replay(site: Site) -> int:
    """Replay what was rejected; return the id of the replay."""
    own_ids = Ids(lambda _below: 35)
    replayer = Replayer(
        database=site.service.database,
        catalog=site.service.catalog,
        ids=own_ids,
        clock=clock,
        hooks=replay_hooks(own_ids, forwards=False),
    )
    plan = replayer.plan(parse_replay_request({"outcome": "rejected"}), (None, None))
    replayer.run(plan, lambda _calls: None)
    return int(plan.replay.id)


def test_every_page_says_its_zone_and_shows_all_times_in_it(abroad: Site) -> None:
    with abroad.service.database.writing() as conn:
        pause(conn, Destination(), "network", "gone", now=clock(), probe_at=clock() + HOUR)
    (event, *_) = abroad.ask("/api/v1/deliveries", ADMIN_TOKEN).get_json()["deliveries"]
    of_one = (f"/calls/{ids(abroad)[-1]}", f"/replays/{replay(abroad)}", "/usage/events?metric=calls&start=1d")
    with_times = ("/calls", "/problems", "/replays", "/transforms", "/setup", "/deliveries", *of_one)
    without = (
        "/",
        "/transforms/_default",
        f"/deliveries/{event['event_id']}",
        "/usage",
        "/usage?metric=calls&start=1d",
    )
    utc_hour = format_time(clock())[:13].replace("T", " ")
    for path in (*with_times, *without):
        text = page(abroad, path)
        assert zone_told(text) == "Asia/Kathmandu", path
        assert bool(times_of(text)) == (path in with_times), path
        for utc, local in times_of(text):
            assert local_text(utc, KATHMANDU).startswith(local), path
        visible = re.sub("<datalist.*?</datalist>|<[^>]+>", " ", text)
        assert not re.search(f"{utc_hour}:|UTC", visible), path


def test_a_browser_has_the_zone_that_it_chose_until_it_chooses_none(abroad: Site) -> None:
    other: FlaskClient = abroad.app.test_client()
    assert other.post("/sign-in", data={"token": ADMIN_TOKEN}).status_code == 303
    assert choose(abroad, "America/New_York", "/calls?outcome=stored") == "/calls?outcome=stored"
    text = page(abroad, "/calls")
    assert zone_told(text) == "America/New_York"
    assert all(local_text(utc, NEW_YORK).startswith(local) for utc, local in times_of(text))
    assert '<input id="time-zone" name="zone" value="America/New_York"' in text
    assert zone_told(other.get("/calls").get_data(as_text=True)) == "Asia/Kathmandu"
    choose(abroad, "")
    assert zone_told(page(abroad, "/calls")) == "Asia/Kathmandu"


def test_the_form_leads_back_to_the_page_that_it_stands_on(abroad: Site) -> None:
    text = page(abroad, "/calls?outcome=stored&since=1d")
    form = text[text.index('action="/time-zone"') :]
    (back,) = re.findall(r'name="back" value="([^"]*)"', form)
    assert html.unescape(back) == "/calls?outcome=stored&since=1d"
    assert choose(abroad, "UTC", "//elsewhere.example") == "/"


def test_the_cookie_is_of_this_site_alone_and_no_script_reads_it(abroad: Site) -> None:
    answer = abroad.client.post("/time-zone", data={"csrf": csrf_of(abroad), "zone": "Asia/Tokyo"})
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("segment_lotus_zone=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("berlin", "did you mean Europe/Berlin"),
        ("Europe/Berln", "did you mean Europe/Berlin"),
        ("new york", "did you mean America/New_York"),
        ("Nowhere/At/All", ""),
        ("../../etc/passwd", ""),
        ("x" * 10_000, ""),
        ("<b>\N{RIGHT-TO-LEFT OVERRIDE}", ""),
    ],
)
def test_what_is_no_zone_is_refused_with_those_that_are_near(abroad: Site, name: str, near: str) -> None:
    answer = abroad.client.post("/time-zone", data={"csrf": csrf_of(abroad), "zone": name})
    assert answer.status_code == 400
    text = html.unescape(answer.get_data(as_text=True))
    assert f"zone must be the IANA name of a time zone, such as Europe/Berlin{f' ({near}' if near else ''}" in text
    assert "Set-Cookie" not in answer.headers


def test_nothing_is_chosen_without_the_token_of_the_session(abroad: Site) -> None:
    assert abroad.client.post("/time-zone", data={"zone": "UTC"}).status_code == 403
    assert abroad.app.test_client().post("/time-zone", data={"zone": "UTC"}).status_code == 401


@pytest.mark.parametrize("cookie", ["Mars/Base", "../UTC", "x" * 500, "\xff"])
def test_a_cookie_that_names_no_zone_is_none(abroad: Site, cookie: str) -> None:
    abroad.client.set_cookie("segment_lotus_zone", cookie)
    assert zone_told(page(abroad, "/calls")) == "Asia/Kathmandu"


def wall(micros: int, zone: ZoneInfo = KATHMANDU) -> str:
    return local_text(format_time(micros), zone)[:16]


@pytest.mark.parametrize("path", ["/calls", "/deliveries"])
def test_times_that_are_typed_are_those_of_the_page_unless_they_say_an_offset(abroad: Site, path: str) -> None:
    def listed(**texts: str) -> int:
        text = page(abroad, f"{path}?{urlencode({'since': '30d', 'customer': 'customer-1', **texts})}")
        return len(re.findall('data-label="Outcome"' if path == "/calls" else 'data-label="When"', text))

    hour_ago, soon = clock() - HOUR, clock() + HOUR
    everything = listed()
    assert everything > 0
    assert listed(until=wall(soon)) == everything
    assert listed(until=wall(hour_ago)) == 0
    # The same clock with an offset is another time.
    assert listed(until=f"{wall(hour_ago)}Z") == everything
    choose(abroad, "America/New_York")
    assert listed(until=wall(hour_ago)) == everything
    assert listed(until=wall(hour_ago, NEW_YORK)) == 0
    assert listed(since=wall(hour_ago, NEW_YORK)) == everything
    assert listed(since=wall(soon, NEW_YORK)) == 0


def test_the_times_of_a_replay_and_of_a_retry_are_fixed_in_the_zone_of_the_page(abroad: Site) -> None:
    times = {"csrf": csrf_of(abroad), "since": "2020-11-01 10:00", "until": "2099-11-02"}
    for path, more in (("/replays", {}), ("/deliveries/retry", {"state": "failed"})):
        text = abroad.client.post(path, data={**times, **more}).get_data(as_text=True)
        assert "2020-11-01T04:15:00.000000Z" in text, path
        assert "2099-11-01T18:15:00.000000Z" in text, path


def test_usage_is_of_the_days_of_the_page_unless_a_zone_is_asked_for(abroad: Site) -> None:
    body = to_raw(a_document(messageId="m-99", userId="ann", timestamp="2026-10-05T20:00:00Z"))
    abroad.send(body, signed(body))
    period = "metric=calls&customer_id=ann&start=2026-10-01&end=2026-11-01&window=day"

    def days(query: str) -> list[str]:
        text = page(abroad, f"/usage?{query}")
        return [*re.findall(r'data-label="Day" class="tight"><span>(.*?)</span>', text), zone_told(text)]

    assert days(period) == ["2026-10-06", "Asia/Kathmandu"]
    assert days(f"{period}&tz=UTC") == ["2026-10-05", "UTC"]
    choose(abroad, "America/New_York")
    assert days(period) == ["2026-10-05", "America/New_York"]
    assert days(f"{period}&tz=Asia/Tokyo") == ["2026-10-06", "Asia/Tokyo"]
    # The file has the same numbers, since the API itself knows of no browser.
    (link,) = re.findall(r'<a class="button" href="([^"]+)" download', page(abroad, f"/usage?{period}"))
    assert "2026-10-05T00:00:00-04:00" in abroad.client.get(html.unescape(link)).get_data(as_text=True)
    # And a number leads to its events, in the same zone.
    text = page(abroad, "/usage/events?metric=calls&customer_id=ann&start=2026-10-05&end=2026-10-06")
    assert "2026-10-05 16:00" in text
    assert "times in America/New_York" in text


def test_the_api_answers_in_utc_whatever_was_set_or_chosen(abroad: Site) -> None:
    choose(abroad, "America/New_York")
    answer = abroad.client.get("/api/v1/metrics/calls/usage").get_json()
    assert (answer["tz"], answer["start"][10:]) == ("UTC", "T00:00:00.000000Z")
    call = abroad.client.get("/api/v1/calls?limit=1").get_json()["calls"][0]
    received = datetime.fromisoformat(call["received_at"])
    assert call["received_at"].endswith("Z")
    assert abs(received - datetime.fromisoformat(format_time(clock()))) < timedelta(minutes=10)
    until = wall(clock() + HOUR, NEW_YORK)
    assert abroad.client.get("/api/v1/calls", query_string={"until": until}).get_json()["calls"] == []
