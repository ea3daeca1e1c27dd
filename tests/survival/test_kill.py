"""kill -9 under load: what was answered 200 is there, once, and nothing is there in part."""

import os
import signal
from pathlib import Path

import pytest

from tests.served import served, wait_until
from tests.survival.load import BATCH, Load, resend
from tests.survival.whole import batch_sizes, find_broken, stored_messages, writers

pytestmark = pytest.mark.survival


def test_what_was_answered_survives_kill_9_of_a_worker_and_of_the_whole_service(
    database_url: str, tmp_path: Path
) -> None:
    with served(database_url, tmp_path, WEB_CONCURRENCY="2") as service:
        with Load(service) as load:
            wait_until(lambda: len(load.answered) > 300 and writers(database_url) >= 2)
            before = service.worker_pids()
            in_flight = load.in_flight()
            os.kill(min(before), signal.SIGKILL)
            # gunicorn puts another worker in its place.
            wait_until(lambda: len(service.worker_pids() - before) == 1)
            beyond = len(load.answered) + 300
            wait_until(lambda: len(load.answered) > beyond)
            in_flight_at_end = load.in_flight()
            service.kill9()
        assert in_flight > 0
        assert in_flight_at_end > 0
        assert load.statuses[0] > 0, "no request was under way at the kills: this shows nothing"
        assert load.statuses.keys() <= {0, 200}

    there = stored_messages(database_url)
    assert len(there) == len(set(there))
    assert set(load.answered) <= set(there)
    assert set(there) <= set(load.sent)
    assert find_broken(database_url) == []
    assert batch_sizes(database_url).keys() == {1, BATCH}, "a batch is there in part"
    assert writers(database_url) >= 2

    with served(database_url, tmp_path, WEB_CONCURRENCY="2") as service:
        again = resend(service, load.sent)
    assert again["duplicate"] == len(there)
    assert again["stored"] == len(load.sent) - len(there)
    assert stored_messages(database_url) == sorted(load.sent)
    assert find_broken(database_url) == []
    print(  # noqa: T201  figures for `pytest -s`
        f"{len(load.answered)} calls answered, {in_flight} and {in_flight_at_end} requests in flight at the kills,"
        f" {len(there) - len(load.answered)} calls stored but not answered"
    )
