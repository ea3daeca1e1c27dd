from collections import Counter

from app.store.engine import Database
from app.store.nodes import REFUSALS_ACKNOWLEDGED, save_sighting
from app.store.refusals import (
    KEPT,
    Refusal,
    Sender,
    append_refusals,
    count_refusals,
    group_refusals,
    list_losses,
    list_refusals,
)
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


SENDERS = [Sender.SEGMENT, Sender.STRANGER, Sender.SEGMENT, None, Sender.MACHINE, Sender.SDK, Sender.STRANGER]


def test_losses_and_the_others_are_counted_listed_and_grouped_until_they_are_acknowledged(database: Database) -> None:
    refused = [a_refusal(number) for number in range(len(SENDERS))]
    for refusal, sender in zip(refused, SENDERS, strict=True):
        refusal.sender, refusal.code = sender, f"code-{sender}"
    with database.writing() as conn:
        append_refusals(conn, refused)
    # After each of them is acknowledged, only those behind it count.
    for first in range(len(SENDERS) + 1):
        with database.writing() as conn:
            if first:
                save_sighting(conn, REFUSALS_ACKNOWLEDGED, NOW + first - 1)
            left = list(enumerate(SENDERS))[first:]
            lost = [(number, sender) for number, sender in left if sender not in {Sender.MACHINE, Sender.STRANGER}]
            losses, others = count_refusals(conn, 0)
            assert losses == Counter(f"code-{sender}" for _, sender in lost)
            assert others == len(left) - len(lost)
            assert [one.id for one in list_losses(conn, 2, 0)] == [number for number, _ in lost][::-1][:2]
            groups = {group.last.sender: (group.count, group.last.id) for group in group_refusals(conn)}
            kinds = {sender for _, sender in left}
            assert groups == {
                kind: (
                    sum(sender == kind for _, sender in left),
                    max(number for number, sender in left if sender == kind),
                )
                for kind in kinds
            }
            # A period is a bound as well.
            assert count_refusals(conn, NOW + len(SENDERS)) == (Counter(), 0)
