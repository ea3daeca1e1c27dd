import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.store.ids import EPOCH_MICROS, TAG_BITS, Ids, first_id_at, micros_of
from tests.builders import NOW, some_ids

LAST_MICROS = EPOCH_MICROS + (1 << 51) - 1


def test_an_id_tells_its_moment_and_its_process() -> None:
    identifier = some_ids(77).next(NOW)
    assert micros_of(identifier) == NOW
    assert identifier % (1 << TAG_BITS) == 77


def test_a_clock_that_leaps_ahead_and_back_leaves_no_ids_in_the_future() -> None:
    tags = iter(range(3, 9))
    ids = Ids(lambda _below: next(tags))
    ahead = ids.next(NOW + 3_600_000_000)
    back = [ids.next(NOW + at) for at in (0, 1, 1)]
    assert [micros_of(one) for one in back] == [NOW, NOW + 1, NOW + 2]
    assert ids.tag != ahead % (1 << TAG_BITS)


@given(st.lists(st.integers(NOW, NOW + 60_000_000), min_size=1, max_size=50))
def test_ids_of_a_process_only_grow_where_the_clock_is_slowed_down(moments: list[int]) -> None:
    ids = some_ids(5)
    made = [ids.next(moment) for moment in moments]
    assert made == sorted(set(made))
    assert made[0] >= 0
    assert made[-1] < 1 << 63, "a signed 64-bit column holds it"


@given(st.integers(EPOCH_MICROS + 1, LAST_MICROS), st.integers(0, (1 << TAG_BITS) - 1))
def test_the_first_id_of_a_moment_is_below_every_id_of_it_and_above_every_id_before(moment: int, tag: int) -> None:
    assert first_id_at(moment) <= some_ids(tag).next(moment)
    assert some_ids(tag).next(moment - 1) < first_id_at(moment) or moment - 1 == EPOCH_MICROS


def test_before_the_epoch_there_is_no_id() -> None:
    assert first_id_at(0) == 0
    assert micros_of(0) == EPOCH_MICROS


def test_a_renewed_process_draws_another_tag_and_goes_on_from_where_it_was() -> None:
    tags = iter([3, 9])
    ids = Ids(lambda _below: next(tags))
    before = ids.next(NOW)
    ids.renew()
    after = ids.next(NOW)
    assert (ids.tag, after % (1 << TAG_BITS)) == (9, 9)
    assert before < after


def test_the_tag_is_drawn_from_all_that_fit() -> None:
    drawn: list[int] = []

    def draw(below: int) -> int:
        drawn.append(below)
        return below - 1

    assert some_ids(0).next(NOW) < Ids(draw).next(NOW)
    assert drawn == [4096]


@pytest.mark.parametrize("clock", ["one moment", "a clock that jumps"])
def test_threads_never_get_the_same_id(clock: str) -> None:
    ids = some_ids(1)
    dice = random.Random(1)  # noqa: S311  it stands for a clock

    def draw(_number: int) -> list[int]:
        return [ids.next(NOW if clock == "one moment" else NOW + dice.randrange(1000)) for _ in range(2000)]

    with ThreadPoolExecutor(8) as threads:
        made = [one for part in threads.map(draw, range(8)) for one in part]
    assert len(set(made)) == 16_000
