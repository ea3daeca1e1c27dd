from app.store.engine import Database
from app.store.refusals import KEPT, Refusal, append_refusals, list_refusals
from tests.builders import NOW


def a_refusal(number: int) -> Refusal:
    return Refusal(
        number,
        NOW + number,
        "signature_missing",
        "The request has no X-Signature header.",
        "POST",
        "/webhooks/segment",
        '{"host": "here"}',
        b"\x00\xff not text",
    )


def listed(database: Database, limit: int = KEPT * 2) -> list[Refusal]:
    with database.reading() as conn:
        return list_refusals(conn, limit)


def test_refusals_are_listed_newest_first_as_they_were_kept(database: Database) -> None:
    with database.writing() as conn:
        append_refusals(conn, [a_refusal(1), a_refusal(3), a_refusal(2)])
    assert listed(database) == [a_refusal(3), a_refusal(2), a_refusal(1)]
    assert listed(database, 2) == [a_refusal(3), a_refusal(2)]


def test_only_the_last_thousand_are_kept(database: Database) -> None:
    with database.writing() as conn:
        append_refusals(conn, [a_refusal(number) for number in range(KEPT)])
    assert len(listed(database)) == KEPT == 1000
    with database.writing() as conn:
        append_refusals(conn, [a_refusal(number) for number in range(KEPT, KEPT + 3)])
    assert [one.id for one in listed(database)] == list(range(KEPT + 2, 2, -1))


def test_no_refusals_change_nothing(database: Database) -> None:
    with database.writing() as conn:
        append_refusals(conn, [])
    assert listed(database) == []
