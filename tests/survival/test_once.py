"""One message is stored once, however many processes and nodes get it at one moment."""

import contextlib
import random
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.served import Answer, served
from tests.survival.load import a_batch, a_call, at_once
from tests.survival.whole import find_broken, opened, stored_messages, writers

pytestmark = pytest.mark.survival


def _sum(answers: list[Answer | None]) -> Counter[str]:
    total: Counter[str] = Counter()
    for answer in answers:
        assert answer is not None
        assert answer.status == 200, answer
        total.update(answer.json)
    return total


def test_of_a_hundred_concurrent_requests_with_one_message_id_over_two_processes_one_is_stored(
    database_url: str, tmp_path: Path
) -> None:
    with served(database_url, tmp_path, WEB_CONCURRENCY="2") as service:
        rounds = 0
        # Which worker takes a connection is chance: go on until both have stored something.
        while rounds < 3 or (writers(database_url) < 2 and rounds < 20):
            body = a_call(f"the-same-{rounds}")
            total = _sum(at_once(100, lambda _, body=body: service.post(body)))  # type: ignore[misc]
            assert (total["received"], total["stored"], total["duplicate"]) == (100, 1, 99)
            rounds += 1
    assert writers(database_url) == 2
    assert stored_messages(database_url) == sorted(f"the-same-{number}" for number in range(rounds))
    assert find_broken(database_url) == []


def test_two_nodes_on_one_postgresql_store_overlapping_batches_in_any_order_once_and_without_a_deadlock(
    postgres_database_url: str, tmp_path: Path
) -> None:
    chance = random.Random(7)  # noqa: S311  the same order in each run
    known = [f"message-{number}" for number in range(600)]
    batches = [chance.sample(known, 200) for _ in range(48)]
    with contextlib.ExitStack() as stack:
        nodes = [
            stack.enter_context(served(postgres_database_url, tmp_path / name, WEB_CONCURRENCY="1"))
            for name in ("one", "two")
        ]
        total: Counter[str] = Counter()
        for start in range(0, len(batches), 12):
            part = batches[start : start + 12]
            total += _sum(at_once(12, lambda n, part=part: nodes[n % 2].post(*a_batch(part[n]))))  # type: ignore[misc]
    # Both services have ended: PostgreSQL writes a session's statistics down at its end.
    sent = {message_id for batch in batches for message_id in batch}
    assert total["received"] == 48 * 200
    assert total["stored"] == len(sent)
    assert total["duplicate"] == 48 * 200 - len(sent)
    assert stored_messages(postgres_database_url) == sorted(sent)
    assert writers(postgres_database_url) == 2
    assert find_broken(postgres_database_url) == []
    with opened(postgres_database_url) as database, database.reading() as conn:
        deadlocks = conn.scalar(sa.text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"))
    assert deadlocks == 0
