"""A replay that corrects is a batch of corrections, and is undone as a whole. On both databases."""

import itertools
import random
from typing import Any

import msgspec
import pytest

from app.core.outcome import Outcome
from app.errors import EditConflict, Unavailable
from app.forward.sql_deliveries import count_waiting, request_later
from app.replay.decide import VOIDED
from app.replay.plan import ReplayRequest
from app.store import ledger
from app.store.corrections import Attribution, LotusChoice, get_correction
from app.store.engine import Database
from app.store.schema import calls, corrected_events, corrections, events
from app.store.tally import CorrectionTally
from tests.builders import balance, rows_of, some_transforms
from tests.corrections.correcting import METRICS, a_corrector, check, counted, states, undo
from tests.metrics.conftest import publish
from tests.replay.replaying import RIGHT, WRONG, a_replayer, an_order, events_of, made, outcomes, replay, take
from tests.replay.test_dry_run import batches_of, items

ALL = tuple(Outcome)
BY_N = "match: {event: Order}\neach: properties.items\nevent: {idempotency_id: item.id, properties: {n: item.n}}\n"
BY_M = BY_N.replace("{n: item.n}", "{n: item.m}")
MOVED = BY_M.replace("item.id", "\"join('-', [messageId, item.id])\"")
TOTAL = RIGHT + "event: {event_name: {const: api_call}, properties: {tokens: properties.%s}}\n"


def correct(database: Database, **texts: str) -> int:
    """Publish transforms, correct by them, and return the id of the replay and of its batch."""
    return replay(database, some_transforms(**texts), outcomes=ALL, correct=True).replay.id


def undone(database: Database, correction_id: int) -> CorrectionTally:
    with database.reading() as conn:
        return undo(database, get_correction(conn, correction_id))


def tally_of(database: Database, correction_id: int) -> CorrectionTally:
    with database.reading() as conn:
        return msgspec.json.decode(get_correction(conn, correction_id).counts, type=CorrectionTally)


def priced(number: int, **properties: int) -> dict[str, Any]:
    return an_order(number, properties={"total": number, "cents": 100 * number, **properties})


def test_a_correction_is_a_batch_with_its_author_its_events_and_its_effect(database: Database) -> None:
    publish(database, *METRICS)
    take(database, some_transforms(order=TOTAL % "total"), priced(1), priced(2))
    take(database, some_transforms(order=WRONG), priced(3))
    fixed = some_transforms(order=TOTAL % "cents")
    replay(database, fixed, outcomes=ALL, correct=True, dry=True)
    replayer = a_replayer(database)
    request = ReplayRequest(outcomes=ALL, correct=True)
    by_ann = Attribution(author="ann", reason="cents, not dollars", name="October", lotus=LotusChoice.SEND)
    plan = replayer.plan(request, (None, None), by_ann)
    replayer.run(plan, lambda _count: None)
    with database.reading() as conn:
        batch = get_correction(conn, plan.replay.id)
    assert (batch.kind, batch.author, batch.reason, batch.name) == ("replay", "ann", "cents, not dollars", "October")
    assert (batch.state, batch.lotus, batch.finished_at is not None) == ("finished", "send", True)
    tally = tally_of(database, batch.id)
    assert (tally.events, tally.added, tally.delivered) == (2, 1, 0)
    # Two events lose 1 + 2 tokens; three have 100 + 200 + 300 now.
    changes = {effect.metric: effect.change for effect in tally.effects}
    assert (changes["tokens"], changes["api_calls"]) == ("597", "1")
    ids = dict(rows_of(database, events, events.c.idempotency_id, events.c.id))
    rows = rows_of(
        database,
        corrected_events,
        corrected_events.c.event_id,
        corrected_events.c.state,
        corrected_events.c.replacement_id,
    )
    assert sorted(rows) == [
        (ids["order-1"], "voided", ids["order-1~2"]),
        (ids["order-2"], "voided", ids["order-2~2"]),
        (ids["order-3"], "added", None),
    ]
    check(database)


def test_the_dry_run_has_the_very_numbers_of_the_batch(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(database, *METRICS)
    batches_of(1, monkeypatch)
    take(database, some_transforms(order=TOTAL % "total"), priced(1), priced(2), priced(1, total=9))
    tried = replay(database, some_transforms(order=TOTAL % "cents"), outcomes=ALL, correct=True, dry=True)
    assert rows_of(database, corrections) == rows_of(database, corrected_events) == []
    done = replay(database, outcomes=ALL, correct=True)
    assert tried.correction is not None
    assert done.correction is not None
    assert tried.correction.counts == done.correction.counts


def test_an_undo_makes_the_originals_count_again_and_what_had_replaced_them_void(database: Database) -> None:
    first = some_transforms(order=TOTAL % "total")
    take(database, first, priced(1), priced(2))
    before = made(database)
    told = rows_of(database, calls, calls.c.transform, calls.c.transform_digest, calls.c.customer_id, calls.c.results)
    batch = correct(database, order=TOTAL % "cents")
    assert counted(database) == ["order-1~2", "order-2~2"]
    tally = undone(database, batch)
    assert (tally.revived, tally.left) == (2, 0)
    assert made(database) == before
    # The calls stay stored, and tell by which version their counting events were made.
    assert outcomes(database) == ["stored", "stored"]
    columns = (calls.c.transform, calls.c.transform_digest, calls.c.customer_id, calls.c.results)
    assert rows_of(database, calls, *columns) == told
    old, new = sorted(events_of(database, "order-1"), key=lambda event: event.revision or 1)
    assert (old.voided_at, old.voided_by, old.void_reason) == (None, None, None)
    assert (new.is_void_by_person, new.void_reason) == (True, "they were not")
    check(database)
    balance(database)
    with pytest.raises(EditConflict, match="undone already"):
        undone(database, batch)


@pytest.mark.parametrize("live", ["total", "cents"])
def test_a_retry_after_the_undo_is_a_duplicate(database: Database, live: str) -> None:
    """Of the message, and of its idempotency id; by the version before the correction, and by that after it."""
    keyed = TOTAL.replace("event: {", "event: {idempotency_id: properties.key || messageId, ")
    with_key = an_order(2, properties={"total": 2, "cents": 200, "key": "k-2"})
    take(database, some_transforms(order=keyed % "total"), priced(1), with_key)
    undone(database, correct(database, order=keyed % "cents"))
    retries = [priced(1), {**with_key, "messageId": "another"}]
    assert take(database, some_transforms(order=keyed % live), *retries) == ["duplicate", "duplicate"]
    check(database)


def test_a_later_correction_corrects_again_what_was_undone_and_leaves_what_was_taken_out(database: Database) -> None:
    take(database, some_transforms(order=TOTAL % "total"), priced(1))
    take(database, some_transforms(order=WRONG), priced(2))
    batch = correct(database, order=TOTAL % "cents")
    assert outcomes(database) == ["stored", "stored"]
    undone(database, batch)
    assert counted(database) == ["order-1"]
    plan = replay(database, outcomes=ALL, correct=True)
    assert plan.tally.left == {VOIDED: 1}
    assert counted(database) == ["order-1~3"]
    check(database)


def test_ids_that_a_correction_moved_are_given_back(database: Database) -> None:
    take(database, some_transforms(order=BY_N), items(1, "a"), items(2, "b", "a"), items(3, "c"))
    before = made(database)
    ids = sorted(id_ for (id_,) in rows_of(database, events, events.c.idempotency_id))
    batch = correct(database, order=MOVED)
    assert counted(database) == ["order-1-a", "order-2-a", "order-2-b", "order-3-c"]
    undone(database, batch)
    assert made(database) == before
    assert {row[0] for row in rows_of(database, events, events.c.idempotency_id)} >= set(ids)
    # By the version before, what was moved there and back is known: nobody is billed twice.
    retries = [items(4, "c"), items(5, "a")]
    assert take(database, some_transforms(order=BY_N), *retries) == ["duplicate", "duplicate"]
    check(database)


def test_an_id_that_another_event_of_the_batch_took_is_given_back_too(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call takes the id that the one before had: a chain that reaches over the steps of the undo."""
    monkeypatch.setattr("app.corrections.corrector.STEP_EVENTS", 2)
    numbers = range(1, 6)
    shift = "match: {event: Order}\nevent: {idempotency_id: properties.%s, properties: {n: properties.n}}\n"
    orders = [
        an_order(number, properties={"own": f"id-{number}", "other": f"id-{number - 1}", "n": number})
        for number in numbers
    ]
    take(database, some_transforms(order=shift % "own"), *orders)
    before = made(database)
    batch = correct(database, order=shift % "other")
    assert [(id_, properties["n"]) for id_, _, properties in made(database)] == [
        (f"id-{number - 1}", number) for number in numbers
    ]
    assert undone(database, batch).left == 0
    assert made(database) == before
    check(database)


def test_an_id_that_somebody_else_took_since_keeps_an_event_as_it_is(database: Database) -> None:
    take(database, some_transforms(order=BY_N), items(1, "a"), items(2, "b"))
    batch = correct(database, order=MOVED)
    assert take(database, some_transforms(order=BY_N), items(3, "a")) == ["stored"]
    tally = undone(database, batch)
    assert (tally.revived, tally.left) == (1, 1)
    assert counted(database) == ["a", "b", "order-1-a"]
    check(database)


def test_what_was_corrected_again_since_is_left(database: Database) -> None:
    take(database, some_transforms(order=TOTAL % "total"), priced(1))
    first = correct(database, order=TOTAL % "cents")
    second = correct(database, order=RIGHT)
    assert undone(database, first).left == 1
    assert made(database)[0][0] == "order-1~3"
    assert undone(database, second).revived == 1
    assert counted(database) == ["order-1~2"]
    check(database)


def test_the_outbox_follows_a_correction_and_its_undo(database: Database) -> None:
    take(database, some_transforms(order=TOTAL % "total"), priced(1), priced(2))
    with database.writing() as conn:
        count, _ = request_later(conn, 0, 1 << 62, 1)
        ledger.append(conn, 1, 1, count_waiting(count))
    batch = correct(database, order=TOTAL % "cents")
    old, new = ("order-1", "order-2"), ("order-1~2", "order-2~2")
    assert states(database) == {**dict.fromkeys(old, "voided"), **dict.fromkeys(new, "waiting")}
    assert tally_of(database, batch).withdrawn == 2
    assert undone(database, batch).queued == 2
    assert states(database) == {**dict.fromkeys(old, "waiting"), **dict.fromkeys(new, "voided")}
    check(database)


def test_a_running_correction_is_undone_as_far_as_it_came_and_its_replay_ends(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches_of(1, monkeypatch)
    take(database, some_transforms(order=TOTAL % "total"), *map(priced, range(1, 5)))
    before = made(database)
    take(database, some_transforms(order=TOTAL % "cents"))
    replayer = a_replayer(database)
    request = ReplayRequest(outcomes=ALL, correct=True)
    plan = replayer.plan(request, (None, None))
    steps = itertools.count()

    def advance(_count: int) -> None:
        if next(steps) == 1:
            undone(database, plan.replay.id)

    with pytest.raises(Unavailable, match="is being undone"):
        replayer.run(plan, advance)
    assert made(database) == before
    again = replayer.plan(request, (None, None))
    assert not again.resumed
    replayer.run(again, lambda _count: None)
    assert counted(database) == ["order-1~3", "order-2~3", "order-3~2", "order-4~2"]
    check(database)


def test_one_that_is_not_at_its_end_is_resumed_by_its_replay_only(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches_of(1, monkeypatch)
    take(database, some_transforms(order=TOTAL % "total"), priced(1), priced(2))
    take(database, some_transforms(order=TOTAL % "cents"))
    replayer = a_replayer(database)
    request = ReplayRequest(outcomes=ALL, correct=True)

    def stop(_count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replayer.run(replayer.plan(request, (None, None), Attribution(author="ann", reason="cents")), stop)
    [(batch,)] = rows_of(database, corrections, corrections.c.id)
    with database.reading() as conn:
        correction = get_correction(conn, batch)
    with pytest.raises(EditConflict, match="repeat the command"):
        a_corrector(database).run(correction)
    plan = replayer.plan(request, (None, None), Attribution(author="bob", reason="cents"))
    assert plan.resumed
    replayer.run(plan, lambda _count: None)
    assert counted(database) == ["order-1~2", "order-2~2"]
    with database.reading() as conn:
        assert (get_correction(conn, batch).author, get_correction(conn, batch).state) == ("ann", "finished")
    assert tally_of(database, batch).events == 2
    check(database)


@pytest.mark.parametrize("seed", range(3))
def test_corrections_one_after_the_other_are_undone_in_turn(
    database: Database, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Whatever came: after the undo of each, the last first, exactly what had counted counts again."""
    monkeypatch.setattr("app.corrections.corrector.STEP_EVENTS", 2)
    drawn = random.Random(seed)  # noqa: S311  not for secrets
    ids = ["a", "b", "c", "a~2", "order-1", "order-2"]
    texts = [BY_N, BY_M, MOVED, BY_M.replace("item.id", "\"item.id == 'a' && messageId || item.id\"")]
    for text in drawn.sample(texts, 2):
        calls_ = [
            items(number, *drawn.sample(ids, 2), n=drawn.randint(1, 2), message=drawn.randint(1, 5))
            for number in range(4)
        ]
        take(database, some_transforms(order=text), *calls_)
    history = [made(database)]
    batches = []
    for text in drawn.choices(texts, k=3):
        batches.append(correct(database, order=text))
        history.append(made(database))
    for batch in reversed(batches):
        history.pop()
        tally = undone(database, batch)
        assert tally.left == 0
        assert made(database) == history[-1]
        check(database)
        balance(database)
