"""Usage in a browser: choose a metric, read its chart and table, follow a number to its events and to their calls."""

import csv
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import NARROW, WIDE, Visitor
from tests.builders import DEFAULT_TEXT, SECRET, a_document, to_raw
from tests.served import Served, served, signed

SUM = """\
description: Tokens used, by model.
metric_type: counter
event_name: Tokens
usage_aggregation_type: sum
property_name: tokens
group_by: [model]
"""
MOST = SUM.replace("sum", "max").replace("used", "of the largest call")
SEATS = """\
description: Seats, prorated by the day.
metric_type: gauge
event_name: Seats
event_type: delta
property_name: change
granularity: months
proration: days
"""
HOSTILE = "<script>alert(1)</script>\N{RIGHT-TO-LEFT OVERRIDE}\"'&amp;{{7*7}}"
CUSTOMERS = [*(f"customer-{at:02}" for at in range(13)), HOSTILE]


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the metric files."""
    folder = tmp_path_factory.mktemp("metrics")
    for name, text in {"tokens": SUM, "most": MOST, "seats": SEATS, "broken": "metric_type: <b>sum\n"}.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, metrics: Path) -> Iterator[Served]:
    """A service with two weeks of usage of many customers."""
    folder = tmp_path_factory.mktemp("usage")
    transforms = folder / "transforms"
    transforms.mkdir()
    (transforms / "_default.yaml").write_text(DEFAULT_TEXT)
    url = f"sqlite:///{folder / 'test.db'}"
    with served(
        url, folder, TRANSFORMS_DIR=str(transforms), METRICS_DIR=str(metrics), SEGMENT_SHARED_SECRETS=SECRET
    ) as running:
        store(running)
        yield running


def store(service: Served) -> None:
    """Store some of each customer and day; of the last one some that is skipped."""
    now = datetime.now(UTC)
    documents = []
    for at, customer in enumerate(CUSTOMERS):
        for day in range(14):
            time = (now - timedelta(days=day, minutes=1)).isoformat()
            properties: dict[str, object] = {"tokens": f"{at + 1}.{day + 1}", "model": HOSTILE if at % 2 else "small"}
            if customer == HOSTILE and day % 3 == 0:
                properties["tokens"] = "many"
            documents.append(
                a_document(
                    messageId=f"t-{at}-{day}", userId=customer, event="Tokens", timestamp=time, properties=properties
                )
            )
        seats = {"messageId": f"s-{at}", "userId": customer, "event": "Seats", "properties": {"change": at + 1}}
        documents.append(a_document(**{**seats, "timestamp": (now - timedelta(days=10)).isoformat()}))
    for start in range(0, len(documents), 100):
        some = documents[start : start + 100]
        body = b"[" + b",".join(to_raw(one) for one in some) + b"]"
        answer = service.post(body, signed(body, to_raw(some[0])))
        assert json.loads(answer.body)["stored"] == len(some), answer.body


# One table, chart and list of full length; elsewhere three days are rows enough, since axe looks at each cell.
PAGES = (
    "/usage",
    "/usage?metric=tokens",
    "/usage?metric=tokens&start=30d&window=day",
    "/usage?metric=tokens&start=3d&window=day&group_by=none&tz=Asia/Kathmandu&fill=zero",
    "/usage?metric=most&start=3d&window=day",
    "/usage?metric=seats&start=3d&window=day",
    "/usage?metric=seats&start=30d&window=hour",
    "/usage?metric=tokens&start=2020-01-01&end=2020-02-01",
    "/usage?metric=lost",
    "/usage/events?metric=tokens&start=30d",
    "/usage/events?metric=seats&start=7d",
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("narrow", [False, True])
def test_every_page_is_valid_and_accessible(
    chromium: Browser, service: Served, scheme: Literal["light", "dark"], *, narrow: bool
) -> None:
    context = chromium.new_context(viewport=NARROW if narrow else WIDE, color_scheme=scheme)
    visitor = Visitor(context, service)
    visitor.sign_in("/usage")
    for path in PAGES:
        visitor.go(path)
        # What cannot be answered is an answer with status 400 or 404, which the browser's console names.
        visitor.complaints = [one for one in visitor.complaints if "400" not in one and "404" not in one]
        visitor.check()
    context.close()


def test_from_a_metric_to_a_number_to_its_events_to_a_call_and_back(visitor: Visitor) -> None:
    page = visitor.sign_in("/usage")
    expect(page.get_by_role("link", name="Usage", exact=True)).to_have_attribute("aria-current", "page")
    expect(page.get_by_role("row").filter(has_text="file broken")).to_contain_text("broken.yaml:1")
    page.get_by_role("main").get_by_role("link", name="tokens", exact=True).click()
    page.get_by_role("textbox", name="Customer").fill("customer-03")
    page.get_by_label("Window", exact=True).select_option("")
    # A button of the form: what was typed and not shown yet goes with it.
    page.get_by_role("button", name="Last 365 days").click()
    assert "customer_id=customer-03" in page.url
    # 4.1 to 4.9, and 4.10 to 4.14: the sum is exact.
    total = page.locator(".usage-total dd")
    expect(total).to_have_text("61.1")
    row = page.get_by_role("row").filter(has_text="customer-03")
    row.get_by_role("link", name="61.1").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("The events behind this number")
    events = page.locator("tr[data-event]")
    expect(events).to_have_count(14)
    events.first.get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=2, name="Which metrics counted this")).to_be_visible()
    judged = page.get_by_role("table", name="Metrics of the events of this call")
    expect(judged.get_by_role("row").filter(has_text="tokens")).to_contain_text("counted")
    expect(judged.get_by_role("row").filter(has_text="tokens")).to_contain_text("4.14")
    visitor.check()
    judged.get_by_role("link", name="tokens").click()
    expect(total).to_have_text("4.14")
    visitor.check()


def test_it_works_by_keyboard_alone(visitor: Visitor) -> None:
    page = visitor.sign_in("/usage?metric=tokens&start=30d")
    page.get_by_role("textbox", name="Customer").focus()
    page.keyboard.type("customer-00")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("customer_id=customer-00"))
    number = page.locator(".usage-table td a").nth(1)
    for _ in range(60):
        page.keyboard.press("Tab")
        if number.evaluate("one => one === document.activeElement"):
            break
    expect(number).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("The events behind this number")


def test_hostile_names_are_text(visitor: Visitor) -> None:
    page = visitor.sign_in("/usage?metric=tokens&start=30d")
    row = page.get_by_role("row").filter(has_text="5 text")
    expect(row.get_by_role("cell").first).to_have_text("<script>alert(1)</script>\\u202e\"'&amp;{{7*7}}")
    expect(page.get_by_text("it is text that is no number")).to_be_visible()
    row.get_by_role("link").last.click()
    expect(page.locator("tr[data-event]")).to_have_count(14)
    expect(page.get_by_text("skipped: text")).to_have_count(5)
    visitor.check()


def test_what_cannot_be_answered_is_said_beside_what_was_written(visitor: Visitor) -> None:
    page = visitor.sign_in("/usage?metric=tokens")
    page.get_by_label("From").fill("soon")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("alert")).to_contain_text("start must be a time")
    expect(page.get_by_label("From")).to_have_value("soon")
    visitor.complaints.clear()
    page.get_by_label("From").fill("30d")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.locator(".usage-total")).to_be_visible()


def test_the_answer_is_downloaded_as_a_file(visitor: Visitor) -> None:
    page = visitor.sign_in("/usage?metric=tokens&start=30d&window=day")
    with page.expect_download() as started:
        page.get_by_role("link", name="Download all as CSV").click()
    assert re.fullmatch(r"tokens_[0-9T-]+_[0-9T-]+\.csv", started.value.suggested_filename)
    rows = list(csv.DictReader(io.StringIO(Path(started.value.path()).read_text(encoding="utf-8"))))
    assert {row["customer_id"] for row in rows} == set(CUSTOMERS)
    assert len(rows) == 14 * len(CUSTOMERS)


def test_the_chart_has_a_bar_for_each_day_and_series_within_its_height(visitor: Visitor) -> None:
    page = visitor.sign_in("/usage?metric=tokens&start=30d&window=day")
    expect(page.get_by_role("img", name="Stacked bars over time")).to_be_visible()
    assert page.locator(".usage-chart rect.series-1").count() == 14
    expect(page.locator(".usage-series li")).to_have_count(11)
    expect(page.locator(".usage-series li").last).to_contain_text("4 more")
    page.goto(visitor.url("/usage?metric=most&start=30d&window=day"))
    assert page.locator(".usage-chart path").count() == 10
