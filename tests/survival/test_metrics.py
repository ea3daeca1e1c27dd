"""kill -9 while calls come in and are added up: every number is still what raw events say."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.metrics.sql_buckets import BUILT
from app.store.schema import events, usage_folds, usage_metrics, usage_tail
from tests.served import ADMIN_TOKEN, Served, served, wait_until
from tests.survival.conftest import Play
from tests.survival.load import Load
from tests.survival.whole import find_broken, opened

pytestmark = pytest.mark.survival

METRICS = {
    "sent": "metric_type: counter\nevent_name: Load\nusage_aggregation_type: count\n",
    "tokens": "metric_type: counter\nevent_name: Load\nusage_aggregation_type: sum\nproperty_name: tokens\n",
    "last": "metric_type: counter\nevent_name: Load\nusage_aggregation_type: latest\nproperty_name: tokens\n",
}

PAUSE_SECONDS = 0.05
"""Of each sender: steps are waited for here, and need calls that come in, not all that the machine can take."""

COUNT = sa.select(sa.func.count()).select_from(events)


def look(url: str, query: sa.Select[Any]) -> int:
    with opened(url) as database, database.reading() as conn:
        return conn.execute(query).scalar() or 0


def steps(url: str) -> int:
    return look(url, sa.select(usage_folds.c.done))


def wait_to_see(url: str, query: sa.Select[Any], fits: Callable[[int], bool], seconds: float = 40) -> None:
    """Look again and again, with one connection pool."""
    with opened(url) as database:

        def is_seen() -> bool:
            with database.reading() as conn:
                return fits(conn.execute(query).scalar() or 0)

        wait_until(is_seen, seconds)


def wait_for_steps(url: str, beyond: int) -> None:
    wait_to_see(url, sa.select(usage_folds.c.done), lambda done: done > beyond)


def check(service: Served, url: str) -> None:
    expected = look(url, COUNT)
    for name, value in {"sent": expected, "tokens": 10 * expected, "last": 10}.items():
        answer = service.request(
            "GET",
            f"/api/v1/metrics/{name}/usage?start=2026-11-01&end=2026-12-01&verify=1",
            headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
        )
        assert answer.status == 200, answer
        assert answer.json["verified"] is True
        assert [row["value"] for row in answer.json["rows"]] == [str(value)]


def test_numbers_are_what_raw_events_say_after_kill_9_while_calls_come_and_are_added_up(
    play_on_both: Callable[[Play], None],
) -> None:
    # A small tail waits for three seconds before it is added up.
    play_on_both(kill_while_it_adds_up)


def kill_while_it_adds_up(database_url: str, home: Path) -> None:
    folder = home / "metrics"
    folder.mkdir(parents=True)
    for name, text in METRICS.items():
        (folder / f"{name}.yaml").write_text(text)
    folded = 0
    for _ in range(2):
        with served(database_url, home, WEB_CONCURRENCY="2", METRICS_DIR=str(folder)) as service:
            with Load(service, name=f"load-{folded}", pause_seconds=PAUSE_SECONDS) as load:
                # Steps are being taken, and calls come in.
                began = steps(database_url)
                wait_for_steps(database_url, began + 1)
                assert len(load.answered) > 0
                os.kill(min(service.worker_pids()), signal.SIGKILL)
                beyond = steps(database_url)
                wait_for_steps(database_url, beyond)
                service.kill9()
            folded = steps(database_url)
    assert find_broken(database_url) == []
    with served(database_url, home, WEB_CONCURRENCY="1", METRICS_DIR=str(folder)) as service:
        check(service, database_url)
        wait_to_see(database_url, sa.select(sa.func.count()).select_from(usage_tail), lambda count: count == 0)
        check(service, database_url)
        with opened(database_url) as database, database.reading() as conn:
            assert conn.execute(sa.select(usage_folds.c.done)).scalar_one() > folded


def test_a_metric_that_changes_misses_nothing_that_a_node_with_the_old_file_stores_meanwhile(
    play_on_both: Callable[[Play], None],
) -> None:
    play_on_both(change_while_calls_come)


def change_while_calls_come(database_url: str, home: Path) -> None:
    folders = home / "old-metrics", home / "new-metrics"
    for folder, how in zip(folders, ("sum\nproperty_name: tokens", "count"), strict=True):
        folder.mkdir(parents=True)
        text = f"metric_type: counter\nevent_name: Load\nusage_aggregation_type: {how}\n"
        (folder / "changing.yaml").write_text(text)

    def ask(service: Served, expected: Callable[[int], int]) -> str:
        """Ask for the number while calls come in; return the version that answered."""
        before = look(database_url, COUNT)
        answer = service.request(
            "GET",
            "/api/v1/metrics/changing/usage?start=2026-11-01&end=2026-12-01&verify=1",
            headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
        )
        assert answer.status == 200, answer
        assert answer.json["verified"] is True
        (row,) = answer.json["rows"]
        assert expected(before) <= int(row["value"]) <= expected(look(database_url, COUNT))
        version: str = answer.json["version"]
        return version

    def is_built() -> bool:
        return look(database_url, sa.select(sa.func.min(usage_metrics.c.cursor))) == BUILT

    def newest() -> int:
        return look(database_url, sa.select(sa.func.max(usage_metrics.c.id)))

    with (
        served(database_url, home / "one", METRICS_DIR=str(folders[0])) as one,
        Load(one, threads=2, name="one", pause_seconds=PAUSE_SECONDS / 2),
    ):
        wait_to_see(database_url, COUNT, lambda count: count > 500, 60)
        wait_until(is_built, 60)
        old, before = ask(one, lambda count: 10 * count), newest()
        with served(database_url, home / "other", METRICS_DIR=str(folders[1])) as other:
            with Load(other, threads=2, name="other", pause_seconds=PAUSE_SECONDS / 2):
                # It is built within a blink: what has begun is seen for longer than that it is not done.
                wait_until(lambda: newest() != before, 40)
                while not is_built():
                    assert len({ask(one, lambda count: count), ask(other, lambda count: count), old}) == 2
            for node in (one, other):
                assert ask(node, lambda count: count) != old
