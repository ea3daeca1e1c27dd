"""Replays over the web: asked for, counted, started in a process of their own, watched, stopped, gone on with."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from app.catalog.live import Catalog
from app.clock import clock
from app.replay.parameters import parse_replay_request
from app.replay.progress import SILENT_MICROS
from app.replay.replayer import Replayer
from app.replay.sql_replay_list import get_replay, list_replays
from app.replay.sql_replays import Replay, append_replay
from app.service.build import replay_hooks
from app.store.schema import calls, replays
from tests.builders import DEFAULT_TEXT, a_document, published, some_ids, some_transforms, to_raw
from tests.served import ADMIN_TOKEN, wait_until
from tests.service.test_setup import text_of
from tests.sites import Site
from tests.web.queries import queries_of
from tests.web.test_sign_in import csrf_of, sign_in

BEARER = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """Somebody is signed in; three calls were rejected, and would be stored today."""
    site = make_site()
    sign_in(site.client)
    for number in range(3):
        site.send(to_raw(a_document(messageId=f"m-{number}", userId=None)))
    mended = DEFAULT_TEXT.replace("userId", "userId || 'nobody'")
    published(site.service.database, some_transforms(mended), some_ids(33))
    return site


def post(site: Site, path: str, **fields: str) -> Any:
    return site.client.post(path, data={"csrf": csrf_of(site.client), **fields})


def begun(site: Site, **fields: str) -> str:
    """Start a replay, and return its page's path."""
    answer = post(site, "/replays/start", **fields)
    assert answer.status_code == 303, answer.get_data()
    return str(answer.headers["Location"])


def progress(site: Site, path: str) -> dict[str, Any]:
    found: dict[str, Any] = site.client.get(f"/api/v1{path}").get_json()
    return found


def end(site: Site, path: str, state: str = "finished") -> dict[str, Any]:
    wait_until(lambda: progress(site, path)["state"] == state, 30)
    return progress(site, path)


def outcomes(site: Site) -> list[str]:
    return [row[0] for row in site.rows(calls, calls.c.outcome)]


def plant(site: Site, **changes: object) -> str:
    """Leave a replay behind that was begun by another process, and return its page's path."""
    ids = some_ids(44)
    replayer = Replayer(
        database=site.service.database, catalog=Catalog(), ids=ids, clock=clock, hooks=replay_hooks(ids, forwards=False)
    )
    plan = replayer.plan(parse_replay_request({"outcome": "rejected"}), (None, None))
    with site.service.database.writing() as conn:
        append_replay(conn, msgspec.structs.replace(plan.replay, **changes))
    return f"/replays/{plan.replay.id}"


def newest(site: Site) -> Replay:
    with site.service.database.reading() as conn:
        return list_replays(conn, 1)[0]


def test_asking_counts_and_tries_and_changes_nothing(site: Site) -> None:
    said = text_of(post(site, "/replays", outcome="rejected", event=""))
    assert "Replay 3 calls?" in said
    assert "3 calls will be run again by the 1 transform live now" in said
    assert "3 rejected →to stored" in said
    assert outcomes(site) == ["rejected"] * 3
    assert site.rows(replays) == []


def test_where_there_is_nothing_to_replay_it_says_so(site: Site) -> None:
    said = text_of(post(site, "/replays", event="No Such Event"))
    assert "there is nothing to replay" in said


def test_confirmed_it_runs_in_a_process_of_its_own_and_tells_what_became_of_the_calls(site: Site) -> None:
    path = begun(site, outcome="rejected", reason="event_invalid", by="_default")
    done = end(site, path)
    assert outcomes(site) == ["stored"] * 3
    assert (done["calls"], done["total"], done["changed"]) == (3, 3, {"rejected > stored": 3})
    said = text_of(site.client.get(path))
    assert "It came to its end." in said
    assert "3 rejected →to stored" in said
    assert "3 rejected → stored" in text_of(site.client.get("/replays"))
    # Nobody is left of it, not even as a zombie.
    wait_until(lambda: not children(), 10)


def children() -> list[str]:
    """The processes that this one started for replays, dead ones included."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        # A thread, or a process, may end between two of these lines.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for pid in (task / "children").read_text().split():
                state = Path(f"/proc/{pid}/stat").read_text()
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"replay" in line or " Z " in state:
                    found.append(pid)
    return found


def test_the_same_words_run_once_at_a_time(site: Site) -> None:
    path = plant(site, progress_at=clock())
    assert begun(site, outcome="rejected") == path
    assert post(site, f"{path}/go-on").headers["Location"] == path
    assert len(site.rows(replays)) == 1
    assert outcomes(site) == ["rejected"] * 3


def test_a_replay_whose_process_died_shows_as_stopped_and_goes_on(site: Site) -> None:
    path = plant(site, progress_at=clock() - SILENT_MICROS - 1_000_000)
    assert progress(site, path)["state"] == "stopped"
    assert "It was stopped before its end." in text_of(site.client.get(path))
    assert post(site, f"{path}/go-on").headers["Location"] == path
    assert end(site, path)["calls"] == 3
    assert outcomes(site) == ["stored"] * 3


def test_one_that_the_command_line_stopped_is_offered_again(site: Site) -> None:
    path = plant(site, progress_at=None)
    said = text_of(post(site, "/replays", outcome="rejected"))
    assert "was stopped after 0 calls" in said
    assert begun(site, outcome="rejected") == path
    end(site, path)


def test_after_another_publication_going_on_begins_anew(site: Site) -> None:
    path = plant(site, progress_at=None)
    published(site.service.database, some_transforms(DEFAULT_TEXT.replace("userId", "'all'")), some_ids(34))
    other = str(post(site, f"{path}/go-on").headers["Location"])
    assert other != path
    assert end(site, other)["calls"] == 3


def test_cancelling_is_seen_by_the_process_before_its_next_batch(site: Site) -> None:
    # It is asked to stop while it starts: nothing is replayed, and the request is not forgotten.
    path = begun(site, outcome="rejected")
    assert post(site, f"{path}/stop").headers["Location"] == path
    assert progress(site, path)["state"] in {"stopping", "stopped"}
    assert end(site, path, "stopped")["calls"] == 0
    assert outcomes(site) == ["rejected"] * 3
    assert post(site, f"{path}/go-on").headers["Location"] == path
    end(site, path)
    assert outcomes(site) == ["stored"] * 3


def test_what_is_at_its_end_cannot_be_stopped(site: Site) -> None:
    path = plant(site, finished_at=clock())
    post(site, f"{path}/stop")
    assert progress(site, path)["state"] == "finished"


def test_each_change_needs_the_token_of_the_session(site: Site) -> None:
    path = plant(site, progress_at=clock())
    for place in ("/replays", "/replays/start", f"{path}/stop", f"{path}/go-on"):
        assert site.client.post(place, data={"outcome": "rejected"}).status_code == 403
    for place in ("/api/v1/replays", f"/api/v1{path}/stop"):
        assert site.client.post(place, json={"outcome": "rejected"}).status_code == 403
    assert newest(site).stop_asked_at is None


def test_a_program_starts_watches_and_stops_one_with_the_admin_token(
    make_site: Callable[..., Site], site: Site
) -> None:
    stranger = make_site()
    answer = stranger.client.post("/api/v1/replays", json={"outcome": "rejected", "correct": False}, headers=BEARER)
    assert answer.status_code == 202
    begun_id = answer.get_json()["id"]
    path = f"/replays/{begun_id}"
    end(site, path)
    assert outcomes(site) == ["stored"] * 3
    listed = stranger.client.get("/api/v1/replays?limit=1", headers=BEARER).get_json()
    assert [one["id"] for one in listed["replays"]] == [begun_id]
    assert listed["next"] is None
    stopped = stranger.client.post(f"/api/v1{path}/stop", headers=BEARER).get_json()
    assert stopped["state"] == "finished"


@pytest.mark.parametrize(
    "said", ["", "[]", "{", '{"outcome": ["rejected"]}', '{"outcome": "stored"}', '{"x": "y"}', '{"limit": 0}']
)
def test_what_a_program_cannot_ask_for_is_named(site: Site, said: str) -> None:
    answer = site.client.post("/api/v1/replays", data=said, headers=BEARER)
    assert (answer.status_code, answer.get_json()["code"]) == (400, "bad_query")
    assert site.rows(replays) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"outcome": "stored"},
        {"reason": "nonsense"},
        {"version": "x"},
        {"since": "soon"},
        {"transform": "api_call"},
        {"id": "x" * 2001},
        {"event": "x" * 2001},
    ],
)
def test_what_a_form_cannot_ask_for_is_said_on_a_page(site: Site, fields: dict[str, str]) -> None:
    for path in ("/replays", "/replays/start"):
        answer = post(site, path, **fields)
        assert answer.status_code == 400
        assert b"<h1>Bad query</h1>" in answer.get_data()
    assert site.rows(replays) == []


@pytest.mark.parametrize("replay_id", ["1", "x", "9" * 40, "-1"])
def test_what_is_not_there_is_not_found(site: Site, replay_id: str) -> None:
    assert site.client.get(f"/replays/{replay_id}").status_code == 404
    assert post(site, f"/replays/{replay_id}/stop").status_code == 404
    assert post(site, f"/replays/{replay_id}/go-on").status_code == 404
    assert site.client.get(f"/api/v1/replays/{replay_id}").status_code == 404


def test_an_event_that_looks_like_an_option_is_only_an_event(site: Site) -> None:
    hostile = "--correct <script>alert(1)</script> $(touch /tmp/x); 'a' \"b\""
    said = post(site, "/replays", outcome="rejected", event=hostile)
    assert b"<script>alert" not in said.get_data()
    path = begun(site, outcome="rejected", event=hostile)
    assert end(site, path)["calls"] == 0
    assert progress(site, path)["asked"] == {"outcome": "rejected", "event": hostile}
    assert b"<script>alert" not in site.client.get("/replays").get_data()


def test_pages_ask_the_database_once(site: Site) -> None:
    path = plant(site, progress_at=None)
    assert len(queries_of(site, "/replays")) == 1
    assert len(queries_of(site, path)) == 1
    assert len(queries_of(site, f"/api/v1{path}")) == 1


def test_a_replay_that_could_not_start_is_not_said_to_run(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", os.devnull)
    assert post(site, "/replays/start", outcome="rejected").status_code == 503
    assert progress(site, f"/replays/{newest(site).id}")["state"] == "stopped"
    with site.service.database.reading() as conn:
        assert get_replay(conn, newest(site).id).finished_at is None
        assert conn.execute(sa.select(sa.func.count()).select_from(calls)).scalar_one() == 3


def test_a_correction_from_a_page_asks_who_and_why_and_is_a_batch(site: Site) -> None:
    site.send(to_raw(a_document(messageId="right", userId="acme")))
    by_type = DEFAULT_TEXT.replace("event_name: event", "event_name: type")
    published(site.service.database, some_transforms(by_type), some_ids(35))
    asked = text_of(post(site, "/replays", correct="yes", id="right"))
    assert "1 would be corrected, 1 event would be made void; Lotus has none of them" in asked
    assert "Your name" in asked
    path = begun(site, correct="yes", id="right", author="ann", why="the type is billed", lotus="send")
    ended = end(site, path)
    assert (ended["corrected"], ended["voided"]) == (1, 1)
    assert (ended["correction"], ended["correction_state"]) == (path.rpartition("/")[2], "finished")
    shown = text_of(site.client.get(path))
    assert "is one batch, correction" in shown
    assert "the type is billed" in shown
    listed = site.client.get("/replays").get_data(as_text=True)
    assert f'<a href="/corrections/{ended["id"]}">correction</a>' in listed
    batch = text_of(site.client.get(f"/corrections/{ended['id']}"))
    assert "By a replay that corrected stored events" in batch
    call = site.rows(calls, calls.c.id)[-1][0]
    assert "1 of its 2 events counts; corrections made the others void" in text_of(site.client.get(f"/calls/{call}"))
    undo = {"csrf": csrf_of(site.client), "reason": "the event is", "author": "bob"}
    assert site.client.post(f"/corrections/{ended['id']}/undo", data=undo).status_code == 303
    assert "correction, undone</a>" in site.client.get("/replays").get_data(as_text=True)


def test_what_a_transform_maps_now_is_counted_exactly(site: Site) -> None:
    site.send(to_raw(a_document(messageId="page-1", type="page")))
    asked = text_of(post(site, "/replays", mapped_by="_default"))
    assert "Replay 3 calls?" in asked
    assert "Of 3 calls that made no event, 3 are mapped by _default now, whoever decided then." in asked
    assert "there is nothing to replay" in text_of(post(site, "/replays", mapped_by="_default", event="Other"))
    assert post(site, "/replays", mapped_by="nobody").status_code == 404
