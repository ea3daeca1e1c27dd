"""Slow reads and calls that come in, side by side in one worker of the real service."""

import contextlib
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from app.catalog.backend import Backend, connect_backend
from app.errors import NotFound
from app.settings import Settings
from app.store.engine import connect
from app.web.offload import OnThreads
from tests.builders import a_document, to_raw
from tests.served import ADMIN_TOKEN, Served, ask, served
from tests.sites import Site
from tests.web.test_odd_queries import GET

# Backend this view keeps SQLite itself busy for seconds: the service that reads it is the real one, unchanged.
SLOW_VIEW = """
    CREATE VIEW refusals AS
    WITH RECURSIVE counting(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counting WHERE n < 8000000)
    SELECT max(n) AS id, 0 AS received_at, '' AS code, '' AS message, '' AS method, '' AS path, '{}' AS headers,
        x'' AS body_start, NULL AS client, NULL AS sender, NULL AS diagnosis
    FROM counting
"""


def slowest_of(service: Served, count: int) -> float:
    """Post calls one after the other; return how long the slowest answer took."""
    slowest = 0.0
    for at in range(count):
        began = time.monotonic()
        answer = service.post(to_raw(a_document(messageId=f"m-{began}-{at}")))
        slowest = max(slowest, time.monotonic() - began)
        assert answer.status == 200
    return slowest


def in_background(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_slow_read_does_not_hold_up_the_calls_that_come_in(migrated_sqlite_url: str, tmp_path: Path) -> None:
    with served(migrated_sqlite_url, tmp_path / "service", WEB_CONCURRENCY="1") as service:
        database = connect(migrated_sqlite_url)
        with database.writing() as conn:
            conn.execute(sa.text("ALTER TABLE refusals RENAME TO real_refusals"))
            conn.execute(sa.text(SLOW_VIEW))
        database.close()
        slowest_of(service, 5)
        took: list[float] = []

        def read() -> None:
            began = time.monotonic()
            assert service.get("/api/v1/refused", ADMIN_TOKEN).status == 200
            took.append(time.monotonic() - began)

        reader = in_background(read)
        time.sleep(0.1)
        slowest = 0.0
        while reader.is_alive():
            slowest = max(slowest, slowest_of(service, 1))
        assert took[0] > 0.5, "the read was not slow, so this shows nothing"
        assert slowest < took[0] / 3


def test_many_reads_at_once_and_calls_that_come_in_are_all_answered(migrated_url: str, tmp_path: Path) -> None:
    with served(migrated_url, tmp_path / "service", WEB_CONCURRENCY="1") as service:
        slowest_of(service, 5)
        statuses: list[int] = []

        def read() -> None:
            paths = ("calls", "events", "ledger", "calls?customer=customer-1", "refused")
            statuses.extend(service.get(f"/api/v1/{path}", ADMIN_TOKEN).status for path in paths)

        readers = [in_background(read) for _ in range(20)]
        slowest_of(service, 30)
        for reader in readers:
            reader.join()
        assert statuses == [200] * 100


def test_what_is_not_there_is_an_answer_on_every_route_and_no_traceback(
    migrated_sqlite_url: str, tmp_path: Path, site: Site
) -> None:
    with served(migrated_sqlite_url, tmp_path / "service", WEB_CONCURRENCY="1") as service:
        slowest_of(service, 1)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        signed_in = service.request("POST", "/sign-in", f"token={ADMIN_TOKEN}".encode(), form)
        whoever = {
            "Authorization": f"Bearer {ADMIN_TOKEN}",
            "Cookie": signed_in.headers["set-cookie"].partition(";")[0],
        }
        with contextlib.closing(service.connect()) as connection:

            def look(method: str, path: str) -> None:
                answer = ask(connection, method, path, b"{}" if method != "GET" else None, whoever)
                assert answer.status < 500, (method, path)

            for rule, names in GET.items():
                look("GET", re.sub("<[^>]+>", "1", rule))
                look("GET", re.sub("<[^>]+>", "nothing", rule))
                there = rule.replace("<metric_name>", "tokens").replace("<name>", "_default")
                for name in names:
                    look("GET", f"{there}?{name}=nothing")
            for written in site.app.url_map.iter_rules():
                for method in {"POST", "PUT", "DELETE"} & (written.methods or set()):
                    if "<" in written.rule:
                        look(method, re.sub("<[^>]+>", "nothing", written.rule))
        service.term()
        service.wait()
        assert "Traceback" not in service.output()
        assert {line["level"] for line in service.lines()} <= {"info", "warning"}


def test_what_a_slow_read_does_not_find_is_an_answer_and_no_traceback(
    migrated_sqlite_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def look(_reading: Backend) -> None:
        raise NotFound("no such call")

    settings = Settings(database_url=migrated_sqlite_url)
    offload = OnThreads(lambda: connect_backend(settings.database_url, settings.pseudonym_key))
    with pytest.raises(NotFound, match="no such call"):
        offload(look)
    assert offload(lambda _reading: 7) == 7
    assert capfd.readouterr() == ("", "")
