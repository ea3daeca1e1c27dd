"""Drafts: saved, never overwritten unseen, on both databases."""

import threading

import pytest

from app.store.engine import Database
from app.transforms.sql_drafts import Draft, DraftConflict, discard_draft, find_draft, list_drafted, save_draft
from tests.builders import NOW, a_digest


def save(database: Database, text: str, revision: int, name: str = "api_call") -> Draft:
    with database.writing() as conn:
        return save_draft(conn, name, text, revision, a_digest(text), NOW)


def discard(database: Database, revision: int) -> None:
    with database.writing() as conn:
        discard_draft(conn, "api_call", revision, NOW)


def found(database: Database) -> Draft | None:
    with database.reading() as conn:
        return find_draft(conn, "api_call")


def test_a_draft_is_kept_with_its_revision_and_what_it_was_begun_from(database: Database) -> None:
    assert found(database) is None
    first = save(database, "one", 0)
    assert (first.revision, first.base) == (1, a_digest("one"))
    second = save(database, "two \N{SNOWMAN}\n", first.revision)
    assert found(database) == second == Draft("api_call", "two \N{SNOWMAN}\n", 2, a_digest("one"), NOW)


def test_the_second_to_save_is_told_what_the_first_wrote_and_overwrites_nothing(database: Database) -> None:
    save(database, "one", 0)
    for revision in (0, 2, 7):
        with pytest.raises(DraftConflict) as caught:
            save(database, "mine", revision)
        assert caught.value.draft == found(database)
    kept = found(database)
    assert kept is not None
    assert kept.text == "one"


def test_saving_the_same_text_again_is_no_conflict(database: Database) -> None:
    first = save(database, "one", 0)
    assert save(database, "one", 0) == first


def test_a_revision_never_names_two_texts_even_after_the_draft_was_discarded(database: Database) -> None:
    first = save(database, "one", 0)
    discard(database, first.revision)
    assert found(database) is None
    again = save(database, "two", 0)
    assert again.revision > first.revision
    with pytest.raises(DraftConflict):
        save(database, "three", first.revision)


def test_a_draft_that_somebody_changed_is_not_discarded(database: Database) -> None:
    first = save(database, "one", 0)
    second = save(database, "two", first.revision)
    with pytest.raises(DraftConflict) as caught:
        discard(database, first.revision)
    assert caught.value.draft == found(database) == second


def test_to_discard_what_is_not_there_is_no_trouble(database: Database) -> None:
    discard(database, 0)
    discard(database, 3)


def test_names_with_a_draft_are_listed(database: Database) -> None:
    save(database, "one", 0, "b")
    save(database, "one", 0, "a")
    save(database, "one", 0)
    discard(database, 1)
    with database.reading() as conn:
        assert list_drafted(conn) == {"a", "b"}


@pytest.mark.parametrize("begun", [True, False])
def test_of_many_who_save_at_once_one_does_and_all_others_hear_of_it(database: Database, *, begun: bool) -> None:
    revision = save(database, "begun", 0).revision if begun else 0
    outcomes: list[object] = []
    ready = threading.Barrier(4)

    def run(text: str) -> None:
        ready.wait()
        try:
            outcomes.append(save(database, text, revision))
        except DraftConflict as moved:
            outcomes.append(moved.draft)

    threads = [threading.Thread(target=run, args=(f"text {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The one who saved and all who did not were given the same draft: the one that is there.
    assert outcomes == [found(database)] * 4
