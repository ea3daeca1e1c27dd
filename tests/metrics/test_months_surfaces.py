"""Closed months and answers as of a moment as people meet them: typed, over the API, and on the pages."""

import csv
import html
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import html5lib
import pytest
from click.testing import CliRunner, Result
from werkzeug.test import TestResponse

from app.clock import clock
from app.core.times import format_time
from app.metrics.months import Month
from app.service import commands
from app.settings import SETTINGS
from app.store import moment as moment_module
from tests.builders import a_document, to_raw
from tests.metrics.test_months import BERLIN, last_month, next_month
from tests.served import ADMIN_TOKEN
from tests.sites import Site
from tests.web.test_sign_in import sign_in

HOSTILE = "<script>alert(1)</script>"
SUM = """\
metric_type: counter
event_name: API Call
usage_aggregation_type: sum
property_name: tokens
group_by: [model]
"""


@pytest.fixture
def site(make_site: Callable[..., Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A service with a metric, on which a moment may be asked for as soon as it is over."""
    monkeypatch.setattr(moment_module, "MARGIN", 0)
    monkeypatch.setattr("app.metrics.months.MARGIN", 0)
    folder = tmp_path / "metrics"
    folder.mkdir()
    (folder / "tokens.yaml").write_text(SUM)
    return make_site(metrics_dir=folder)


def send(site: Site, message: str, tokens: object, customer: str = "acme", model: str = "=s") -> None:
    """Send a call of the middle of last month."""
    month = last_month()
    when = format_time((month.start + month.end) // 2)
    properties = {"tokens": tokens, "model": model}
    document = a_document(messageId=message, timestamp=when, userId=customer, properties=properties)
    assert site.send(to_raw(document)).status_code == 200


def period(month: Month) -> str:
    return f"tz={BERLIN}&start={month.text}-01&end={next_month()}-01"


def get(site: Site, path: str, status: int = 200) -> Any:
    answer = site.ask(f"/api/v1{path}", ADMIN_TOKEN)
    assert answer.status_code == status, answer.get_data()
    return answer.get_json()


def post(site: Site, path: str, status: int = 200, **members: Any) -> Any:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    answer = site.client.post(f"/api/v1{path}", json=members, headers=headers)
    assert answer.status_code == status, answer.get_data()
    return answer.get_json()


def test_the_api_answers_as_of_a_moment_with_the_events_behind_it(site: Site) -> None:
    send(site, "m-1", 10)
    moment = format_time(clock())
    send(site, "m-2", 5)
    usage = f"/metrics/tokens/usage?{period(last_month())}"
    assert [row["value"] for row in get(site, usage)["rows"]] == ["15"]
    assert "as_of" not in get(site, usage)
    said = get(site, f"{usage}&as_of={moment}&verify=1")
    assert ([row["value"] for row in said["rows"]], said["verified"]) == (["10"], True)
    assert (said["as_of"], said["as_of_basis"]) == (moment, "stored")
    events = get(site, f"/metrics/tokens/events?{period(last_month())}&as_of={moment}")
    assert [event["idempotency_id"] for event in events["events"]] == ["m-1"]
    assert (events["as_of"], events["as_of_basis"]) == (moment, "stored")
    table = site.ask(f"/api/v1{usage}&as_of={moment}&format=csv", ADMIN_TOKEN)
    assert "acme,'=s," in table.get_data(as_text=True)
    assert "_as-of-" in table.headers["Content-Disposition"]
    assert "was not published yet" in get(site, f"{usage}&as_of=365d", 404)["message"]
    assert "as_of must be at least" in get(site, f"{usage}&as_of=2100-01-01", 400)["message"]


def test_the_api_closes_shows_carries_verifies_and_reopens(site: Site) -> None:
    send(site, "m-1", 10)
    month = last_month()
    closing = {"metric": "tokens", "month": month.text, "tz": BERLIN, "author": "ann"}
    closed = post(site, "/months", 201, **closing)
    assert (closed["state"], closed["author"], closed["month"]) == ("closed", "ann", month.text)
    assert post(site, "/months", 409, **closing)["code"] == "edit_conflict"
    assert post(site, "/months", 400, **{**closing, "month": next_month()})["code"] == "bad_query"
    assert post(site, "/months", 400, **closing, colour="red")["code"] == "bad_query"
    send(site, "m-2", 5)
    report = get(site, f"/months/{closed['id']}")
    [line] = report["numbers"]
    assert (line["closed"]["value"], line["today"]["value"]) == ("10", "15")
    assert (line["adjustment"], line["carried"], line["open"]) == ("5", "0", "5")
    [change] = get(site, f"/months/{closed['id']}/events?customer_id=acme&limit=1")["events"]
    assert (change["idempotency_id"], change["change"], change["before"]) == ("m-2", "stored", False)
    assert get(site, f'/months/{closed["id"]}/events?group={{"model": "other"}}')["events"] == []
    said = get(site, f"/metrics/tokens/usage?{period(month)}")["month"]
    assert said["closed"] == {"id": closed["id"], "closed_at": closed["closed_at"], "closed": "10", "adjustments": "5"}
    carried = post(site, f"/months/{closed['id']}/carry", into=next_month(), author="bob")["carried"]
    assert [(row["customer_id"], row["group"], row["amount"]) for row in carried] == [("acme", {"model": "=s"}, "5")]
    said = get(site, f"/metrics/tokens/usage?tz={BERLIN}")
    assert [row["amount"] for row in said["month"]["received"]] == ["5"]
    table = site.ask(f"/api/v1/months/{closed['id']}?format=csv", ADMIN_TOKEN)
    [row] = csv.DictReader(io.StringIO(table.get_data(as_text=True)))
    assert (row["line"], row["model"], row["closed"], row["carried"], row["open"]) == ("number", "'=s", "10", "5", "0")
    assert get(site, f"/months/{closed['id']}/verify") == {"verified": True, "problems": []}
    post(site, f"/months/{closed['id']}/reopen", 400, author="bob")
    opened = post(site, f"/months/{closed['id']}/reopen", reason="wrong", author="bob")
    assert (opened["state"], opened["reopen_reason"], opened["reopen_author"]) == ("reopened", "wrong", "bob")
    assert get(site, "/months?limit=1&metric=tokens") == {"months": [opened], "next": None}
    assert get(site, "/months/1", 404)["code"] == "not_found"


@pytest.fixture
def type_(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Type a command against the database of the service."""
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{site.service.database.file}")
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(commands.main, words)


def test_the_command_line_closes_shows_carries_verifies_and_reopens(site: Site, type_: Callable[..., Result]) -> None:
    send(site, "m-1", 10)
    month, moment = last_month(), format_time(clock())
    words = ("tokens", "--month", month.text, "--tz", BERLIN, "--author", "ann")
    done = type_("close", *words)
    assert (done.exit_code, "with 1 number, as" in done.stdout) == (0, True), done.output
    number = done.stdout.split()[-1].rstrip(".")
    assert "closed in Europe/Berlin already" in type_("close", *words).stderr
    send(site, "m-2", 5)
    assert re.search(r"acme +=s +10 +15 +5 +0 +5\n", type_("months", "show", number).stdout)
    assert "stored  call" in type_("months", "show", number, "--events").stdout
    usage = ("usage", "tokens", "--tz", BERLIN, "--start", f"{month.text}-01", "--end", f"{next_month()}-01")
    assert f": 10; adjustments: 5; see segment-lotus months show {number}" in type_(*usage).stderr
    as_of = type_(*usage, "--as-of", moment)
    assert "as of " in as_of.stderr
    assert re.search(r"acme +=s +10 +1", as_of.stdout)
    explained = type_(*usage, "--as-of", moment, "--explain").stdout
    assert ("m-1" in explained, "m-2" in explained) == (True, False)
    carried = type_("months", "carry", number, "--into", next_month(), "--author", "bob")
    assert "1 adjustment carried into" in carried.stdout
    assert f"carried from {month.text}: acme model==s 5" in type_("usage", "tokens", "--tz", BERLIN).stderr
    assert "every number is the same" in type_("months", "verify").stdout
    assert json.loads(type_("months", "list", "--json").stdout)["months"][0]["id"] == number
    assert "is open again" in type_("months", "reopen", number, "--reason", "wrong", "--author", "bob").stdout
    assert "by bob: wrong" in type_("months", "list").stdout
    assert type_("months", "reopen", number, "--reason", "again").exit_code == 1
    assert "number,acme,'=s,10,1,15,2,5,5,0" in type_("months", "show", number, "--format", "csv").stdout


def form(site: Site, path: str, **fields: str) -> TestResponse:
    page = site.client.get("/months").get_data(as_text=True)
    [token, *_] = re.findall(r'name="csrf" value="([^"]+)"', page)
    return site.client.post(path, data={"csrf": token, **fields})


def page_of(site: Site, path: str, status: int = 200) -> str:
    answer = site.client.get(path)
    assert answer.status_code == status
    return text_of(answer)


def text_of(answer: TestResponse) -> str:
    """Return what a page says, in one line, after checking that it is valid HTML."""
    body = answer.get_data(as_text=True)
    html5lib.HTMLParser(strict=True).parse(body)
    assert HOSTILE not in body
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", body)).split())


def test_the_pages_close_show_carry_verify_and_reopen(site: Site) -> None:
    sign_in(site.client)
    assert "No month was closed yet" in page_of(site, "/months")
    send(site, "m-1", 10)
    send(site, "m-3", 1, HOSTILE, HOSTILE)
    month, moment = last_month(), format_time(clock())
    started = form(site, "/months", metric="tokens", month=month.text, tz=BERLIN, author=HOSTILE)
    assert started.status_code == 303
    again = form(site, "/months", metric="tokens", month=month.text, tz=BERLIN, author="bob")
    assert (again.status_code, "is closed in Europe/Berlin already" in text_of(again)) == (409, True)
    assert "Nothing has changed since" in page_of(site, started.location)
    send(site, "m-2", 5)
    shown = page_of(site, started.location)
    assert "1 number changed" in shown
    assert "Carry 1 open adjustment" in shown
    assert "m-2" in page_of(site, f"{started.location}/events?customer_id=acme")
    usage = f"/usage?metric=tokens&{period(month)}"
    assert ": 11; adjustments: 5." in page_of(site, usage)
    said = page_of(site, f"{usage}&as_of={moment}")
    assert "what was stored and not void by then" in said
    assert "As of" in page_of(site, f"/usage/events?metric=tokens&{period(month)}&as_of={moment}")
    assert "as_of must be at least" in page_of(site, f"{usage}&as_of=2100-01-01", 400)
    assert form(site, f"{started.location}/carry", into=next_month(), author="bob").status_code == 303
    assert "Carried into later months" in page_of(site, started.location)
    assert "in none of these numbers" in page_of(site, f"/usage?metric=tokens&tz={BERLIN}")
    assert "every number is the same" in page_of(site, f"{started.location}?verify=1&customer_id=acme")
    assert form(site, f"{started.location}/reopen", author="bob").status_code == 400
    assert form(site, f"{started.location}/reopen", author="bob", reason=HOSTILE).status_code == 303
    assert "Reopened" in page_of(site, started.location)
    assert "reopened" in page_of(site, "/months?metric=tokens")
