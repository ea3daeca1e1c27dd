"""Replaying one problem: exactly the calls that go wrong in one way, and no others. On both databases."""

from typing import Any

import pytest

from app.calls.problems import ProblemGroup, find_problems
from app.core.outcome import Outcome
from app.replay import reader as reading
from app.replay.parameters import parse_replay_request
from app.store.engine import Database
from app.store.schema import calls
from tests.builders import DEFAULT_TEXT, a_document, rows_of, some_transforms
from tests.replay.replaying import RIGHT, WRONG, a_replayer, an_order, outcomes, take

NAMELESS = "match: {event: Order}\nevent: {customer_id: properties.account, properties: '{n: properties.total}'}\n"

wrong = some_transforms(order=NAMELESS)
right = some_transforms(order=RIGHT)


@pytest.fixture
def broken(database: Database) -> Database:
    """Orders that one version rejects in three ways, in turn; and one that another version rejects as the first."""
    for number in range(0, 12, 3):
        take(database, wrong, an_order(number))
        take(database, wrong, an_order(number + 1, properties={"total": 1, "account": "x" * (60 + number)}))
        take(database, wrong, an_order(number + 2, properties={"total": 1, "account": "a"}, messageId=""))
    take(database, some_transforms(order=WRONG), an_order(99))
    return database


def groups(database: Database) -> list[ProblemGroup]:
    return find_problems(database, None).groups


def run(database: Database, words: dict[str, str], *, dry: bool = False, steps: int | None = None) -> Any:
    """Replay by these words; `steps`: stop after so many batches."""
    replayer = a_replayer(database)
    plan = replayer.plan(parse_replay_request(words), (None, None))
    taken = 0

    def advance(_calls: int) -> None:
        nonlocal taken
        taken += 1
        if taken == steps:
            raise KeyboardInterrupt

    (replayer.dry_run if dry else replayer.run)(plan, advance)
    return plan


def test_a_group_is_replayed_exactly_though_others_share_its_reason_transform_and_version(broken: Database) -> None:
    told = groups(broken)
    assert [group.count for group in told] == [4, 4, 4, 1]
    [long] = [group for group in told if "characters" in group.sentence]
    alike = [group for group in told if (group.reason, group.version) == (long.reason, long.version)]
    assert len(alike) == 3, "reason, transform and version do not tell them apart"
    take(broken, right)
    plan = run(broken, long.words)
    assert (plan.replay.total, plan.tally.read, plan.tally.changed) == (4, 4, {"rejected > stored": 4})
    assert [at for at, outcome in enumerate(outcomes(broken)) if outcome == "stored"] == [1, 4, 7, 10]


def test_the_key_alone_means_the_same_calls(broken: Database) -> None:
    for group in groups(broken):
        for words in (group.words, {"problem": group.key}):
            plan = run(broken, words, dry=True)
            assert (plan.replay.total, plan.tally.read) == (group.count, group.count)
    assert set(outcomes(broken)) == {"rejected"}


def test_it_goes_on_where_it_was_stopped(broken: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BATCH", "BATCH_IN_FILE"):
        monkeypatch.setattr(reading, name, 2)
    [group] = [one for one in groups(broken) if "characters" in one.sentence]
    take(broken, right)
    with pytest.raises(KeyboardInterrupt):
        run(broken, group.words, steps=1)
    assert outcomes(broken).count("stored") == 2
    plan = run(broken, group.words)
    assert (plan.resumed, plan.tally.read) == (True, 4)
    assert outcomes(broken).count("stored") == 4


def test_conflicts_are_one_problem_whatever_their_sentences_name(database: Database) -> None:
    for number in range(3):
        take(database, right, an_order(number), an_order(number, properties={"total": 100 + number}))
    [group] = groups(database)
    plan = run(database, group.words, dry=True)
    assert (group.outcome, plan.replay.total, plan.tally.read) == (Outcome.CONFLICT, 3, 3)


def test_calls_that_no_transform_takes_are_replayed_by_type_and_event(database: Database) -> None:
    take(
        database,
        some_transforms(DEFAULT_TEXT.replace("type: track", "event: Nothing")),
        {"type": "identify", "messageId": "i-1", "userId": "u"},
        {"type": "page", "messageId": "p-1", "userId": "u"},
        a_document(messageId="t-1", event="E"),
        a_document(messageId="t-2", event="F"),
    )
    unmapped = find_problems(database, None).unmapped
    assert sorted((one.type, one.event) for one in unmapped if one.event) == [("track", "E"), ("track", "F")]
    assert len(unmapped) == 4
    for one in unmapped:
        plan = run(database, one.words, dry=True)
        assert (plan.replay.total, plan.tally.read) == (1, 1), one


def test_a_replay_that_changes_how_a_call_fails_moves_it_to_the_other_problem(broken: Database) -> None:
    [nameless] = [group for group in groups(broken) if "account" in group.sentence and group.count == 4]
    # Another version, by which the same calls are too long for another field.
    take(
        broken,
        some_transforms(order="match: {event: Order}\nevent: {customer_id: userId, idempotency_id: not_there}\n"),
    )
    run(broken, nameless.words)
    moved = groups(broken)
    assert nameless.key not in {group.key for group in moved}
    assert sum(group.count for group in moved) == 13
    [new] = [group for group in moved if group.path == "idempotency_id" and "not_there" in group.sentence]
    assert (new.count, new.is_live) == (4, True)


def test_a_call_that_makes_its_event_belongs_to_no_problem(broken: Database) -> None:
    take(broken, right)
    for group in groups(broken):
        run(broken, {"problem": group.key})
    # An empty id is no id by the right version, too, and what ends as before is not written again.
    assert [(group.path, group.count, group.is_live) for group in groups(broken)] == [("idempotency_id", 4, False)]
    outcome, fault = calls.c.outcome, calls.c.fault
    assert {(row[0], row[1] is None) for row in rows_of(broken, calls, outcome, fault)} == {
        ("stored", True),
        ("rejected", False),
    }
