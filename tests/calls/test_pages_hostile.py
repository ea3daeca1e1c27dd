"""Whatever a call holds, the pages show it as text, and stay valid HTML."""

import html5lib
import pytest

from app.core.text import to_visible
from tests.builders import a_document, to_raw
from tests.sites import Site
from tests.web.visiting import ids, listed, send

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'`{{7*7}}{% raw %}&amp;</pre></code>"
ODD = "\0\x07\x1b[31m\x7f\x85\u202e\u2066\ufeff\uffff\U0001ffff\ud83d\u05e9\u05dc\u05d5\u05dd"

BODIES: dict[str, bytes] = {
    "script": to_raw(a_document(event=HOSTILE, userId=HOSTILE[:50], messageId=HOSTILE, properties={HOSTILE: HOSTILE})),
    "type": to_raw(a_document(type=HOSTILE)),
    "odd signs": to_raw(a_document(event=ODD, userId=ODD, messageId=ODD, properties={ODD: ODD})),
    "odd signs in properties": to_raw(
        a_document(properties={"x\u202e": "a\u202eb\u2028\ufdd0", "rtl": "\u05e9\u05dc"})
    ),
    "huge strings": to_raw(a_document(event="x" * 100_000, userId="y" * 100_000, messageId="z" * 100_000)),
    "5 MB": to_raw(a_document(properties={"x": "<script>" * 650_000})),
    "deep": b'{"type":"track","event":"e","properties":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
    "many keys": to_raw(a_document(properties={f"k{n}": n for n in range(5000)})),
    "big numbers": b'{"type":"track","event":"e","userId":"u","messageId":"m","properties":{"n":1e400,"m":'
    + b"9" * 300
    + b"}}",
    "null": b"null",
    "text": b'"text"',
    "number": b"7",
}


@pytest.mark.parametrize("name", BODIES)
def test_hostile_calls_are_shown_as_text_and_break_nothing(visited: Site, name: str) -> None:
    visited.send(BODIES[name])
    visited.send(BODIES[name])
    for one in ids(visited):
        for address in (f"/calls/{one}", "/calls", "/calls?q=script", "/calls/newer?newest=0", "/"):
            answer = visited.client.get(address)
            text = answer.get_data(as_text=True)
            assert answer.status_code == 200, (address, text)
            assert "<script>alert" not in text
            assert "onerror=alert(1)>" not in text
            assert len(text) < 1_000_000
            if address != "/calls/newer?newest=0":
                html5lib.HTMLParser(strict=True).parse(text)
        assert visited.client.get(f"/calls/{one}/raw").get_data() == BODIES[name]
        assert visited.client.get(f"/calls/{one}/curl").status_code == 200


def test_a_filter_may_be_hostile_too(visited: Site) -> None:
    send(visited)
    for text in (HOSTILE, ODD.replace("\ud83d", "").replace("\0", ""), "%", "' OR 1=1 --", "\\", "x" * 500):
        for name in ("q", "event", "customer", "id", "transform"):
            answer = visited.client.get("/calls", query_string={name: text[:400]})
            assert answer.status_code == 200
            assert "<script>alert" not in answer.get_data(as_text=True)
            assert listed(answer.get_data(as_text=True)) == []


def test_every_sign_can_be_seen() -> None:
    assert to_visible("plain \u00e9 \U0001f600\n\t") == "plain \u00e9 \U0001f600\n\t"
    assert to_visible("a\0b\u202ec\ud83d\r") == "a\\u0000b\\u202ec\\ud83d\\u000d"
    assert to_visible("\U0001ffff") == "\\U0001ffff"
