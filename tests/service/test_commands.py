"""What is typed to look at things, run in this process on both databases."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from app.calls import commands as review
from app.calls import commands_retention as retain
from app.catalog.backend import Backend
from app.catalog.live import Catalog
from app.cli.program import first_sentence
from app.core.outcome import Outcome
from app.core.transform.transform import TransformSet
from app.service import commands
from app.settings import SETTINGS
from app.store.engine import Database, connect
from app.store.ids import Ids
from app.store.refusals import Refusal, append_refusals
from app.store.review import CallFilters
from app.store.schema import calls
from tests.builders import (
    NOW,
    a_document,
    a_record,
    an_event,
    an_ingest,
    post,
    store,
    to_raw,
)

Type = Callable[..., Result]

SECOND = 1_000_000

DOCUMENTS: Sequence[object] = (
    a_document(messageId="m-1", userId="ann"),
    a_document(messageId="m-1", userId="ann"),
    a_document(messageId="m-1", userId="ann", properties={"tokens": 11}),
    {"type": "identify", "messageId": "m-2", "userId": "bob"},
    a_document(messageId="m-3", userId=""),
)


@pytest.fixture
def empty(migrated_url: str) -> Iterator[Database]:
    """A database without a call."""
    database = connect(migrated_url)
    yield database
    database.close()


@pytest.fixture
def database(empty: Database) -> Database:
    """A database with a call of every outcome, a second apart."""
    clock = iter(range(NOW, NOW + 100 * SECOND, SECOND))
    ingest = an_ingest(empty, ids=Ids(lambda _below: 7), clock=lambda: next(clock))
    for document in DOCUMENTS:
        post(ingest, to_raw(document))
    return empty


def desk(database_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *, color: bool = False) -> Type:
    """Return what types a command, in an empty folder with DATABASE_URL set; `color`: as on a terminal."""
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.chdir(folder)
    return lambda *words: CliRunner().invoke(commands.main, words, color=color)


@pytest.fixture
def type_(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Type:
    """Type a command, with a migrated database."""
    return desk(migrated_url, tmp_path, monkeypatch)


def ids_of(result: Result) -> list[str]:
    return [json.loads(line)["message_id"] for line in result.stdout.splitlines()]


def test_the_log_has_the_newest_call_last(database: Database, type_: Type) -> None:
    lines = type_("log").stdout.splitlines()
    assert [line.split()[2] for line in lines] == ["stored", "duplicate", "conflict", "ignored", "rejected"]
    assert lines[0].startswith("2026-11-01 10:00:00.000  stored     API Call")
    assert "\x1b" not in "".join(lines)
    assert [line.split()[2] for line in type_("log", "--limit", "2").stdout.splitlines()] == ["ignored", "rejected"]


def all_commands(
    name: str = "segment-lotus", command: click.Command = commands.main
) -> Iterator[tuple[str, click.Command]]:
    """Every command and every group, by what is typed."""
    yield name, command
    if isinstance(command, click.Group):
        for word, below in command.commands.items():
            yield from all_commands(f"{name} {word}", below)


def test_help_shows_each_command_once_under_what_people_do_and_in_whole_sentences() -> None:
    shown = CliRunner().invoke(commands.main, ["--help"]).stdout
    sections = commands.main.sections()
    assert sorted(name for names in sections.values() for name in names) == sorted(commands.main.commands)
    titles = re.findall(r"^(\S.*):$", shown, re.MULTILINE)
    assert [title for title in titles if title != "Options"] == list(sections)
    for title, names in sections.items():
        section = shown.partition(f"\n{title}:\n")[2].partition("\n\n")[0]
        assert re.findall(r"^  (\S+)", section, re.MULTILINE) == names


@pytest.mark.parametrize(
    ("name", "group"), [(name, group) for name, group in all_commands() if isinstance(group, click.Group)]
)
def test_the_help_of_a_group_cuts_no_sentence(name: str, group: click.Group) -> None:
    shown = " ".join(CliRunner().invoke(commands.main, [*name.split()[1:], "--help"]).stdout.split())
    for word, command in group.commands.items():
        sentence = first_sentence(command)
        assert re.fullmatch(r"[A-Z].*\.", sentence), f"{word}: {sentence}"
        assert f" {word} {sentence}" in shown


@pytest.mark.parametrize(("name", "command"), list(all_commands()))
def test_the_help_of_an_option_begins_with_a_capital_and_ends_with_a_full_stop(
    name: str, command: click.Command
) -> None:
    texts = {option.opts[0]: option.help or "" for option in command.params if isinstance(option, click.Option)}
    assert [option for option, text in texts.items() if not re.fullmatch(r"[A-Z].*(\.|  \[default: .+\])", text)] == []


COLOURED = ("log", "settings", "check", "transforms diff other", "metrics check")


@pytest.mark.parametrize(("no_colour", "expected"), [(None, True), ("", True), ("1", False), ("0", False)])
def test_no_command_has_colours_where_no_color_is_set(
    migrated_sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_colour: str | None, *, expected: bool
) -> None:
    type_ = desk(migrated_sqlite_url, tmp_path, monkeypatch, color=True)
    database = connect(migrated_sqlite_url)
    post(an_ingest(database), to_raw(a_document()))
    database.close()
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "broken.yaml").write_text("metric_type: [")
    (tmp_path / "transforms").mkdir()
    (tmp_path / "transforms" / "broken.yaml").write_text("match: [")
    (tmp_path / "transforms" / "other.yaml").write_text("match: {event: API Call}\nevent: {properties: properties}\n")
    if no_colour is None:
        monkeypatch.delenv("NO_COLOR", raising=False)
    else:
        monkeypatch.setenv("NO_COLOR", no_colour)
    assert {words: "\x1b[" in type_(*words.split()).output for words in COLOURED} == dict.fromkeys(COLOURED, expected)


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        ("--outcome stored --outcome ignored", ["m-1", "m-2"]),
        ("--reason duplicate", ["m-1"]),
        ("--customer bob", ["m-2"]),
        ("--event nothing", []),
        ("--id m-3", ["m-3"]),
        ("--transform _default --limit 1", ["m-3"]),
        ("--since 2026-11-01T10:00:03Z", ["m-2", "m-3"]),
        ("--until 2026-11-01T10:00:01Z", ["m-1"]),
        ("--until 100000d", []),
    ],
)
def test_the_log_is_filtered(database: Database, type_: Type, options: str, messages: list[str]) -> None:
    result = type_("log", "--json", *options.split())
    assert result.exit_code == 0, result.output
    assert ids_of(result) == messages


def test_what_a_sender_wrote_does_not_reach_the_terminal(database: Database, type_: Type) -> None:
    post(an_ingest(database), to_raw(a_document(messageId="bell \a", event="\x1b[2J\u202e", userId="a\nb")))
    for words in (("log",), ("show", "bell \a")):
        result = type_(*words)
        assert result.exit_code == 0
        assert not set(result.stdout) & set("\x1b\a\u202e")
    assert len(type_("log").stdout.splitlines()) == len(DOCUMENTS) + 1


def test_show_tells_everything_about_a_call(database: Database, type_: Type) -> None:
    stored = type_("show", json.loads(type_("log", "--json").stdout.splitlines()[0])["id"])
    assert stored.stderr == ""
    for part in ("outcome    stored", "ok  stored", '"customer_id": "ann"', '"messageId": "m-1"'):
        assert part in stored.stdout
    several = type_("show", "m-1")
    assert "3 calls have this id" in several.stderr
    assert "outcome    conflict" in several.stdout
    assert "no  stored" in several.stdout
    assert '"tokens": 11' in several.stdout
    rejected = type_("show", "m-3")
    assert re.search(r"no  checked    [\d:.]{15} customer_id is empty", rejected.stdout)
    assert json.loads(type_("show", "m-3", "--json").stdout)["reason"] == "event_invalid"


def test_show_raw_is_the_bytes_as_they_came(database: Database, type_: Type) -> None:
    raw = b'{ "type":"identify" ,"messageId": "r-1",\t"n": 1.0, "s": "\\ud83d\xc3\xbc" }'
    post(an_ingest(database), raw)
    assert type_("show", "r-1", "--raw").stdout_bytes == raw
    # Numbers and escapes stay as they were written, also where it is laid out for reading.
    assert '"n": 1.0' in type_("show", "r-1").stdout
    assert "\\ud83d" in type_("show", "r-1").stdout


def test_what_is_not_there_is_said_in_a_sentence(database: Database, type_: Type) -> None:
    result = type_("show", "nothing")
    assert result.exit_code == 1
    assert result.stderr == "error: there is no call, message or event with the id 'nothing'\n"


def test_the_ledger_balances_or_says_that_it_does_not(database: Database, type_: Type) -> None:
    result = type_("ledger")
    assert result.exit_code == 0
    assert "It balances: 5 calls = 1 + 1 + 1 + 1 + 1." in result.stdout
    assert "event_invalid" in result.stdout
    assert json.loads(type_("ledger", "--json").stdout)["calls"]["received"] == 5
    assert "by the minute" in type_("ledger", "--since", "1h").stdout
    with database.writing() as conn:
        conn.execute(sa.delete(calls).where(calls.c.outcome == "ignored"))
    result = type_("ledger")
    assert result.exit_code == 1
    assert "IT DOES NOT BALANCE: there are 4 calls, and the ledger counts 5." in result.stdout


def test_refused_requests_are_listed_with_the_reason(database: Database, type_: Type) -> None:
    headers = '{"user-agent":"\\u001bx"}'
    refusals = [
        Refusal(at, NOW, code, "why", "POST", "/webhooks/segment", headers, b"\xff")
        for at, code in enumerate(("unauthorized", "signature_mismatch", "too_large"))
    ]
    with database.writing() as conn:
        append_refusals(conn, refusals)
    result = type_("refused", "--limit", "2")
    assert [line.split()[2] for line in result.stdout.splitlines()] == ["signature_mismatch", "too_large"]
    assert json.loads(type_("refused", "--json", "--limit", "1").stdout)["body_start"] == "\\xff"


def test_retention_forgets_the_bytes_of_older_calls_once_somebody_says_yes(
    database: Database, type_: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = 86_400 * SECOND
    later = an_ingest(database, ids=Ids(lambda _below: 8), clock=lambda: NOW + 5 * day)
    post(later, to_raw(a_document(messageId="later")))
    monkeypatch.setattr(retain, "clock", lambda: NOW + 6 * day)
    for result in (type_("retention", "--days", "2", "--dry-run"), type_("retention", "--days", "2")):
        assert "the raw bytes of 5 calls and the envelopes of 0 requests older than 2 days" in result.stdout
    # Nobody said yes: there was no terminal to ask.
    assert "removed by retention" not in type_("show", "m-3").stdout
    done = type_("retention", "--days", "2", "--yes")
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith("Removed the raw bytes of 5 calls and the envelopes of 0 requests.\n")
    assert "removed by retention" in type_("show", "m-3").stdout
    assert type_("show", "m-3", "--raw").exit_code == 1
    assert '"messageId": "later"' in type_("show", "later").stdout
    assert "It balances: 6 calls" in type_("ledger").stdout


def test_settings_are_listed_and_secrets_are_not(type_: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENT_SHARED_SECRETS", "one-secret,another-secret")
    monkeypatch.setenv("ADMIN_TOKEN", "the-admin-token")
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:the-password@host/name")
    monkeypatch.setenv("PORT", "8123")
    result = type_("settings")
    assert result.exit_code == 0
    for setting in SETTINGS:
        assert f"{setting.name} = " in result.stdout
        assert setting.sentence in result.stdout
    assert "PORT = 8123" in result.stdout
    for secret in ("one-secret", "another-secret", "the-admin-token", "the-password"):
        assert secret not in result.stdout


def test_a_database_that_is_not_migrated_is_named_with_the_way_out(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_ = desk(database_url, tmp_path, monkeypatch)
    for words in (("log",), ("show", "x"), ("ledger",), ("refused",), ("retention", "--days", "1")):
        result = type_(*words)
        assert result.exit_code == 1
        assert result.stderr.startswith("error: ")
        assert "segment-lotus migrate" in result.stderr
    assert type_("migrate").stdout.startswith("The database is at revision")
    assert type_("migrate").exit_code == 0
    assert type_("log").exit_code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("log --since yesterday", "since must be a time"),
        ("log --reason no_transform --outcome stored", "reason no_transform belongs to the outcome ignored"),
        ("ledger --until x", "until must be a time"),
    ],
)
def test_a_wrong_option_is_an_error_in_one_sentence(database: Database, type_: Type, words: str, said: str) -> None:
    result = type_(*words.split())
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {said}")
    assert result.stderr.count("\n") == 1


def test_a_wrong_setting_is_an_error_and_never_shown(type_: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://secret")
    result = type_("log")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: DATABASE_URL must start with")
    assert "secret" not in result.stderr


def test_init_writes_an_env_once(type_: Type, tmp_path: Path) -> None:
    assert type_("init").stdout.startswith(f"Wrote {tmp_path / '.env'}")
    written = (tmp_path / ".env").read_text()
    assert "nothing was changed" in type_("init").stdout
    assert (tmp_path / ".env").read_text() == written
    values = [value for line in written.splitlines() if (value := line.partition("=")[2])]
    assert len(values) >= 3
    assert not any(value in type_("init").output for value in values)


def test_following_shows_each_call_once_also_one_that_was_committed_late(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review, "_POLL_SECONDS", 0)
    late = a_record(an_event(idempotency_id="late"), message_id="late")
    early = a_record(an_event(idempotency_id="early"), message_id="early")
    store(empty, early)
    reading = Backend(database=empty, catalog=Catalog(TransformSet(())))
    following = review._follow(reading, CallFilters(outcomes=(Outcome.STORED, Outcome.DUPLICATE)), 2)
    assert [call.message_id for call in next(following)][-1] == "early"
    assert late.id < early.id
    store(empty, late)
    assert [call.message_id for call in next(following)] == ["late"]
    store(empty, a_record(an_event(idempotency_id="late"), message_id="late"))
    newest = a_record(an_event(idempotency_id="newest"), message_id="newest")
    store(empty, newest)
    assert [(call.message_id, call.outcome) for call in next(following)] == [
        ("late", "duplicate"),
        ("newest", "stored"),
    ]


def test_following_does_not_show_again_what_lies_before_its_beginning(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review, "_POLL_SECONDS", 0)
    monkeypatch.setattr(review, "_PAGE_IDS", 2)
    records = [a_record(an_event(idempotency_id=f"{at}"), message_id=f"{at}") for at in range(7)]
    store(empty, *records)
    following = review._follow(Backend(database=empty, catalog=Catalog(TransformSet(()))), CallFilters(), 1)
    assert [call.message_id for call in next(following)] == ["6"]
    store(empty, a_record(an_event(idempotency_id="7"), message_id="7"))
    assert [call.message_id for call in next(following)] == ["7"]


def test_the_doctor_says_how_long_a_vanished_node_holds_its_locks_where_there_can_be_one(
    empty: Database, type_: Type
) -> None:
    lines = [line for line in type_("doctor").stdout.splitlines() if " locks " in line]
    assert [line.startswith("ok  locks") and "about 9 s" in line for line in lines] == [True] * (empty.file is None)
