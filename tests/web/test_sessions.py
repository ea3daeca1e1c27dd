"""A session ends at sign-out, on all nodes, and a copy of its cookie opens nothing."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from app.clock import clock
from app.store.engine import Database
from app.store.nodes import append_ended_session, list_ended_sessions
from app.store.schema import ended_sessions
from app.web.sessions import COOKIE
from tests.builders import rows_of
from tests.served import wait_until
from tests.sites import Site
from tests.web.test_sign_in import csrf_of, sign_in

DAY = 86_400_000_000


def cookie_of(site: Site) -> str:
    cookie = site.client.get_cookie(COOKIE)
    assert cookie is not None
    return str(cookie.value)


def visit_with(site: Site, cookie: str) -> int:
    """Open a page with a cookie that was copied from elsewhere; return the status."""
    client = site.app.test_client()
    client.set_cookie(COOKIE, cookie)
    return client.get("/").status_code


@pytest.fixture
def nodes(make_site: Callable[..., Site], migrated_url: str) -> tuple[Site, Site]:
    """Two nodes on one database, of each kind."""
    return make_site(database_url=migrated_url), make_site(database_url=migrated_url)


def test_signing_out_on_one_node_ends_the_session_on_all(nodes: tuple[Site, Site]) -> None:
    here, there = nodes
    sign_in(here.client)
    copy = cookie_of(here)
    sign_in(there.client)
    assert [visit_with(site, copy) for site in nodes] == [200, 200]
    assert here.client.post("/sign-out", data={"csrf": csrf_of(here.client)}).status_code == 303
    assert visit_with(here, copy) == 401
    wait_until(lambda: visit_with(there, copy) == 401, seconds=2)
    assert there.client.get("/").status_code == 200, "another session goes on"
    sign_in(here.client)
    assert here.client.get("/").status_code == 200


def test_an_ended_session_opens_neither_the_api_nor_a_form_and_its_cookie_is_taken_away(
    nodes: tuple[Site, Site],
) -> None:
    here, there = nodes
    sign_in(here.client)
    copy, csrf = cookie_of(here), csrf_of(here.client)
    here.client.post("/sign-out", data={"csrf": csrf})
    for method, path in (
        ("GET", "/api/v1/ledger"),
        ("PUT", "/api/v1/transforms/x"),
        ("POST", "/setup/secret"),
        ("POST", "/sign-out"),
        ("GET", "/calls"),
    ):
        there.client.set_cookie(COOKIE, copy)
        answer = there.client.open(path, method=method, headers={"X-CSRF-Token": csrf})
        assert answer.status_code == 401, path
        assert f"{COOKIE}=;" in answer.headers["Set-Cookie"]


def test_a_cookie_is_signed_once_so_that_no_request_lengthens_it(site: Site) -> None:
    sign_in(site.client)
    for path in ("/", "/healthz", "/sign-in", "/api/v1/ledger", "/nowhere"):
        assert "Set-Cookie" not in site.client.get(path).headers, path


def test_a_cookie_without_an_id_opens_nothing(site: Site) -> None:
    """Such as one from before sessions had ids."""
    with site.client.session_transaction() as session:
        session.permanent = True
        session["csrf"] = "x"
    assert site.client.get("/").status_code == 401
    assert site.client.get("/api/v1/ledger").status_code == 401
    assert site.client.post("/sign-out", data={"csrf": "x"}).status_code == 401


def test_which_sessions_have_ended_is_asked_once_a_second(site: Site) -> None:
    sign_in(site.client)
    asked: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        asked.extend(["x"] if "ended_sessions" in statement else [])

    sa.event.listen(site.service.database.engine, "before_cursor_execute", note)
    began = time.monotonic()
    for _ in range(20):
        assert site.client.get("/sign-in").status_code == 200
        assert site.client.get("/setup/arrivals").status_code == 200
    assert 1 <= len(asked) <= 2 + (time.monotonic() - began)


def test_where_the_database_cannot_tell_nobody_is_let_in_and_nobody_is_signed_out(site: Site) -> None:
    sign_in(site.client)
    csrf = csrf_of(site.client)
    database = site.service.database
    with database.writing() as conn:
        conn.execute(sa.text("ALTER TABLE ended_sessions RENAME TO away"))
    for answer in (
        site.client.get("/"),
        site.client.get("/api/v1/ledger"),
        site.client.post("/setup/secret", headers={"Accept": "application/json", "X-CSRF-Token": csrf}),
        site.client.post("/sign-out", data={"csrf": csrf}),
    ):
        assert answer.status_code == 503
    with database.writing() as conn:
        conn.execute(sa.text("ALTER TABLE away RENAME TO ended_sessions"))
    assert site.client.get("/").status_code == 200


def test_an_ended_session_is_forgotten_after_its_cookie(database: Database) -> None:
    now = clock()
    with database.writing() as conn:
        append_ended_session(conn, "a", now + DAY, now)
        append_ended_session(conn, "a", now + DAY, now)
        append_ended_session(conn, "b", now + 2 * DAY, now)
    with database.reading() as conn:
        assert sorted(list_ended_sessions(conn, now)) == ["a", "b"]
        assert list_ended_sessions(conn, now + DAY) == ["b"]
    with database.writing() as conn:
        append_ended_session(conn, "c", now + 3 * DAY, now + DAY)
    assert sorted(rows_of(database, ended_sessions, ended_sessions.c.id)) == [("b",), ("c",)]


def test_signing_out_at_once_from_two_tabs_is_signing_out(nodes: tuple[Site, Site]) -> None:
    here, _ = nodes
    sign_in(here.client)
    copy, csrf = cookie_of(here), csrf_of(here.client)
    with ThreadPoolExecutor(4) as threads:

        def leave(_number: int) -> int:
            client = here.app.test_client()
            client.set_cookie(COOKIE, copy)
            return client.post("/sign-out", data={"csrf": csrf}).status_code

        statuses = set(threads.map(leave, range(4)))
    assert statuses <= {303, 401}
    assert 303 in statuses
    assert len(here.rows(ended_sessions)) == 1
