"""A PostgreSQL that is stopped and started again while the service runs: 503 meanwhile, recovery without a restart."""

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from tests.postgres import Postgres, own_postgres
from tests.served import ADMIN_TOKEN, served, wait_until
from tests.survival.load import Load, a_call, resend, watching_health
from tests.survival.whole import find_broken, stored_messages, writers

pytestmark = pytest.mark.survival


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with own_postgres() as server:
        yield server


@pytest.fixture
def database_url(postgres: Postgres) -> str:
    """The URL of an empty database of the test's own on that server, which goes with the server."""
    url, name = sa.make_url(postgres.url), f"test_{uuid.uuid4().hex}"
    libpq = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(libpq, autocommit=True) as conn:
        conn.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    return url.set(database=name).render_as_string(hide_password=False)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_with_postgresql_stopped_it_is_503_and_with_it_back_it_goes_on(
    mode: str, postgres: Postgres, database_url: str, tmp_path: Path
) -> None:
    with served(database_url, tmp_path, WEB_CONCURRENCY="2") as service:
        workers = service.worker_pids()
        with Load(service) as load, watching_health(service) as watched:
            wait_until(lambda: len(load.answered) > 200)
            postgres.stop(mode)
            wait_until(lambda: load.statuses[503] > 20)
            answer = service.post(a_call("while-stopped"))
            ready = service.get("/readyz", ADMIN_TOKEN)
            before = len(load.answered)
            postgres.start()
            wait_until(lambda: len(load.answered) > before + 100)
        assert answer.status == 503
        assert answer.headers["retry-after"]
        assert ready.status == 503
        assert {check["name"] for check in ready.json["checks"] if not check["ok"]} == {"database"}
        assert load.statuses.keys() == {200, 503}
        assert watched.failures == 0
        assert max(watched.seconds) < 1
        # What was found is kept for a second.
        wait_until(lambda: service.get("/readyz").status == 200)
        assert service.worker_pids() == workers, "a worker died"

        there = stored_messages(database_url)
        assert set(load.answered) <= set(there)
        assert find_broken(database_url) == []
        again = resend(service, load.sent)
        assert again["duplicate"] == len(there)
        assert stored_messages(database_url) == sorted(load.sent)
    print(  # noqa: T201
        f"{mode}: {dict(load.statuses)}, {len(there) - len(load.answered)} calls stored but not answered,"
        f" slowest /healthz {max(watched.seconds):.3f} s"
    )


def test_a_worker_that_dies_while_postgresql_is_away_does_not_take_the_service_with_it(
    postgres: Postgres, database_url: str, tmp_path: Path
) -> None:
    with served(database_url, tmp_path, WEB_CONCURRENCY="2") as service:
        with Load(service):
            wait_until(lambda: writers(database_url) == 2)
        before = service.worker_pids()
        postgres.stop("fast")
        os.kill(min(before), signal.SIGKILL)
        # The one that takes its place begins without a database, and says 503 like the other.
        wait_until(lambda: len(service.worker_pids() - before) == 1)
        assert service.post(a_call("while-stopped")).status == 503
        assert service.get("/healthz").status == 200
        postgres.start()
        wait_until(lambda: service.post(a_call("after")).status == 200)
        assert service.process.poll() is None
        assert len(service.worker_pids() - before) == 1
    assert {"after"} == {message_id for message_id in stored_messages(database_url) if "load" not in message_id}
    assert find_broken(database_url) == []


def test_a_restart_between_two_requests_is_noticed_by_nobody(
    postgres: Postgres, database_url: str, tmp_path: Path
) -> None:
    with served(database_url, tmp_path, WEB_CONCURRENCY="2") as service:
        with Load(service):
            wait_until(lambda: writers(database_url) == 2)
        postgres.stop("fast")
        postgres.start()
        assert [service.post(a_call(f"after-{number}")).status for number in range(20)] == [200] * 20
        assert service.get("/readyz").status == 200
        assert {service.get("/api/v1/ledger", ADMIN_TOKEN).status for _ in range(8)} == {200}
    assert find_broken(database_url) == []
