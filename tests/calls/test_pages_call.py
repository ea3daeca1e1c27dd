"""The page of one call, with Flask's own client."""

import json
import re

import sqlalchemy as sa

from app.core.signature import sign
from app.store.schema import calls, requests
from tests.builders import DEFAULT_TEXT, NOW, SECRET, a_document, published, some_ids, some_transforms, to_raw
from tests.replay.replaying import replay
from tests.served import ADMIN_TOKEN
from tests.sites import Site
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


def test_each_step_says_how_long_after_the_call_came_it_was_done(visited: Site) -> None:
    [one] = send(visited)
    with visited.service.database.writing() as conn:
        conn.execute(sa.update(calls).values(received_at=NOW, mapped_after=90))
        conn.execute(sa.update(requests).values(verified_after=41, parsed_after=-3, stored_after=1_250_000))
    text = page(visited, f"/calls/{one}")
    told = re.findall(r'<time class="stage-at" datetime="([^"]+)" title="[^"]+">([^<]+)</time>', text)
    assert [after for _, after in told] == ["+0.041 ms", "+0 ms", "+0.09 ms", "+0.09 ms", "+0.09 ms", "+1.25 s"]
    assert told[0][0] == "2026-11-01T10:00:00.000041Z"


def test_a_call_from_before_such_times_were_kept_shows_when_it_came(visited: Site) -> None:
    [one] = send(visited)
    with visited.service.database.writing() as conn:
        conn.execute(sa.update(calls).values(mapped_after=None))
        conn.execute(sa.update(requests).values(verified_after=None, parsed_after=None, stored_after=None))
    text = page(visited, f"/calls/{one}")
    assert text.count('class="stage-at"') == 1
    assert re.search(r'>received</span>.*?class="stage-at"><time', text, re.DOTALL)


def test_a_replayed_call_tells_what_it_was_and_what_made_it_what_it_is(visited: Site) -> None:
    [one] = send(visited, userId=None)
    text = DEFAULT_TEXT.replace("customer_id: userId", "customer_id: event")
    published(visited.service.database, some_transforms(text), some_ids(34))
    replay(visited.service.database)
    text = page(visited, f"/calls/{one}")
    # In the order of time: it was received and parsed then, and mapped and stored by the replay.
    assert re.findall(r'<span class="stage">(\w+)</span>', text) == [
        *("received", "verified", "parsed", "replayed", "transform", "mapped", "checked", "stored")
    ]
    way = plain(text[text.index('id="way"') : text.index("</ol>")])
    assert "from rejected (event_invalid) to stored, by version" in way
    assert len(re.findall(r"\+[\d.]+ ms", way)) == 2, "of the rest the replay's own time is told"
    assert way.count(replayed_at(text)) == 5
    history = plain(text[text.index('id="history"') :])
    assert re.search(r"rejected event_invalid stored", history)
    assert re.search(r'<a href="/replays/(\d+)">\1</a>', text)
    assert "It is counted: 1 event stored." in text


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def replayed_at(text: str) -> str:
    """When the page says that the call was replayed."""
    found = re.search(r">replayed</span>.*?<time[^>]*>([^<]+)<", text, re.DOTALL)
    assert found
    return found[1]


def test_a_conflict_shows_what_is_there_beside_what_this_call_says(visited: Site) -> None:
    [first] = send(visited)
    [second] = send(visited, properties={"tokens": 11})
    text = page(visited, f"/calls/{second}")
    assert re.search(r'<code class="there">10</code>.*<code class="here">11</code>', text, re.DOTALL)
    assert "properties.tokens" in text
    assert f'href="/calls/{first}"' in text
    assert "The event it would have made" in text
    assert "Other calls with the same message id" in page(visited, f"/calls/{first}")


def test_a_call_that_no_transform_took_leads_to_a_new_one(visited: Site) -> None:
    [one] = send(visited, type="identify")
    assert f'href="/transforms/new?call={one}"' in page(visited, f"/calls/{one}")
    assert f'href="/transforms/new?call={one}"' in page(visited, "/calls")
    assert "No transform takes it." in page(visited, f"/calls/{one}")


def test_an_unknown_call_is_not_found(visited: Site) -> None:
    for path in ("/calls/1", "/calls/x", f"/calls/{'9' * 40}", "/calls/1/raw", "/calls/1/curl"):
        assert "Not found" in page(visited, path, 404)
    assert "the address holds a NUL character" in page(visited, "/calls/%00", 400)


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
