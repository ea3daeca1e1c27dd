"""The overview, with Flask's own client: its numbers are the ledger's, and each leads to the calls behind it."""

import re
from collections import Counter
from pathlib import Path

import pytest

from app.service.ledger import read_ledger
from app.service.overview import draw
from app.service.sql_series import TimeSpan
from app.service.telemetry import Telemetry
from app.store.ledger import MINUTE
from tests.builders import NOW, a_document, to_raw
from tests.served import ADMIN_TOKEN
from tests.sites import SEGMENT_ADDRESS, Site
from tests.web.visiting import counted, ids, listed, page, send


def figures(text: str) -> dict[str, tuple[int, str]]:
    """Return each number of the page and where it leads."""
    found = re.findall(r'<dt>(.*?)</dt><dd><a href="([^"]+)">([\d,]+)</a>', text)
    return {
        re.sub("<[^>]+>", "", name): (int(count.replace(",", "")), link.replace("&amp;", "&"))
        for name, link, count in found
    }


@pytest.mark.parametrize("name", ["hour", "day", "week"])
def test_every_number_is_the_ledgers_and_leads_to_its_calls(visited: Site, name: str) -> None:
    send(visited, 3)
    send(visited, 1)
    send(visited, 1, properties={})
    send(visited, 2, first=10, userId=None)
    send(visited, 1, type="identify")
    text = page(visited, f"/?range={name}")
    told = figures(text)
    ledger = read_ledger(visited.service.database).calls
    assert {name: count for name, (count, _) in told.items()} == {
        name: count for name, count in ledger.items() if name != "by_reason"
    }
    for count, link in told.values():
        assert len(listed(page(visited, link))) == count, link


def test_the_chart_says_the_same_as_its_table(visited: Site) -> None:
    send(visited, 3)
    send(visited, 2, first=10, userId=None)
    text = page(visited, "/")
    assert len(re.findall('<rect class="bar-stored"', text)) == 1
    assert len(re.findall('<rect class="bar-rejected"', text)) == 1
    rows = re.findall(r'<td data-label="From" class="tight"><a href="([^"]+)">', text)
    assert len(rows) == 1
    assert len(listed(page(visited, rows[0].replace("&amp;", "&")))) == 5
    assert 'role="img" aria-label=' in text


def test_bars_stand_on_each_other_within_the_chart_and_the_least_can_be_seen() -> None:
    span = TimeSpan(since=NOW, until=NOW + 3 * MINUTE, step_minutes=1)
    counts = [Counter(stored=1_000_000, rejected=1), Counter(), Counter(stored=500_000, rejected=-2)]
    chart = draw(counts, span)
    first = [bar for bar in chart.bars if bar.x < 10]
    assert [bar.outcome for bar in first] == ["stored", "rejected"]
    assert first[0].y + first[0].height == chart.height
    assert first[1].y + first[1].height == first[0].y
    assert first[1].y >= 0
    assert first[1].height >= 2
    assert [bar.outcome for bar in chart.bars if bar.x >= 10] == ["stored"]
    assert [counts["rejected"] for _, _, counts in chart.rows] == [-2, 1]


def test_refused_requests_are_told_loudly_and_only_when_there_are_some(visited: Site) -> None:
    assert "refused" not in page(visited, "/").replace("requests_refused", "")
    visited.segment(to_raw(a_document()), {"X-Signature": "0" * 40})
    visited.segment(to_raw(a_document()), {})
    visited.refusals(2)
    text = page(visited, "/?range=hour")
    assert 'role="alert"' in text
    assert "2 requests were refused" in text
    for shown in (
        "signature_mismatch",
        "signature_missing",
        "does not retry",
        'href="/setup"',
        "POST /webhooks/segment",
        SEGMENT_ADDRESS,
    ):
        assert shown in text


def test_refused_requests_of_strangers_and_of_this_machine_are_told_quietly(visited: Site) -> None:
    visited.send(b"x", {})
    visited.segment(b"x", {"User-Agent": "zgrab/0.x"}, address="203.0.113.9")
    visited.refusals(2)
    text = page(visited, "/")
    assert 'role="alert"' not in text
    assert re.search(r'<span class="chip">2</span>\s*requests of strangers or of this machine were refused', text)


def test_what_needs_a_person_is_named_with_where_to_go(visited: Site) -> None:
    assert "No call was rejected in this period" in page(visited, "/")
    send(visited, 2, userId=None)
    text = page(visited, "/")
    assert re.search(r'<span class="chip bad">2</span>\s*calls were rejected or conflict', text)
    assert 'href="/problems"' in text
    folder: Path = visited.service.settings.transforms_dir
    (folder / "broken.yaml").write_text("match: {event: <b>x}\nevent: {properties: ')'}\n")
    (folder / "new.yaml").write_text("match: {event: y}\n")
    for _ in range(3):
        visited.service.watcher.look()
    (folder / "new.yaml").unlink()
    for _ in range(3):
        visited.service.watcher.look()
    text = page(visited, "/")
    assert 'href="/transforms/broken"' in text
    assert "cannot be used; the last good version stays live" in text
    assert re.search(r'no file</span> <a href="/transforms/new">', text)


def test_drift_is_told_with_a_link_until_a_person_resolves_it(visited: Site) -> None:
    (visited.service.settings.transforms_dir / "order.yaml").write_text("match: {event: Order}\n")
    for _ in range(3):
        visited.service.watcher.look()
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    live = visited.client.get("/api/v1/transforms/order", headers=headers).get_json()["live"]
    assert "drift" not in page(visited, "/")

    def do(act: str, **said: object) -> None:
        answer = visited.client.post(f"/api/v1/transforms/order/{act}", json=said, headers=headers)
        assert answer.status_code == 200, answer.get_data()
        visited.service.watcher.look()

    do("publish", text=live["text"] + "# edited\n", live=live["version"])
    text = page(visited, "/")
    assert re.search(r'<span class="chip warn">drift</span> The file of <a href="/transforms/order">', text)
    assert "publish the file, or keep the live version" in text
    assert 'chip ok">nothing' not in text
    do("resolve", take="file")
    text = page(visited, "/")
    assert "drift" not in text
    assert 'chip ok">nothing' in text


def test_nothing_yet_says_what_to_do(visited: Site) -> None:
    text = page(visited, "/")
    assert "No calls in this period." in text
    assert "No webhook request was accepted" in text
    assert "<svg" not in text


def test_latency_is_told_and_said_where_it_is_from(visited: Site) -> None:
    send(visited, 3)
    text = page(visited, "/")
    assert re.findall(r"<dt>(\d+) % of requests within</dt>", text) == ["50", "95", "99"]
    assert "segment_lotus_request_seconds" in text


def test_quantiles_are_estimated_as_prometheus_does(visited: Site) -> None:
    telemetry = Telemetry(shared=False)
    assert telemetry.request_quantiles((0.5,)) == []
    for seconds in (0.002, 0.002, 0.04, 0.04):
        telemetry.time_request(seconds)
    # Half of the four are within the bucket from 1 to 2.5 ms; three quarters lie in the middle of 25 to 50 ms.
    assert [value for _, value in telemetry.request_quantiles((0.5, 0.75))] == pytest.approx([0.0025, 0.0375])
    telemetry.time_request(60)
    assert telemetry.request_quantiles((1.0,)) == [(1.0, 10.0)]


def test_an_unknown_range_is_said(visited: Site) -> None:
    assert "range must be one of hour, day, week" in page(visited, "/?range=year", 400)


def test_the_overview_asks_the_database_few_questions_whatever_is_in_it(visited: Site) -> None:
    def look() -> int:
        with counted(visited) as statements:
            page(visited, "/")
        return len(statements)

    few = look()
    send(visited, 30)
    assert look() == few <= 3
    assert len(ids(visited)) == 30
