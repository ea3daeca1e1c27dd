"""Replays as they are looked at, and stopping one, on both databases."""

import pytest

from app.errors import NotFound
from app.replay.sql_replay_list import ask_to_stop, get_replay, is_stop_asked, list_replays, mark_idle, mark_running
from app.replay.sql_replays import Replay, append_replay
from app.store.engine import Database


def a_replay(number: int, finished_at: int | None = None) -> Replay:
    return Replay(
        id=number,
        what="{}",
        transforms=b"t",
        cursor=0,
        until_id=9,
        total=5,
        counts="{}",
        started_at=1,
        finished_at=finished_at,
        progress_at=1,
    )


def test_the_newest_come_first_and_are_paged(database: Database) -> None:
    with database.writing() as conn:
        for number in (1, 2, 3):
            append_replay(conn, a_replay(number))
        assert [one.id for one in list_replays(conn, 2)] == [3, 2]
        assert [one.id for one in list_replays(conn, 2, before=2)] == [1]
        assert get_replay(conn, 2) == a_replay(2)
        with pytest.raises(NotFound):
            get_replay(conn, 4)


def test_a_replay_is_asked_to_stop_laid_down_and_taken_up_again(database: Database) -> None:
    with database.writing() as conn:
        append_replay(conn, a_replay(1))
        assert not is_stop_asked(conn, 1)
        ask_to_stop(conn, 1, 7)
        ask_to_stop(conn, 1, 8)
        assert is_stop_asked(conn, 1)
        assert get_replay(conn, 1).stop_asked_at == 7
        mark_idle(conn, 1)
        assert get_replay(conn, 1).progress_at is None
        mark_running(conn, 1, 9)
        assert not is_stop_asked(conn, 1)
        assert get_replay(conn, 1).progress_at == 9


def test_what_is_at_its_end_is_not_stopped_and_what_is_not_there_neither(database: Database) -> None:
    with database.writing() as conn:
        append_replay(conn, a_replay(1, finished_at=5))
        ask_to_stop(conn, 1, 7)
        assert not is_stop_asked(conn, 1)
        ask_to_stop(conn, 99, 7)
        assert not is_stop_asked(conn, 99)
