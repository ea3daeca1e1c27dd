"""A dry run gives the very numbers of the run, however many batches either takes. On both databases."""

import random
from typing import Any

import pytest

from app.core.outcome import Outcome
from app.replay import reader as reading
from app.store.engine import Database
from app.store.schema import replays
from tests.builders import balance, empty, rows_of, some_transforms
from tests.replay.replaying import RIGHT, UNMADE, WRONG, an_order, replay, take

wrong = some_transforms(order=WRONG)
right = some_transforms(order=RIGHT)

_SAME_ID = RIGHT + "event: {idempotency_id: properties.key || messageId}\n"
_EACH = "match: {event: Order}\neach: properties.items\nevent: {idempotency_id: %s, properties: {n: item.%s}}\n"


def batches_of(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BATCH", "BATCH_IN_FILE"):
        monkeypatch.setattr(reading, name, count)


def keyed(number: int, key: str, total: int = 1) -> dict[str, Any]:
    return an_order(number, properties={"key": key, "total": total})


def items(number: int, *ids: str, n: int = 1, message: int | None = None) -> dict[str, Any]:
    listed = [{"id": id_, "n": n, "m": n + 1} for id_ in ids]
    return an_order(number, messageId=f"order-{number if message is None else message}", properties={"items": listed})


@pytest.mark.parametrize(
    ("calls", "changed"),
    [
        pytest.param(
            [keyed(1, "a"), keyed(2, "a"), keyed(3, "a")],
            {"rejected > stored": 1, "rejected > duplicate": 2},
            id="one idempotency id, equal content",
        ),
        pytest.param(
            [keyed(1, "a"), keyed(2, "a", 7)],
            {"rejected > stored": 1, "rejected > conflict": 1},
            id="one idempotency id, other content",
        ),
        pytest.param(
            [an_order(1), an_order(1), an_order(1, properties={"total": 9})],
            {"rejected > stored": 1, "rejected > duplicate": 1, "rejected > conflict": 1},
            id="one message",
        ),
        pytest.param(
            [keyed(1, "a"), an_order(2, messageId="order-1", properties={"key": "b"}), keyed(3, "b")],
            {"rejected > stored": 2, "rejected > conflict": 1},
            id="a message that is taken does not take its idempotency id",
        ),
    ],
)
def test_calls_of_one_key_in_different_batches(
    database: Database, monkeypatch: pytest.MonkeyPatch, calls: list[dict[str, Any]], changed: dict[str, int]
) -> None:
    batches_of(1, monkeypatch)
    take(database, wrong, *calls)
    tried = replay(database, some_transforms(order=_SAME_ID), dry=True)
    assert rows_of(database, replays) == []
    done = replay(database)
    assert done.tally.changed == changed
    assert tried.tally == done.tally
    balance(database)


def test_an_id_that_a_correction_frees_or_takes_in_an_earlier_batch(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches_of(1, monkeypatch)
    moved = _EACH % ("\"item.id == 'd' && messageId || item.id\"", "m")
    calls = [items(1, "a", "b"), items(2, "b", "c"), items(3, "d"), items(4, "d"), items(3, "d"), an_order(5)]
    # Another call takes what the correction would call its event; and one the id that becomes free.
    calls += [items(6, "a~2"), items(7, "e", "order-3")]
    take(database, some_transforms(order=_EACH % ("item.id", "n")), *calls)
    tried = replay(database, some_transforms(order=moved), outcomes=tuple(Outcome), correct=True, dry=True)
    done = replay(database, outcomes=tuple(Outcome), correct=True)
    assert done.tally.corrected > 0
    assert tried.tally == done.tally
    balance(database)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_came_and_whatever_is_live(database: Database, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Messages sent again, ids that calls share, retries with other content, two corrections one after the other."""
    drawn = random.Random(seed)  # noqa: S311  not for secrets
    ids = ["a", "b", "c", "a~2", "order-1", "order-2", "order-2~2"]
    for _ in range(2):
        empty(database)
        batches_of(drawn.choice((1, 2, 3)), monkeypatch)
        texts = [
            _EACH % (name, value)
            for name in ("item.id", "\"join('~', [messageId, item.id])\"", "\"item.id == 'a' && messageId || item.id\"")
            for value in ("n", "m")
        ]
        for text in [*drawn.sample(texts, 2), WRONG]:
            calls = [
                items(number, *drawn.sample(ids, 2), n=drawn.randint(1, 2), message=drawn.randint(1, 4))
                for number in range(4)
            ]
            take(database, some_transforms(order=text), *calls)
        for text in drawn.sample(texts, 2):
            for asked in ({"outcomes": UNMADE}, {"outcomes": tuple(Outcome), "correct": True}):
                fixed = some_transforms(order=text)
                tried = replay(database, fixed, dry=True, **asked)
                done = replay(database, **asked)
                assert tried.tally == done.tally
        balance(database)
