"""Clients that take their time are given up. They began with the tests of deadlines, and others ran meanwhile."""

from concurrent.futures import Future

from tests.hostile.slow import Slow
from tests.hostile.wire import chunked, connect, new_call, post, read_answer, refusal, statuses
from tests.programs import require_program


def test_behind_nginx_pauses_of_twenty_seconds_give_no_502(paused: Future[list[int]] | None) -> None:
    require_program("nginx")
    assert paused is not None
    assert paused.result(60) == [200] * 60


def test_whoever_takes_too_long_is_given_up_and_told_so(slow: Slow) -> None:
    """One test for all of them: they take half a minute, and take it at the same time."""
    slow.join()
    service = slow.service
    ended = {name: (client.seconds, client.answer) for name, client in slow.clients.items()}
    assert ended["nothing"][1] == b""
    for name in ("half a head", "a head byte by byte"):
        assert refusal(ended[name][1]) == (408, "request_timeout"), name
    for name in ("no body", "a body byte by byte", "chunks of one byte"):
        assert refusal(ended[name][1]) == (503, "unavailable"), name
    assert statuses(ended["a form"][1]) == [503]
    # It comes, and so it may take its time.
    assert statuses(ended["a body at 32 KiB/s"][1]) == [200]
    for name, least in {
        "nothing": 10,
        "half a head": 10,
        "a head byte by byte": 10,
        "no body": 30,
        "a form": 30,
    }.items():
        assert least - 0.1 < ended[name][0] < least + 8, name
    assert 29 < slow.deaf_seconds < 60
    assert {line["level"] for line in service.lines()} <= {"info", "warning"}
    with connect(service.port) as connection:
        connection.sendall(post(body := new_call(), framed=chunked(body)))
        assert read_answer(connection)[0] == 200
