"""Which values are numbers, exactly, and why the others are skipped."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.json_text import decode
from app.metrics.values import (
    Skip,
    add,
    divide,
    format_number,
    interpolate,
    read_number,
    read_text,
)


@pytest.mark.parametrize(
    ("json", "number"),
    [
        ("12", "12"),
        ("12.5", "12.5"),
        ("-0.1", "-0.1"),
        ("1e3", "1000"),
        ('"12.5"', "12.5"),
        ('"1e3"', "1000"),
        ('"+5"', "5"),
        ('"-5"', "-5"),
        ('".5"', "0.5"),
        ('"007"', "7"),
        ("0", "0"),
        ('"-0.000"', "0"),
        ('"0e9"', "0"),
        # A double by its shortest form: 0.1 is one tenth, and 2**53 + 1 is no double.
        ("0.1", "0.1"),
        ("9007199254740993", "9007199254740992"),
        ("123456789012345678901234567890", "123456789012345680000000000000"),
        # Text is exact: 30 digits survive, and 38.
        ('"9007199254740993"', "9007199254740993"),
        ('"123456789012345678901234567890"', "123456789012345678901234567890"),
        ('"12345678901234567890123456789012345678"', "12345678901234567890123456789012345678"),
        ('"1e38"', "1" + "0" * 38),
        ('"1e-30"', "0." + "0" * 29 + "1"),
        ('" 5 "', "5"),
        ('"\\t5\\r\\n"', "5"),
        # More than 38 digits are rounded, half up.
        (f'"1.{"1" * 38}"', "1." + "1" * 37),
        (f'"1.{"1" * 37}5"', "1." + "1" * 36 + "2"),
        ('"0.1000000000000000055511151231257827021181583404541015625"', "0.10000000000000000555111512312578270212"),
        (f'"{"1" * 39}"', "1" * 38 + "0"),
        (f'"{"0" * 300}7"', "7"),
        ('"1e+0000000002"', "100"),
        # Zeros at the end are no significant digits.
        (f'"1.{"0" * 60}"', "1"),
    ],
)
def test_a_value_is_taken_exactly_and_written_without_an_exponent(json: str, number: str) -> None:
    value = read_number({"n": decode(json.encode())}, "n")
    assert isinstance(value, Decimal)
    assert format_number(value) == number


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({}, Skip.MISSING),
        ({"n": None}, Skip.NULL),
        ({"n": ""}, Skip.EMPTY),
        ({"n": True}, Skip.BOOLEAN),
        ({"n": False}, Skip.BOOLEAN),
        ({"n": {"n": 1}}, Skip.OBJECT),
        ({"n": [1]}, Skip.ARRAY),
        ({"n": "many"}, Skip.TEXT),
        ({"n": " \t"}, Skip.EMPTY),
        ({"n": "1 5"}, Skip.TEXT),
        ({"n": "1,5"}, Skip.TEXT),
        ({"n": "1_000"}, Skip.TEXT),
        ({"n": "0x10"}, Skip.TEXT),
        ({"n": "true"}, Skip.TEXT),
        ({"n": "\u0663"}, Skip.TEXT),
        ({"n": "NaN"}, Skip.NOT_FINITE),
        ({"n": "Infinity"}, Skip.NOT_FINITE),
        ({"n": "-inf"}, Skip.NOT_FINITE),
        ({"n": float("nan")}, Skip.NOT_FINITE),
        ({"n": float("inf")}, Skip.NOT_FINITE),
        ({"n": "1e50000000"}, Skip.OUT_OF_RANGE),
        ({"n": "1e39"}, Skip.OUT_OF_RANGE),
        ({"n": "1e-31"}, Skip.OUT_OF_RANGE),
        ({"n": "1" * 40}, Skip.OUT_OF_RANGE),
        ({"n": " nan "}, Skip.NOT_FINITE),
        ({"n": "0." + "0" * 200 + "1"}, Skip.OUT_OF_RANGE),
        ({"n": "9" * 200}, Skip.OUT_OF_RANGE),
        ({"n": 1e39}, Skip.OUT_OF_RANGE),
        ({"n": 10**400}, Skip.OUT_OF_RANGE),
        ({"n": 10**39}, Skip.OUT_OF_RANGE),
    ],
)
def test_what_is_no_number_is_skipped_with_its_reason(properties: dict[str, Any], reason: Skip) -> None:
    assert read_number(properties, "n") is reason


def test_texts_are_json_without_quotes() -> None:
    properties = decode(b'{"a": 1, "b": 1.0, "c": true, "d": "1", "e": null, "f": {"y": 2, "x": 1}, "g": "q\\"q"}')
    texts = {name: read_text(properties, name) for name in "abcdefgh"}
    assert texts == {
        "a": "1",
        "b": "1",
        "c": "true",
        "d": "1",
        "e": None,
        "f": '{"x":1,"y":2}',
        "g": 'q"q',
        "h": None,
    }
    assert read_text({"a": "\ud83d"}, "a") == "\\ud83d"


WITHIN = st.decimals(-(10**20), 10**20, places=10, allow_nan=False)


@given(st.lists(WITHIN, max_size=20))
def test_a_sum_does_not_depend_on_the_order(numbers: list[Decimal]) -> None:
    forward = backward = Decimal(0)
    for one in numbers:
        forward = add(forward, one)
    for one in reversed(numbers):
        backward = add(one, backward)
    assert format_number(forward) == format_number(backward)


def test_the_largest_and_the_smallest_value_add_up_exactly() -> None:
    # 1e38 + 38 nines that end at 10**-67.
    smallest = Decimal("9." + "9" * 37 + "e-30")
    assert format_number(add(Decimal("1e38"), smallest)) == "1" + "0" * 38 + "." + "0" * 29 + "9" * 38


def test_a_quotient_has_38_digits_rounded_half_up() -> None:
    # 2 / 3 = 0.666... ; the 38th digit is rounded up.
    assert format_number(divide(Decimal(2), 3)) == "0." + "6" * 37 + "7"
    assert format_number(divide(Decimal(1), 8)) == "0.125"


@pytest.mark.parametrize(
    ("percentile", "expected"),
    # Of 10, 20, 30, 50: rank p/100 * 3. p=50: 1.5, between 20 and 30. p=90: 2.7, 30 + 0.7 * 20 = 44.
    [("0", "10"), ("50", "25"), ("90", "44"), ("100", "50"), ("33.3", "19.99"), ("99.9", "49.94")],
)
def test_a_percentile_lies_linearly_between_two_values(percentile: str, expected: str) -> None:
    numbers = [Decimal(one) for one in (10, 20, 30, 50)]
    assert format_number(interpolate(numbers, Decimal(percentile))) == expected
    assert format_number(interpolate(numbers[:1], Decimal(percentile))) == "10"
