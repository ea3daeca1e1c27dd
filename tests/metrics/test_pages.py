"""The page of usage, with Flask's own client: its numbers are the API's, and each leads to exactly its events."""

import csv
import html
import io
import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import html5lib
import pytest
import sqlalchemy as sa

from app.catalog.backend import Backend
from app.catalog.files import read_folder
from app.clock import clock
from app.metrics.catalog import publish_new_metrics
from app.metrics.definition import parse_metric
from app.metrics.fold import BucketBuilder
from app.metrics.pages_chart import TOP
from app.service.flask_app import create_app
from app.store.schema import usage_buckets
from tests.builders import a_document, to_raw
from tests.calls.test_pages_hostile import HOSTILE, ODD
from tests.served import ADMIN_TOKEN, ROOT, signed
from tests.sites import Site
from tests.web.queries import queries_of
from tests.web.visiting import ids, page

SUM = """\
description: Tokens by model.
metric_type: counter
event_name: API Call
usage_aggregation_type: sum
property_name: tokens
group_by: [model]
"""
COUNT = "metric_type: counter\nevent_name: API Call\nusage_aggregation_type: count\n"
MOST = "metric_type: counter\nevent_name: API Call\nusage_aggregation_type: max\nproperty_name: tokens\n"
SEATS = """\
metric_type: gauge
event_name: Seats
event_type: total
property_name: seats
granularity: months
proration: days
"""
OCTOBER = "start=2026-10-01&end=2026-11-01"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the metric files."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    for name, text in {"tokens": SUM, "calls": COUNT, "most": MOST, "seats": SEATS}.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture
def visited(make_site: Callable[..., Site], folder: Path) -> Site:
    """A service with metrics, and somebody signed in."""
    return signed_in(make_site(metrics_dir=folder))


def signed_in(site: Site) -> Site:
    assert site.client.post("/sign-in", data={"token": ADMIN_TOKEN}).status_code == 303
    return site


def store(site: Site, message: str, time: str, **more: Any) -> None:
    properties = more.pop("properties", {"tokens": 0.1, "model": "s"})
    body = to_raw(a_document(messageId=message, timestamp=time, properties=properties, **more))
    answer = site.send(body, signed(body))
    assert answer.json is not None
    assert answer.json["stored"] == 1, answer.json


def numbers(text: str) -> list[tuple[str, str | None]]:
    """Return each number of the table, and where it leads."""
    found = re.findall(r'<td data-label="Value" class="number">(?:<a href="([^"]+)">)?(.*?)</(?:a|span)></td>', text)
    return [(re.sub("<[^>]+>", "", number), html.unescape(link) or None) for link, number in found]


def behind(site: Site, link: str) -> list[str]:
    """Return the ids of the events behind a number, from all pages of them."""
    found: list[str] = []
    following: str | None = link
    while following:
        text = page(site, following)
        found += re.findall(r'<tr data-event="(\d+)">', text)
        further = re.search(r'href="([^"]+)" rel="next"', text)
        following = html.unescape(further[1]) if further else None
    return found


def api(site: Site, path: str) -> Any:
    return json.loads(site.client.get(f"/api/v1{path}").get_data())


def test_the_metrics_are_listed_with_what_they_count_and_how_they_stand(visited: Site, folder: Path) -> None:
    (folder / "broken.yaml").write_text("metric_type: counter\nevent_name: <b>x\nusage_aggregation_type: most\n")
    text = page(visited, "/usage")
    assert re.findall(r'<a class="strong" href="([^"]+)">', text) == [
        f"/usage?metric={name}&amp;window=day" for name in ("calls", "most", "seats", "tokens")
    ]
    assert "Tokens by model." in text
    assert "Counter: sum of tokens, over events &#34;API Call&#34;" in text
    assert "Gauge: seats as a level, prorated by the day for each month" in text
    (live,) = [one for one in api(visited, "/metrics")["metrics"] if one["name"] == "tokens"]
    assert f"<code>{live['version'][:12]}</code>" in text
    assert '<span class="chip bad">file broken</span>' in text
    assert "broken.yaml:3:" in text
    assert "<b>x" not in text


def test_a_drifted_and_a_missing_file_are_told_at_the_metric(visited: Site, folder: Path) -> None:
    (folder / "tokens.yaml").write_text(SUM.replace("sum", "nonsense"))
    text = page(visited, "/usage?metric=tokens")
    assert "The live version stays live." in text
    assert "tokens.yaml:4:" in text
    (folder / "calls.yaml").unlink()
    assert "the folder has no file of that name" in page(visited, "/usage?metric=calls")


def test_every_number_is_the_apis_and_leads_to_exactly_its_events(visited: Site) -> None:
    for at in range(3):
        store(visited, f"m-{at}", f"2026-10-05T10:00:0{at}Z", userId="ann")
    store(visited, "m-x", "2026-10-06", userId="ann", properties={"tokens": "many"})
    store(visited, "m-y", "2026-10-31T23:59:59.999999Z", userId="bob", properties={"tokens": "2.5", "model": 'l"&'})
    store(visited, "m-z", "2026-11-01", userId="bob")
    for query in (OCTOBER, f"{OCTOBER}&window=day", f"{OCTOBER}&window=week&tz=Asia/Kathmandu&fill=zero"):
        rows = api(visited, f"/metrics/tokens/usage?{query}")["rows"]
        text = page(visited, f"/usage?metric=tokens&{query}")
        told = numbers(text)
        assert sorted(number for number, _ in told) == sorted(row["value"] for row in rows)
        for number, link in told:
            assert link or number == "0"
        events = [event for _, link in told if link for event in behind(visited, link)]
        assert len(events) == len(set(events)) == sum(row["events_count"] + len(row["skipped"]) for row in rows)
        ((total, of_all),) = re.findall(r'class="usage-total"><dt>.*?</dt><dd><a href="(.*?)">(.*?)</a>', text)
        assert of_all == str(sum(Decimal(row["value"]) for row in rows))
        assert sorted(behind(visited, html.unescape(total))) == sorted(events)
        # Of a series of the chart, too.
        of_series = re.findall(r'<span class="usage-number"><a href="(.*?)">', text)
        assert sorted(one for link in of_series for one in behind(visited, html.unescape(link))) == sorted(events)


def test_skipped_events_are_counted_and_named(visited: Site) -> None:
    store(visited, "m-1", "2026-10-05", properties={"tokens": 1, "model": "s"})
    store(visited, "m-2", "2026-10-05", properties={"tokens": "many", "model": "s"})
    store(visited, "m-3", "2026-10-05", properties={"tokens": "1e99", "model": "s"})
    store(visited, "m-4", "2026-10-05", properties={"model": "s"})
    text = page(visited, f"/usage?metric=tokens&{OCTOBER}")
    assert "<li><strong>1</strong> out of range: it is below 1e-30, or 1e39 and more" in text
    assert "<li><strong>1</strong> missing: it is not there</li>" in text
    assert "1 missing, 1 out of range, 1 text" in text
    ((number, link),) = numbers(text)
    assert number == "1"
    assert link is not None
    listed = page(visited, link)
    named = re.findall(r'<span class="chip warn">skipped: ([a-z ]+)</span>', listed)
    assert named == ["text", "out of range", "missing"]
    assert "it is text that is no number" in listed


def test_the_events_are_paged_and_lead_to_their_calls(visited: Site) -> None:
    for at in range(130):
        store(visited, f"m-{at}", "2026-10-05T10:00:00Z")
    ((number, link),) = numbers(page(visited, f"/usage?metric=calls&{OCTOBER}"))
    assert number == "130"
    assert link is not None
    first = page(visited, link)
    assert len(re.findall("<tr data-event", first)) == 100
    assert len(set(behind(visited, link))) == 130
    (call,) = re.findall(r'href="/calls/(\d+)"', first)[:1]
    assert int(call) in ids(visited)
    assert page(visited, f"/calls/{call}")


def test_events_before_the_period_that_made_a_level_are_marked(visited: Site) -> None:
    store(visited, "s-1", "2026-09-15", event="Seats", properties={"seats": 5})
    text = page(visited, f"/usage?metric=seats&{OCTOBER}")
    ((number, link),) = numbers(text)
    assert number == "5"
    assert link is not None
    assert "before the period" in page(visited, link)


def test_a_level_below_zero_is_told_above_the_chart(visited: Site) -> None:
    store(visited, "s-1", "2026-10-05", event="Seats", properties={"seats": -5})
    text = page(visited, f"/usage?metric=seats&{OCTOBER}")
    assert "The level was below zero in 1 number, which is nearly always missing data" in text
    assert re.search(r"customer-1 since\s+2026-10-05", text)
    assert "below zero" not in page(visited, "/usage?metric=seats&start=2026-09-01&end=2026-10-01")


def test_the_chart_stacks_what_adds_up_and_draws_lines_of_the_rest(visited: Site) -> None:
    for day in (5, 6, 9):
        store(visited, f"a-{day}", f"2026-10-0{day}", userId="ann", properties={"tokens": day, "model": "s"})
        store(visited, f"b-{day}", f"2026-10-0{day}", userId="bob", properties={"tokens": 1, "model": "l"})
    stacked = page(visited, f"/usage?metric=tokens&{OCTOBER}&window=day")
    assert len(re.findall('<rect class="series-1" x=', stacked)) == 3
    assert len(re.findall('<rect class="series-2" x=', stacked)) == 3
    assert "<title>2026-10-05 ann · model s: 5</title>" in stacked
    assert 'role="img" aria-label="Stacked bars over time; the table below says the same"' in stacked
    lines = page(visited, f"/usage?metric=most&{OCTOBER}&window=day")
    assert len(re.findall('<path class="usage-line series-1" d="M[^"]*L', lines)) == 1
    assert '<rect class="series-1" x=' not in lines
    whole = page(visited, f"/usage?metric=tokens&{OCTOBER}")
    assert len(re.findall('class="usage-bar"', whole)) == 2
    assert re.findall(r'<rect class="series-\d" width="([\d.]+)" height="10"', whole) == ["100.0", "15.0"]


def test_of_many_customers_the_ten_largest_are_drawn_and_the_rest_together(visited: Site) -> None:
    for at in range(1, 14):
        store(visited, f"m-{at}", "2026-10-05", userId=f"c-{at:02}", properties={"tokens": at, "model": "s"})
    text = page(visited, f"/usage?metric=tokens&{OCTOBER}")
    names = re.findall(r'<span class="usage-name">(.*?)</span>', text)
    assert len(names) == TOP + 1
    assert "c-13" in names[0]
    assert names[-1] == "3 more"
    assert '<span class="usage-number">6</span>' in text.replace("\n", "")
    assert ">91</a></dd>" in text
    # What does not add up has no rest: it is left to the table.
    most = page(visited, f"/usage?metric=most&{OCTOBER}&window=month")
    assert "The 10 largest; 3 more are in the table." in most


def test_the_table_has_pages(visited: Site) -> None:
    for at in range(105):
        store(visited, f"m-{at}", "2026-10-05", userId=f"c-{at:03}")
    text = page(visited, f"/usage?metric=calls&{OCTOBER}")
    assert "1 to 100 of 105" in text
    (further,) = re.findall(r'href="([^"]+)" rel="next"', text)
    rest = page(visited, html.unescape(further))
    assert "101 to 105 of 105" in rest
    assert len(numbers(rest)) == 5
    assert "There is no such page." in page(visited, f"/usage?metric=calls&{OCTOBER}&page=9")


def test_all_of_the_view_is_in_the_address_and_stands_in_the_form(visited: Site) -> None:
    store(visited, "m-1", "2026-10-05", userId="ann")
    query = f"metric=tokens&{OCTOBER}&customer_id=ann&window=day&group_by=model,tokens&tz=Europe/Berlin&fill=zero"
    text = page(visited, f"/usage?{query}")
    for name, value in (
        ("customer_id", "ann"),
        ("start", "2026-10-01"),
        ("end", "2026-11-01"),
        ("group_by", "model,tokens"),
        ("tz", "Europe/Berlin"),
    ):
        assert f'name="{name}" value="{value}"' in text
    assert '<option value="tokens" selected>' in text
    assert "<option selected>day</option>" in text
    assert '<option value="zero" selected>' in text
    assert len(numbers(text)) == 31
    assert "2026-10-01 to 2026-11-01, Europe/Berlin." in text


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("metric=tokens&window=year", 400, "window must be one of minute, hour, day, week, month"),
        ("metric=tokens&tz=Mars", 400, "tz must be the IANA name of a time zone"),
        ("metric=tokens&start=soon", 400, "start must be a time"),
        ("metric=tokens&start=2026-02-02&end=2026-02-01", 400, "start must be before end"),
        ("metric=tokens&group_by=,", 400, "group_by must be up to 10 names"),
        ("metric=tokens&fill=one", 400, "fill must be zero"),
        ("metric=tokens&page=0", 400, "page must be a whole number"),
        ("metric=tokens&tz=UTC&tz=UTC", 400, "tz is there 2 times"),
        ("metric=tokens&customer=ann", 400, "there is no parameter"),
        ("metric=seats&window=hour", 400, "window hour is finer than the proration of seats"),
        ("metric=tokens&start=1990-01-01&window=minute", 400, "more than 100,000 windows"),
        ("metric=lost", 404, "there is no metric"),
        ("metric=%3Cb%3E", 404, "there is no metric"),
    ],
)
def test_what_cannot_be_answered_is_a_sentence_beside_the_form(
    visited: Site, query: str, status: int, sentence: str
) -> None:
    text = page(visited, f"/usage?{query}", status)
    (said,) = re.findall('<p class="alert" role="alert">(.*?)</p>', text)
    assert sentence in html.unescape(said)
    assert '<form class="card filters" action="/usage"' in text


@pytest.mark.parametrize(
    ("query", "status"),
    [("", 404), ("metric=lost", 404), ("metric=tokens&group=s", 400), ("metric=tokens&window=day", 400)],
)
def test_events_that_cannot_be_listed_are_an_error_page(visited: Site, query: str, status: int) -> None:
    assert page(visited, f"/usage/events?{query}", status)


def test_without_files_it_says_how_to_write_one(make_site: Callable[..., Site], tmp_path: Path) -> None:
    empty = tmp_path / "none"
    empty.mkdir()
    site = signed_in(make_site(metrics_dir=empty))
    text = page(site, "/usage")
    assert "There is no metric yet." in text
    (sample,) = re.findall("<pre.*?><code>(.*?)</code>", text, re.DOTALL)
    assert parse_metric("api_calls", html.unescape(sample)).event_name == "api_call"


def test_without_events_it_says_what_to_do(visited: Site) -> None:
    text = page(visited, "/usage?metric=tokens&customer_id=ann")
    assert "No event counts here." in text
    assert "Look at all customers" in text
    assert "start=365d" in text
    assert "<code>API Call</code>" in text


def test_periods_of_a_click_are_those_of_the_time_zone(visited: Site) -> None:
    text = page(visited, "/usage?metric=tokens&start=7d")
    assert re.findall('value="([a-z0-9-]+)" aria-current="true"', text) == ["last-7-days"]
    for period, expected in (
        ("this-month", ""),
        ("last-month", r"&start=\d{4}-\d\d-01&end=\d{4}-\d\d-01"),
        ("last-24-hours", "&start=24h"),
    ):
        answer = visited.client.get(f"/usage?metric=tokens&start=7d&end=1d&period={period}")
        assert answer.status_code == 303
        assert re.fullmatch(f"/usage.metric=tokens{expected}", answer.location)
    assert "period must be one of this-month, last-month" in html.unescape(page(visited, "/usage?period=ever", 400))


CHOSEN = {
    "metric": "tokens",
    "customer_id": "ann",
    "start": "2026-10-01",
    "end": "2026-11-01",
    "window": "day",
    "group_by": "model",
    "tz": "Asia/Tokyo",
    "fill": "zero",
    "include_future": "true",
}


def form_of(text: str) -> dict[str, str]:
    """Return the fields that a browser sends with the form of the page."""
    form = html5lib.parse(text, namespaceHTMLElements=False).find(".//form[@action='/usage']")
    fields = {field.get("name"): field.get("value", "") for field in form.iter("input")}
    for select in form.iter("select"):
        options = [option.get("value", option.text) for option in select.iter("option")]
        chosen = [option.get("value", option.text) for option in select.iter("option") if "selected" in option.attrib]
        fields[select.get("name")] = (chosen or options)[0]
    return fields


def send_form(site: Site, fields: dict[str, str]) -> str:
    """Send the form; return the page after its redirects."""
    answer = site.client.get("/usage", query_string=fields, follow_redirects=True)
    assert answer.status_code == 200
    return answer.get_data(as_text=True)


@pytest.mark.parametrize(
    "change",
    [
        {"metric": "calls"},
        {"customer_id": "bob"},
        {"start": "2026-10-02"},
        {"end": "2026-10-15"},
        {"window": "week"},
        {"group_by": "none"},
        {"tz": "UTC"},
        {"fill": ""},
        {"include_future": ""},
        {"period": "last-7-days"},
        {"period": "this-month"},
    ],
    ids=str,
)
def test_whatever_is_chosen_stays_when_something_else_is_changed(visited: Site, change: dict[str, str]) -> None:
    store(visited, "m-1", "2026-10-05", userId="ann")
    shown = form_of(send_form(visited, CHOSEN))
    assert {name: text for name, text in shown.items() if text} == CHOSEN
    after = form_of(send_form(visited, {**shown, **change}))
    period = {"last-7-days": {"start": "7d", "end": ""}, "this-month": {"start": "", "end": ""}}
    assert after == {**shown, **period.get(change.get("period", ""), change)}


def test_the_list_of_metrics_keeps_what_was_chosen(visited: Site) -> None:
    (back,) = re.findall(r'<p class="hint"><a href="([^"]+)">Usage</a>', send_form(visited, CHOSEN))
    text = page(visited, html.unescape(back))
    assert "What was chosen before stays:" in text
    assert "ann" in text
    (link,) = re.findall(r'<a class="strong" href="([^"]+)"><bdi>most', text)
    assert form_of(page(visited, html.unescape(link))) == {**form_of(send_form(visited, CHOSEN)), "metric": "most"}


def test_hostile_names_are_shown_as_text(visited: Site) -> None:
    odd = ODD.replace("\0", "").replace("\ud83d", "")
    for at, text in enumerate((HOSTILE, odd)):
        properties = {"tokens": 1, "model": text}
        store(visited, f"m-{at}", "2026-10-05", userId=text[:50], properties=properties)
    for query in ("", "&window=day", f"&group_by=model,{HOSTILE[:20].replace('&', '')}"):
        text = page(visited, f"/usage?metric=tokens&{OCTOBER}{query}")
        assert "<script>alert" not in text
        assert "\u202e" not in text
        told = numbers(text)
        assert len(told) == 2
        for _, link in told:
            assert link is not None
            assert len(behind(visited, link)) == 1
    for name in ("customer_id", "start", "group_by", "tz", "window", "fill", "metric", "page"):
        for text in (HOSTILE, f"\0{odd}"):
            asked = {"metric": "tokens", name: text[:300]}
            answer = visited.client.get("/usage", query_string=asked)
            assert answer.status_code in {200, 400, 404}
            assert "<script>alert" not in answer.get_data(as_text=True)


def test_a_group_that_fits_in_no_address_has_no_link_and_the_page_works(visited: Site) -> None:
    store(visited, "m-1", "2026-10-05", properties={"tokens": 1, "model": "x" * 20_000})
    assert numbers(page(visited, f"/usage?metric=tokens&{OCTOBER}")) == [("1", None)]


def test_the_csv_of_the_page_is_the_apis_answer(visited: Site) -> None:
    store(visited, "m-1", "2026-10-05", userId='a,"b"')
    (link,) = re.findall(r'href="([^"]+)" download', page(visited, f"/usage?metric=tokens&{OCTOBER}&window=day"))
    answer = visited.client.get(html.unescape(link))
    assert answer.content_type == "text/csv; charset=utf-8"
    rows = list(csv.reader(io.StringIO(answer.get_data(as_text=True))))
    assert rows[1][:2] == ['a,"b"', "s"]
    assert rows[1][4:] == ["0.1", "1", ""]


def test_a_csv_is_written_piece_by_piece_where_reads_are_run(visited: Site) -> None:
    for at in range(3):
        store(visited, f"m-{at}", "2026-10-05", userId=f"c-{at}")
    works: list[object] = []
    backend = Backend(database=visited.service.database, catalog=visited.service.catalog)

    class Noting:
        def __call__(self, work: Callable[[Backend], Any]) -> Any:
            works.append(work)
            return work(backend)

    client = create_app(visited.service, Noting()).test_client()
    path = f"/api/v1/metrics/calls/usage?{OCTOBER}&format=csv"
    answer = client.get(path, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}, buffered=False)
    # The answer is read, and of its file no more is written than what the client has looked at.
    assert len(works) == 2
    pieces = list(answer.iter_encoded())
    assert len(pieces) == 2
    assert len(works) == 4
    assert answer.content_length is None


def test_the_queries_of_a_page_do_not_grow_with_what_it_shows(visited: Site) -> None:
    path = f"/usage?metric=tokens&{OCTOBER}&window=day"
    store(visited, "m-0", "2026-10-05")
    few = {one: len(queries_of(visited, one)) for one in ("/usage", path)}
    for at in range(1, 40):
        store(visited, f"m-{at}", "2026-10-05", userId=f"c-{at}", properties={"tokens": at, "model": str(at)})
    assert {one: len(queries_of(visited, one)) for one in ("/usage", path)} == few
    assert few["/usage"] <= 5
    assert few[path] <= 10
    ((_, link), *_) = numbers(page(visited, path))
    assert link is not None
    assert len(queries_of(visited, link)) <= 6


def test_the_page_of_a_call_says_which_metrics_counted_it_and_which_did_not(visited: Site) -> None:
    store(visited, "m-1", "2026-10-05T12:00:00Z", userId="ann", properties={"tokens": True})
    (call,) = ids(visited)
    text = page(visited, f"/calls/{call}")
    table = text[text.index("Which metrics counted this") : text.index("Which transforms take it")]
    rows = [re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", row)).strip() for row in table.split("<tr>")[2:]]
    assert [row.removesuffix(" By the live transforms, as in a replay.") for row in rows][:2] == [
        "calls counted one event",
        "most skipped tokens is boolean",
    ]
    assert rows[2].startswith("tokens skipped tokens is boolean")
    link = html.unescape(re.findall(r'href="(/usage\?[^"]+)"', table)[0])
    assert link == "/usage?metric=calls&customer_id=ann&start=2026-10-05&end=2026-10-06"
    assert [number for number, _ in numbers(page(visited, link))] == ["1"]


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59.999Z", "2200-01-01"])
def test_the_page_of_a_call_shows_an_event_of_a_day_for_which_no_number_can_be_asked(visited: Site, time: str) -> None:
    store(visited, "m-1", time, userId="ann")
    (call,) = ids(visited)
    text = page(visited, f"/calls/{call}")
    table = text[text.index("Which metrics counted this") : text.index("Which transforms take it")]
    assert table.count("it counts from") == 3
    assert "/usage?" not in table


def test_a_call_that_no_metric_takes_says_so(visited: Site) -> None:
    store(visited, "m-1", "2026-10-05", event="Other <b>")
    (call,) = ids(visited)
    text = page(visited, f"/calls/{call}")
    assert "No live metric takes events named <code>Other &lt;b&gt;</code>" in text


def test_the_readme_shows_a_shipped_metric_whole() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"```yaml\n{(ROOT / 'metrics' / 'api_calls.yaml').read_text(encoding='utf-8')}```" in readme


def test_a_metric_tells_how_far_it_is_added_up_and_is_verified_with_raw_events(visited: Site) -> None:
    for at in range(30):
        store(visited, f"m-{at}", "2026-10-05T10:00:00Z", userId="ann")
    path = f"/usage?metric=tokens&{OCTOBER}"
    assert "pre-aggregating: 0 %" in page(visited, path)
    assert "computed from raw events: just as exact, only slower" in page(visited, path)
    folder = BucketBuilder(visited.service.database, 1, clock)
    told = []
    while folder.step(build_events=10):
        told += re.findall(r"pre-aggregating: (\d+) %", page(visited, path))
    assert {"0", "33", "66"} <= set(told)
    text = page(visited, path)
    assert '<span class="chip">pre-aggregated</span>' in text
    chips = re.findall(r'<span class="chip[^"]*">(pre-aggregated|from raw events)</span>', page(visited, "/usage"))
    # calls, most, seats, tokens: a gauge is made of raw events.
    assert chips == ["pre-aggregated", "pre-aggregated", "from raw events", "pre-aggregated"]
    assert "Verify" not in page(visited, f"/usage?metric=seats&{OCTOBER}")
    (link,) = re.findall(r'href="([^"]+)" rel="nofollow">Verify', text)
    verified = page(visited, html.unescape(link))
    assert "Verified: computed again from all raw events" in verified
    assert numbers(verified) == [(number, unverified(address)) for number, address in numbers(text)]
    assert "verify" not in "".join(re.findall(r'href="([^"]+)"', verified))


def unverified(address: str | None) -> str | None:
    return address and address.replace("&verify=1", "")


def test_what_raw_events_say_otherwise_is_told(visited: Site) -> None:
    store(visited, "m-1", "2026-10-05T10:00:00Z", userId="ann")
    folder = BucketBuilder(visited.service.database, 1, clock)
    while folder.step():
        pass
    with visited.service.database.writing() as conn:
        conn.execute(sa.update(usage_buckets).values(count=usage_buckets.c.count + 1))
    text = page(visited, f"/usage?metric=calls&{OCTOBER}&verify=1")
    assert "Raw events give other numbers" in text
    assert "segment-lotus metrics build calls --anew" in text


def test_verify_is_1_or_left_out(visited: Site) -> None:
    assert "verify must be 1" in page(visited, f"/usage?metric=calls&{OCTOBER}&verify=yes", status=400)


def test_an_earlier_definition_keeps_answering_under_its_version(visited: Site, folder: Path) -> None:
    store(visited, "m-1", "2026-10-05")
    (before,) = [one["version"] for one in api(visited, "/metrics")["metrics"] if one["name"] == "tokens"]
    address = "/usage?metric=tokens&start=2026-10-01&end=2026-11-01"
    old = api(visited, "/metrics/tokens/usage?start=2026-10-01&end=2026-11-01")
    (folder / "tokens.yaml").write_text(SUM.replace("group_by: [model]\n", ""))
    service = visited.service
    assert publish_new_metrics(service.database, read_folder(folder), service.ids.next, clock) == ["tokens"]
    live = api(visited, "/metrics/tokens/usage?start=2026-10-01&end=2026-11-01")
    assert live["version"] != before
    again = api(visited, f"/metrics/tokens/usage?start=2026-10-01&end=2026-11-01&version={before[:8]}")
    assert again == old
    assert live["rows"] != old["rows"]
    page = visited.ask(f"{address}&version={before[:8]}").get_data(as_text=True)
    assert f"<code>{before[:12]}</code>, which is not live now" in page
    assert "not live now" not in visited.ask(address).get_data(as_text=True)
    assert visited.ask(f"{address}&version=00000000").status_code == 404
    assert visited.ask(f"{address}&version=0").status_code == 404
