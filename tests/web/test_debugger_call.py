"""The page of one call, with Flask's own client."""

import json
import re

import sqlalchemy as sa

from app.core.signature import sign
from app.store.schema import calls
from tests.builders import SECRET, a_document, to_raw
from tests.served import ADMIN_TOKEN
from tests.web.conftest import Site
from tests.web.visiting import ids, listed, page, send


def test_one_call_tells_its_way_its_event_and_where_each_field_comes_from(visited: Site) -> None:
    [one] = send(visited)
    text = page(visited, f"/calls/{one}")
    stages = re.findall(r'<span class="stage">(\w+)</span>', text)
    assert stages == ["received", "verified", "parsed", "transform", "mapped", "checked", "stored"]
    assert "It is counted: 1 event stored." in text
    lines = [re.sub(r"<[^>]+>|\s+", " ", row).split() for row in re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)]
    assert ["customer_id", "&#34;customer-1&#34;", "userId", "_default", ".yaml"] in lines
    assert f'href="/calls/{one}/raw"' in text
    assert "takes track calls that no other takes" in text


def test_a_rejected_call_says_where_it_stopped_and_why(visited: Site) -> None:
    [one] = send(visited, userId=None)
    text = page(visited, f"/calls/{one}")
    assert re.findall(r'<li class="stopped">\s*<span class="stage">(\w+)', text) == ["checked"]
    assert "Not counted" in text
    assert text.count("customer_id is null") >= 2


def test_a_conflict_shows_what_is_there_beside_what_this_call_says(visited: Site) -> None:
    [first] = send(visited)
    [second] = send(visited, properties={"tokens": 11})
    text = page(visited, f"/calls/{second}")
    assert re.search(r'<code class="there">10</code>.*<code class="here">11</code>', text, re.DOTALL)
    assert "properties.tokens" in text
    assert f'href="/calls/{first}"' in text
    assert "As it would have been" in text
    assert "Other calls with the same message id" in page(visited, f"/calls/{first}")


def test_a_call_that_no_transform_took_leads_to_a_new_one(visited: Site) -> None:
    [one] = send(visited, type="identify")
    assert f'href="/transforms/new?call={one}"' in page(visited, f"/calls/{one}")
    assert f'href="/transforms/new?call={one}"' in page(visited, "/calls")
    assert "None takes it." in page(visited, f"/calls/{one}")


def test_an_unknown_call_is_not_found(visited: Site) -> None:
    for path in ("/calls/1", "/calls/x", f"/calls/{'9' * 40}", "/calls/1/raw", "/calls/1/curl", "/calls/%00"):
        assert "Not found" in page(visited, path, 404)


def test_the_raw_bytes_are_a_download_and_never_a_page(visited: Site) -> None:
    raw = to_raw(a_document(event="<script>alert(1)</script>"))
    visited.send(raw)
    [one] = ids(visited)
    answer = visited.client.get(f"/calls/{one}/raw")
    assert answer.get_data() == raw
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.content_type == "application/octet-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_curl_command_is_text_and_holds_no_secret(visited: Site) -> None:
    raw = to_raw(a_document())
    visited.send(raw)
    [one] = ids(visited)
    answer = visited.client.get(f"/calls/{one}/curl")
    assert answer.content_type == "text/plain; charset=utf-8"
    text = answer.get_data(as_text=True)
    assert sign(raw, SECRET) in text
    assert "http://localhost/webhooks/segment" in text
    assert SECRET not in text


def test_bytes_that_retention_removed_are_said_to_be_gone(visited: Site) -> None:
    [one] = send(visited)
    with visited.service.database.writing() as conn:
        conn.execute(sa.update(calls).values(raw=None))
    assert "Its bytes were removed by retention." in page(visited, f"/calls/{one}")
    assert "removed by retention" in page(visited, f"/calls/{one}/raw", 404)
    assert listed(page(visited, "/calls?q=m-0")) == []


def test_what_the_page_tells_is_what_the_api_tells(visited: Site) -> None:
    [one] = send(visited, userId=None)
    answer = visited.client.get(f"/api/v1/calls/{one}", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
    told = json.loads(answer.get_data())
    text = page(visited, f"/calls/{one}")
    for step in told["steps"]:
        assert f'<span class="stage">{step["name"]}</span>' in text
    assert told["detail"].replace("`", "`") in text.replace("&#39;", "'").replace("&#34;", '"')
