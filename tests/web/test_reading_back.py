"""What came can be read again: every page, document and command shows an odd call, and none ends for it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from app.metrics.fold import BucketBuilder
from app.service import commands
from app.settings import SETTINGS
from app.store.schema import calls
from tests.builders import DEFAULT_TEXT, NOW, a_document, balance, to_raw
from tests.served import ADMIN_TOKEN
from tests.sites import Site, counts
from tests.web.visiting import ids

HALF = "half \ud83d of a pair"
WHOLE = DEFAULT_TEXT.replace("properties: properties", "properties: {call: '@'}")


def nested(levels: int) -> bytes:
    """Return a call that nests so deep, itself counted."""
    inner = b'{"a":' * (levels - 1) + b"1" + b"}" * (levels - 1)
    return to_raw(a_document(properties=0)).replace(b'"properties":0', b'"properties":' + inner)


ODD: dict[str, list[bytes]] = {
    "half a pair in a conflict": [to_raw(a_document(properties={"x": text})) for text in (HALF, f"other {HALF}")],
    "half a pair as a key in a conflict": [to_raw(a_document(properties={HALF: number})) for number in (1, 2)],
    "half a pair against none": [to_raw(a_document(properties={"x": text})) for text in ("a", HALF)],
    "half a pair in a duplicate": [to_raw(a_document(properties={"x": HALF}))] * 2,
    "half a pair in all that is text": [
        to_raw(a_document(**dict.fromkeys(("event", "userId", "messageId", "timestamp"), HALF)))
    ],
    "as deep as can be read": [nested(200)],
    "as deep as can be read, in a conflict": [nested(200), nested(200).replace(b":1}", b":2}")],
    "one level deeper": [nested(201)],
    "numbers of many digits": [b'{"type":"track","event":"e","messageId":"m","properties":{"n":1e400}}'],
}


@pytest.fixture
def type_(visited: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Type a command against the site's database."""
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.setenv("DATABASE_URL", visited.service.settings.database_url)
    monkeypatch.setenv("TRANSFORMS_DIR", str(visited.service.settings.transforms_dir))
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(commands.main, words)


@pytest.mark.parametrize("name", ODD)
def test_an_odd_call_is_shown_everywhere(visited: Site, type_: Callable[..., Result], name: str) -> None:
    for raw in ODD[name]:
        assert visited.send(raw).status_code == 200
    stored = ids(visited)
    assert len(stored) == len(ODD[name])
    for call in stored:
        for path in (f"/calls/{call}", f"/transforms/_default?call={call}"):
            assert visited.client.get(path).status_code == 200, path
        assert visited.client.get(f"/transforms/new?call={call}").status_code == 303
        document = json.loads(visited.ask(f"/api/v1/calls/{call}", ADMIN_TOKEN).get_data())
        for words in (["show", str(call)], ["show", str(call), "--json"], ["try", str(call)]):
            result = type_(*words)
            assert result.exit_code == int(words[0] == "try" and document["outcome"] == "rejected"), result.output
    for path in ("/", "/calls", "/problems", "/usage", "/setup", "/calls?outcome=conflict"):
        assert visited.client.get(path).status_code == 200, path
    for path in ("calls", "events", "problems", "transforms/_default/paths", "transforms/_default/calls"):
        assert json.loads(visited.ask(f"/api/v1/{path}", ADMIN_TOKEN).get_data()), path
    draft = visited.service.settings.transforms_dir / "_default.draft.yaml"
    draft.write_text(DEFAULT_TEXT.replace("userId", "userId || 'x'"))
    for words in (
        ["log"],
        ["log", "--json"],
        ["preview", str(draft), "--json"],
        ["preview", str(draft)],
        ["replay", "--outcome", "conflict", "--yes", "--json"],
        ["replay", "--outcome", "stored", "--correct", "--dry-run", "--json"],
        ["ledger"],
    ):
        result = type_(*words)
        assert result.exit_code == 0, (words, result.output, result.exception)
    balance(visited.service.database)


def test_a_starter_file_of_odd_calls_can_be_used(visited: Site, type_: Callable[..., Result]) -> None:
    visited.send(to_raw(a_document(properties={"x": HALF, HALF: 1, "y": {HALF: [HALF]}}, context={"z": HALF})))
    result = type_("new", "API Call", "--from-calls")
    assert result.exit_code == 0, result.output
    file = visited.service.settings.transforms_dir / "api_call.draft.yaml"
    assert type_("check", str(file)).exit_code == 0


def test_an_event_that_no_reader_could_read_again_is_not_made(make_site: Callable[..., Site], tmp_path: Path) -> None:
    (tmp_path / "transforms" / "_default.yaml").write_text(WHOLE)
    site = make_site()
    assert counts(site.send(nested(199))) == {"received": 1, "stored": 1}
    assert counts(site.send(nested(200).replace(b"message-1", b"message-2"))) == {"received": 1, "rejected": 1}
    detail = site.rows(calls, calls.c.detail)[1][0]
    assert detail == "properties nest deeper than 200 levels"
    folder = BucketBuilder(site.service.database, 1, lambda: NOW)
    while folder.step():
        pass


def test_a_row_that_cannot_be_read_is_shown_as_such_and_fails_no_list(
    visited: Site, type_: Callable[..., Result]
) -> None:
    for number in (1, 2, 3):
        visited.send(to_raw(a_document(properties={"n": number})))
    newest = ids(visited)[0]
    for damaged in ("{", "[]]", '[{"lane":"main"}]', '[{"lane":"main","position":"x"}]', "null", "\x00"):
        with visited.service.database.writing() as conn:
            conn.execute(sa.update(calls).where(calls.c.id == newest).values(results=damaged))
        listed = visited.ask("/api/v1/calls", ADMIN_TOKEN).get_json()["calls"]
        assert len(listed) == 3
        assert "cannot be read" in listed[0]["detail"]
        assert "cannot be read" not in listed[1]["detail"]
        assert visited.client.get(f"/calls/{newest}").status_code == 200
        assert type_("log").exit_code == 0
        summary = type_("replay", "--outcome", "conflict", "--yes", "--json")
        assert summary.exit_code == 0, summary.output
