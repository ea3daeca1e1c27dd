"""`replay`, `preview` and the history in `show`, as they are typed; and what kill -9 leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app.cli.program import between_steps
from app.forward.sql_deliveries import count_waiting, request_later
from app.service import commands
from app.settings import SETTINGS
from app.store import ledger
from app.store.engine import Database
from app.store.schema import calls, corrections, events, replays, versions
from tests.builders import (
    NOW,
    a_document,
    an_ingest,
    balance,
    post,
    published,
    rows_of,
    some_ids,
    some_transforms,
    to_raw,
)
from tests.corrections.correcting import deliver
from tests.replay.replaying import RIGHT, WRONG, an_order, made, outcomes, take

Type = Callable[..., Result]

wrong = some_transforms(order=WRONG)
right = some_transforms(order=RIGHT)


@pytest.fixture
def type_(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Type:
    """Type a command against the test's database."""
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.setenv("DATABASE_URL", migrated_url)
    monkeypatch.chdir(tmp_path)
    return lambda *words, **more: CliRunner().invoke(commands.main, words, **more)


def test_it_counts_asks_and_replays(database: Database, type_: Type) -> None:
    take(database, wrong, an_order(1), an_order(2))
    take(database, right)
    said = type_("replay", input="n\n")
    assert (said.exit_code, outcomes(database)) == (1, ["rejected", "rejected"])
    assert "2 calls to replay" in said.stderr
    said = type_("replay", input="y\n")
    assert said.exit_code == 0
    assert "2  rejected > stored" in said.stdout
    assert balance(database) == {("stored", ""): 2}


def test_without_a_terminal_and_without_yes_nothing_is_done(database: Database, type_: Type) -> None:
    take(database, wrong, an_order(1))
    take(database, right)
    assert type_("replay").exit_code == 1
    assert rows_of(database, replays) == []
    assert type_("replay", "--yes").exit_code == 0
    assert outcomes(database) == ["stored"]


def test_a_dry_run_only_counts(database: Database, type_: Type) -> None:
    take(database, wrong, an_order(1))
    take(database, right)
    said = type_("replay", "--dry-run", "--json")
    assert json.loads(said.stdout)["changed"] == {"rejected > stored": 1}
    assert outcomes(database) == ["rejected"]


def test_json_lists_the_events_that_were_made_void(database: Database, type_: Type) -> None:
    take(database, right, an_order(1), an_order(2))
    take(database, some_transforms(order=RIGHT + "event: {event_name: {const: sale}}\n"))
    said = type_("replay", "--correct", "--yes", "--json")
    summary = json.loads(said.stdout)
    assert (summary["finished"], summary["corrected"]) == (True, 2)
    assert summary["voided"] == ["order-1", "order-2"]
    ledger = type_("ledger")
    assert (ledger.exit_code, "made void since" in ledger.stdout) == (0, True)
    assert json.loads(type_("ledger", "--json").stdout)["events"]["voided"] == 2


def test_the_text_lists_the_first_events_that_were_made_void(database: Database, type_: Type) -> None:
    take(database, right, *map(an_order, range(22)))
    take(database, some_transforms(order=RIGHT + "event: {event_name: {const: sale}}\n"))
    said = type_("replay", "--correct", "--yes", "--outcome", "stored").stdout
    assert "22 events made void; Lotus has none of them:" in said
    assert "\n  order-0\n" in said
    assert "and 2 more" in said


def test_a_correction_says_what_it_does_before_it_asks(database: Database, type_: Type) -> None:
    take(database, right, an_order(1), an_order(2))
    take(database, some_transforms(order=RIGHT + "event: {event_name: {const: sale}}\n"))
    said = type_("replay", "--correct", input="n\n")
    assert said.exit_code == 1
    assert "2  would be corrected\n2 events would be made void; Lotus has none of them." in said.stderr
    assert made(database)[0][0] == "order-1"
    assert type_("replay", "--correct", input="y\n").exit_code == 0
    assert made(database)[0][0] == "order-1~2"


def test_a_correction_is_a_batch_that_says_who_and_why_and_is_undone_by_its_id(database: Database, type_: Type) -> None:
    take(database, right, an_order(1))
    take(database, some_transforms(order=RIGHT + "event: {event_name: {const: sale}}\n"))
    by_ann = ["--author", "ann", "--why", "sales, not orders", "--name", "sales", "--lotus", "send"]
    said = type_("replay", "--correct", *by_ann, "--yes", "--json")
    assert said.exit_code == 0, said.output
    summary = json.loads(said.stdout)
    assert summary["correction"]["events"] == 1
    batch = json.loads(type_("corrections", "show", summary["replay"], "--json").stdout)
    assert (batch["kind"], batch["author"], batch["reason"]) == ("replay", "ann", "sales, not orders")
    assert batch["selection"] == {"replay": {"correct": "yes"}}
    listed = type_("replays").stdout
    assert "1 corrected, 1 void, correction finished" in listed
    assert json.loads(type_("replays", "--json").stdout)["replays"][0]["correction"] == summary["replay"]
    assert type_("corrections", "undo", summary["replay"], "--reason", "orders", "--yes").exit_code == 0
    assert made(database)[0][0] == "order-1"
    assert "correction undone" in type_("replays").stdout
    said = type_("replay", "--why", "nothing", "--yes")
    assert (said.exit_code, "only a correction has it" in said.output) == (1, True)


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ([], "1 of these was delivered; Lotus still counts it, and what replaces it is held back"),
        (["--lotus", "send"], "1 of these was delivered; Lotus will count both"),
    ],
)
def test_the_question_says_what_lotus_has(database: Database, type_: Type, choice: list[str], sentence: str) -> None:
    take(database, right, an_order(1), an_order(2))
    with database.writing() as conn:
        count, _ = request_later(conn, 0, 1 << 62, NOW)
        ledger.append(conn, 1, NOW, count_waiting(count))
    deliver(database, "order-1")
    take(database, some_transforms(order=RIGHT + "event: {event_name: {const: sale}}\n"))
    said = type_("replay", "--correct", *choice, input="n\n")
    assert f"2 events would be made void; {sentence}" in said.stderr


@pytest.mark.parametrize("yes", [[], ["--yes"]])
def test_a_difference_that_no_metric_allows_is_refused_before_anything_is_written(
    database: Database, type_: Type, yes: list[str]
) -> None:
    take(database, right, an_order(1), an_order(2))
    with database.writing() as conn:
        count, _ = request_later(conn, 0, 1 << 62, NOW)
        ledger.append(conn, 1, NOW, count_waiting(count))
    deliver(database, "order-1")
    take(database, some_transforms(order=RIGHT + "event: {event_name: {const: sale}}\n"))
    before = rows_of(database, events), rows_of(database, corrections)
    refused = type_("replay", "--correct", "--lotus", "difference", *yes)
    assert refused.exit_code == 1
    assert "no difference corrects the event 'order-1'" in refused.stderr
    assert "choose hold" in refused.stderr
    assert rows_of(database, events) == before[0]
    assert {state for (state,) in rows_of(database, corrections, corrections.c.state)} <= {"running"}


def test_another_pseudonym_key_is_refused_until_it_is_accepted(
    database: Database, type_: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another key a correction made every event anew."""
    hashed = RIGHT + "event: {properties: {who: sha256(userId)}}\n"
    take(database, right, an_order(1))
    take(database, some_transforms(order=hashed))
    monkeypatch.setenv("PSEUDONYM_KEY", "the first key of this database")
    assert type_("replay", "--correct", "--yes").exit_code == 0
    [first] = made(database)
    monkeypatch.setenv("PSEUDONYM_KEY", "another key")
    for words in (["replay", "--correct", "--yes"], ["replay", "--dry-run"]):
        said = type_(*words)
        assert (said.exit_code, "is not the one that made the pseudonyms in this database" in said.stderr) == (1, True)
    assert made(database) == [first]
    monkeypatch.delenv("PSEUDONYM_KEY")
    assert "left: cannot be corrected" in type_("replay", "--correct", "--yes").stdout
    assert made(database) == [first]
    monkeypatch.setenv("PSEUDONYM_KEY", "another key")
    assert "This database now uses the current PSEUDONYM_KEY" in type_("migrate", "--new-pseudonym-key").stdout
    assert type_("replay", "--correct", "--yes").exit_code == 0
    assert made(database)[0][0] == "order-1~3"


@pytest.mark.parametrize(
    "words", [["replay", "--dry-run"], ["replay", "--yes"], ["preview", "order.yaml"], ["try", "order-1"]]
)
def test_after_an_upgrade_of_the_engine_commands_that_only_read_keep_the_new_versions_too(
    database: Database, type_: Type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str]
) -> None:
    """It makes new versions of what is live; on PostgreSQL they were written in a transaction that only reads."""
    take(database, right, an_order(1))
    (tmp_path / "order.yaml").write_text(RIGHT)
    monkeypatch.setattr("app.core.transform.transform.ENGINE", 99)
    said = type_(*words)
    assert said.exit_code == 0, said.output
    assert len(rows_of(database, versions)) == 4


def test_show_tells_when_and_by_which_version_an_outcome_changed(database: Database, type_: Type) -> None:
    take(database, wrong, an_order(1))
    take(database, right)
    type_("replay", "--yes")
    digest = next(one.digest.hex() for one in right.transforms if one.name == "order")
    said = type_("show", "order-1").stdout
    assert "history" in said
    assert f"became stored, by version {digest[:12]}" in said
    [change] = json.loads(type_("show", "order-1", "--json").stdout)["history"]
    assert (change["before"], change["before_reason"], change["now"], change["now_digest"]) == (
        "rejected",
        "event_invalid",
        "stored",
        digest,
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--outcome", "stored"], "give --correct"),
        (["--outcome", "rejected,nothing"], "outcome must be one of rejected, ignored, conflict"),
        (["--transform", "order"], "no lane of its own"),
        (["--transform", "order", "--correct"], "give one of them"),
        (["--since", "soon"], "since must be a time"),
        (["--id", "x"], "there is no call, message or event with the id 'x'"),
        (["--id", "4711"], "there is no call, message or event with the id '4711'"),
        (["--id", ""], "id is empty"),
    ],
)
def test_what_cannot_be_replayed_is_an_error(database: Database, type_: Type, words: list[str], sentence: str) -> None:
    take(database, right)
    said = type_("replay", "--yes", *words)
    assert said.exit_code == 1
    assert sentence in said.stderr


def test_json_does_not_ask(type_: Type) -> None:
    assert type_("replay", "--json").exit_code == 2


def test_where_nothing_is_live_nothing_can_be_replayed(database: Database, type_: Type) -> None:
    assert "no transform is live" in type_("replay", "--yes").stderr


def test_since_until_and_id_choose_calls(database: Database, type_: Type) -> None:
    take(database, wrong, an_order(1), an_order(2))
    take(database, right)
    [(first,), _] = rows_of(database, calls, calls.c.id)
    for words in (["--since", "2090-01-01T00:00:00Z"], ["--until", "2026-01-01T00:00:00Z"]):
        assert "0 calls to replay" in type_("replay", "--yes", *words).stderr
    assert outcomes(database) == ["rejected", "rejected"]
    type_("replay", "--yes", "--id", str(first))
    assert outcomes(database) == ["stored", "rejected"]


def test_an_id_may_be_that_of_a_message_or_of_an_event(database: Database, type_: Type) -> None:
    take(database, wrong, an_order(1), an_order(2), an_order(2), an_order(3, messageId="3"))
    take(database, right)
    type_("replay", "--yes", "--id", "order-2")
    assert outcomes(database) == ["rejected", "stored", "duplicate", "rejected"]
    type_("replay", "--yes", "--id", "3")
    assert outcomes(database) == ["rejected", "stored", "duplicate", "stored"]
    # By its idempotency id, which here is that of the message.
    take(database, some_transforms(order=RIGHT + "event: {idempotency_id: \"concat('o:', properties.total)\"}\n"))
    said = type_("replay", "--correct", "--yes", "--id", "order-2")
    assert "1  corrected" in said.stdout
    assert "2 calls looked at" in type_("replay", "--correct", "--dry-run", "--id", "order-2").stdout
    assert "1 call looked at" in type_("replay", "--correct", "--dry-run", "--id", "o:2").stdout


def test_preview_tells_the_difference(database: Database, type_: Type, tmp_path: Path) -> None:
    take(database, some_transforms(order=WRONG), an_order(1), an_order(2, properties={"account": "a"}))
    file = tmp_path / "order.yaml"
    file.write_text(RIGHT + 'when: "!(properties.skip)"\n', encoding="utf-8")
    said = type_("preview", str(file))
    assert said.exit_code == 0
    assert "newly mapped                1" in said.stdout
    assert '           - "a"\n           + "customer-1"\n' in said.stdout
    report = json.loads(type_("preview", str(file), "--json", "--last", "1").stdout)
    assert (report["calls"], report["changed"], report["changes"][0]["kind"]) == (1, 1, "customer_id")
    assert json.loads(type_("preview", str(file), "--json", "--outcome", "rejected").stdout)["calls"] == 1
    assert json.loads(type_("preview", str(file), "--json", "--event", "Other").stdout)["calls"] == 0
    assert outcomes(database) == ["rejected", "stored"]


def test_a_draft_that_cannot_be_read_is_told_with_its_place(database: Database, type_: Type, tmp_path: Path) -> None:
    take(database, right)
    file = tmp_path / "order.yaml"
    file.write_text("match: {evnt: Order}\n", encoding="utf-8")
    said = type_("preview", str(file))
    assert said.exit_code == 1
    assert "order.yaml:1:9: match.evnt: there is no such key; did you mean event?" in said.stderr


def started(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "app.service", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)},
    )


def test_ctrl_c_stops_between_two_batches_and_a_second_one_at_once() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), between_steps() as stop_here:  # noqa: PT012
        stop_here()
        os.kill(os.getpid(), signal.SIGINT)
        done.append("the batch")
        stop_here()
    assert done == ["the batch"]
    with pytest.raises(KeyboardInterrupt), between_steps():  # noqa: PT012
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_what_was_killed_or_stopped_half_way_goes_on_and_counts_nothing_twice(
    database: Database, type_: Type, how: signal.Signals
) -> None:
    """Calls keep coming in meanwhile, as they would."""
    many = 20_000
    ingest = an_ingest(database, wrong)
    for start in range(0, many, 2000):
        body = to_raw([an_order(number) for number in range(start, start + 2000)])
        post(ingest, body, to_raw(an_order(start)))
    published(database, right, some_ids(12))
    late = an_ingest(database, right, some_ids(13))
    process = started("replay", "--yes")
    # Whoever posts may wait for a whole batch to be written, and would look for the first one too late.
    with ThreadPoolExecutor(1) as sender:
        posts: list[Future[Any]] = []
        while process.poll() is None:
            if not posts or posts[-1].done():
                posts.append(sender.submit(post, late, to_raw(a_document(messageId=f"late-{len(posts)}"))))
            if sum(
                json.loads(counts).get("read", 0)
                for _, counts in rows_of(database, replays, replays.c.id, replays.c.counts)
            ):
                process.send_signal(how)
                break
            time.sleep(0.005)
    for sent in posts:
        sent.result()
    came = len(posts)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == (-signal.SIGKILL if how is signal.SIGKILL else 130), errors
    half = balance(database)
    assert 0 < half["rejected", "event_invalid"] < many
    said = type_("replay", "--yes", "--json")
    assert said.exit_code == 0
    assert "Resuming a replay that was stopped after" in said.stderr
    summary = json.loads(said.stdout)
    assert (summary["resumed"], summary["finished"], summary["calls"]) == (True, True, many)
    assert summary["changed"] == {"rejected > stored": many}
    assert balance(database) == {("stored", ""): many + came}
    assert len({key for key, _, _ in made(database)}) == many + came


def test_one_reason_one_transform_and_one_version_narrow_it(database: Database, type_: Type) -> None:
    take(database, wrong, an_order(1), an_order(2), {"type": "identify", "messageId": "i-1", "userId": "ann"})
    published(database, right, some_ids(12))
    version = next(one.digest for one in wrong.transforms if one.name == "order").hex()
    for words, calls_ in (
        (("--reason", "event_invalid"), 2),
        (("--reason", "no_transform"), 1),
        (("--by", "order"), 2),
        (("--by", "other"), 0),
        (("--version", version), 2),
        (("--version", version[::-1]), 0),
        (("--reason", "event_invalid", "--by", "order", "--version", version), 2),
    ):
        assert json.loads(type_("replay", "--dry-run", "--json", *words).stdout)["calls"] == calls_, words
    for words, said in (
        (("--reason", "bad"), "reason must be one of"),
        (("--outcome", "stored"), "outcome must be one of"),
        (("--version", "abcd"), "32 hexadecimal digits"),
    ):
        assert said in type_("replay", "--dry-run", *words).stderr
