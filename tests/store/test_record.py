import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.store.engine import Database
from app.store.record import KEY_MAX, to_key

# Everything that JSON can put into text: NUL, halves of surrogate pairs, the whole of Unicode.
any_text = st.text(st.characters(exclude_categories=()), max_size=300)


@pytest.mark.parametrize("text", [None, "", "abc", "é\N{GRINNING FACE}", "x" * KEY_MAX, "é" * KEY_MAX])
def test_what_can_be_indexed_stays_as_it_is(text: str | None) -> None:
    assert to_key(text) == text


@pytest.mark.parametrize("text", ["a\0b", "\ud83d", "x" * (KEY_MAX + 1), "é" * (KEY_MAX + 1), "\0" * 1000])
def test_what_cannot_is_replaced_by_something_that_can(text: str) -> None:
    key = to_key(text)
    assert key is not None
    assert key != text
    assert len(key) <= KEY_MAX
    assert "\0" not in key
    key.encode()


def test_a_replaced_key_begins_as_its_text_does() -> None:
    assert str(to_key("order\0" + "-12345" * 100)).startswith("order\N{REPLACEMENT CHARACTER}-12345-12345")


@given(any_text, any_text)
def test_different_texts_have_different_keys(one: str, other: str) -> None:
    assert (to_key(one) == to_key(other)) == (one == other)


@given(st.text(min_size=KEY_MAX, max_size=KEY_MAX + 5), st.sampled_from(["a", "b", "\0", "\ud83d"]))
def test_texts_that_differ_only_at_their_far_end_have_different_keys(text: str, end: str) -> None:
    assert to_key(text + end) != to_key(text)


@given(any_text)
def test_a_key_is_its_own_key(text: str) -> None:
    assert to_key(to_key(text)) == to_key(text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(any_text, max_size=10))
def test_either_database_takes_every_key_and_gives_it_back(database: Database, texts: list[str]) -> None:
    keys = sorted({to_key(text) for text in texts} - {None}, key=str)
    with database.writing() as conn:
        conn.execute(sa.text("DROP TABLE IF EXISTS keys"))
        conn.execute(sa.text("CREATE TABLE keys (key TEXT PRIMARY KEY)"))
        for key in keys:
            conn.execute(sa.text("INSERT INTO keys VALUES (:key)"), {"key": key})
        assert sorted(conn.execute(sa.text("SELECT key FROM keys")).scalars(), key=str) == keys
