"""Each function beside JMESPath's own: what it gives, what it refuses, and that nothing can hang it or break out."""

import json
import re
import time
from collections.abc import Iterable, Iterator
from copy import deepcopy
from decimal import Decimal, getcontext, localcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.jmespath.call import Function
from app.core.jmespath.expression import compile_expression
from app.core.jmespath.functions import FUNCTIONS, Scope
from app.core.jmespath.functions.decimals import find_decimal, is_within, to_number
from app.core.jmespath.limits import size_of
from app.core.jmespath.semantics import NUMBER_TYPES
from app.core.jmespath.standard_functions import BUILT_IN
from app.core.json_numbers import with_numbers_by_value
from app.core.json_text import decode
from app.core.times import parse_time
from app.errors import ExpressionFailed
from tests.core.examples import DOCUMENTS, often

from .functions_cases import FAILURES, NULLS, RESULTS

LOOKUPS = {"plans": {"pro": "P-2", "free": "P-0", "42": [1]}}
SECRET = b"an example key"


def scope_of(document: Any) -> Scope:
    at = parse_time("2026-11-01T10:00:00.123Z")
    return Scope(document=document, received_at=at, lookups=LOOKUPS, secret=SECRET)


def search(text: str, document: Any = None) -> Any:
    return compile_expression(text, functions=FUNCTIONS).search_in(document, scope_of(document))


def failure(text: str, document: Any = None) -> str:
    with pytest.raises(ExpressionFailed) as caught:
        search(text, document)
    return caught.value.message


def numbered(cases: Iterable[tuple[str, Any, Any]]) -> list[str]:
    return [f"{number}: {text}" for number, (text, _, _) in enumerate(cases)]


# --- the page


class Example(NamedTuple):
    function: str
    signature: str
    expression: str
    document: Any
    result: Any


def examples_on_the_page() -> Iterator[Example]:
    page = Path(__file__).parent.parent.parent.parent / "docs" / "functions.md"
    for line in page.read_text(encoding="utf-8").splitlines():
        if not line.startswith("| `"):
            continue
        cells = [cell.strip().strip("`") for cell in line.strip("| ").split(" | ")]
        signature, _, expression, document, result = cells
        yield Example(signature.split("(")[0], signature, expression, json.loads(document), json.loads(result))


ON_THE_PAGE = list(examples_on_the_page())


@pytest.mark.parametrize("on_page", ON_THE_PAGE, ids=[one.function for one in ON_THE_PAGE])
def test_every_example_in_the_documentation_is_true(on_page: Example) -> None:
    assert on_page.function + "(" in on_page.expression
    result = search(on_page.expression, on_page.document)
    assert json.dumps(result, sort_keys=True) == json.dumps(on_page.result, sort_keys=True)


def test_every_function_is_documented_and_nothing_else_is() -> None:
    assert sorted(one.function for one in ON_THE_PAGE) == sorted(FUNCTIONS)


@pytest.mark.parametrize("on_page", ON_THE_PAGE, ids=[one.function for one in ON_THE_PAGE])
def test_the_documentation_gives_the_number_of_arguments_that_is_checked(on_page: Example) -> None:
    function = FUNCTIONS[on_page.function]
    written = on_page.signature.partition("(")[2].rstrip(")")
    required = [one for one in written.partition("[")[0].split(", ") if one and one != "..."]
    # format() takes its values after the template, or none: "value, ..." is any number of them.
    least = len(required) - (on_page.function == "format")
    assert function.min_args == least
    most = None if "..." in written else least + written.count("[")
    assert function.max_args == most


# --- what they give


@pytest.mark.parametrize(("text", "document", "expected"), RESULTS, ids=numbered(RESULTS))
def test_a_function_gives(text: str, document: Any, expected: Any) -> None:
    result = search(text, document)
    assert (result, result.__class__) == (expected, expected.__class__)


@pytest.mark.parametrize(("text", "document", "sentence"), FAILURES, ids=numbered(FAILURES))
def test_a_function_says_what_it_cannot_use(text: str, document: Any, sentence: str) -> None:
    assert sentence in failure(text, document)


@pytest.mark.parametrize("text", NULLS)
def test_null_gives_null(text: str) -> None:
    assert search(text, {"a": "a", "n": 1, "l": [{"n": 1}, {}]}) is None


# --- numbers

NUMBERS = st.one_of(
    st.integers(-(10**18), 10**18),
    st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: not x or 1e-15 < abs(x) < 1e18),
    st.decimals(-(10**18), 10**18, places=9).map(str),
)


def exactly(value: Any) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(value if isinstance(value, str) else repr(value))


@often
@given(NUMBERS, NUMBERS)
def test_sums_differences_and_products_are_exact(first: Any, second: Any) -> None:
    document = {"a": first, "b": second}
    with localcontext() as context:
        context.prec = 200
        a, b = exactly(first), exactly(second)
        wanted = {"add": a + b, "subtract": a - b, "multiply": a * b}
        for name, exact in wanted.items():
            assert exactly(search(f"{name}(a, b)", document)) == round_to_38(exact), name


def round_to_38(number: Decimal) -> Decimal:
    with localcontext() as context:
        context.prec = 38
        context.rounding = "ROUND_HALF_UP"
        return +number


@often
@given(NUMBERS, NUMBERS.filter(lambda value: exactly(value) != 0))
def test_a_quotient_and_what_is_left_make_the_number_again(first: Any, second: Any) -> None:
    document = {"a": first, "b": second}
    with localcontext() as context:
        context.prec = 200
        a, b = exactly(first), exactly(second)
        rest = exactly(search("modulo(a, b)", document))
        left = a % b
        assert rest == round_to_38(left + b if left and (left < 0) != (b < 0) else left)
        try:
            quotient = exactly(search("divide(a, b)", document))
        except ExpressionFailed:
            assert abs(a / b) < Decimal("1e-29") or abs(a / b) > Decimal("1e38")
        else:
            assert abs(quotient * b - a) <= abs(a) * Decimal("1e-37")


@often
@given(NUMBERS)
def test_a_result_is_a_json_number_exactly_where_that_is_the_same_number(value: Any) -> None:
    result = search("add(a, '0')", {"a": value})
    exact = exactly(value)
    assert exactly(result) == exact
    if isinstance(result, Decimal):
        assert exactly(float(exact)) != exact
        assert len(str(result)) <= 80
    else:
        assert isinstance(result, int | float)
        assert not isinstance(result, int) or abs(result) < 2**53


@given(st.lists(NUMBERS, max_size=8))
def test_sum_by_adds_up_exactly_in_any_order(values: list[Any]) -> None:
    total = search("sum_by(l, &@)", {"l": values})
    assert total == search("sum_by(l, &@)", {"l": values[::-1]})
    with localcontext() as context:
        context.prec = 200
        assert exactly(total) == round_to_38(sum(map(exactly, values), Decimal(0)))


def test_pythons_decimal_context_changes_nothing() -> None:
    with localcontext() as context:
        context.prec = 3
        context.traps = dict.fromkeys(context.traps, True)
        assert search("multiply(`0.1234`, `3.0001`)") == 0.37021234
        assert search("round(`123456.785`, `2`)") == 123456.79
        assert search("to_number('123456789.125')") == 123456789.125
        assert search("time_add('2026-11-01T10:00:00.123456Z', '0.000001', 's')".replace("'s'", "'second'")).endswith(
            "123457Z"
        )
    assert getcontext().prec == 28


@given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False)))
def test_floor_ceil_and_to_number_are_jmespaths_for_json_numbers(number: Any) -> None:
    for name in ("floor", "ceil", "to_number"):
        ours, theirs = search(f"{name}(@)", number), compile_expression(f"{name}(@)").search(number)
        # Beyond 2**53 the digits count as they are written: 1e23 is not 99999999999999991611392.
        if name != "to_number" and isinstance(number, float) and abs(number) >= 2**53:
            theirs = int(Decimal(repr(number)))
        assert (ours, type(ours)) == (theirs, type(theirs))


@given(st.text(alphabet="0123456789.eE+-_ \u0663infa", max_size=12) | st.floats().map(str))
def test_text_is_a_number_where_it_is_a_finite_decimal_within_the_bounds(text: str) -> None:
    try:
        value = Decimal(text)
    except ArithmeticError:
        value = Decimal("NaN")
    is_number = bool(text.isascii() and "_" not in text and value.is_finite())
    if is_number and value and not -30 <= value.adjusted() <= 38:
        with pytest.raises(ExpressionFailed, match="exponent from -30 to 38"):
            to_number(text)
        return
    found = to_number(text)
    assert (found is not None) is is_number
    if found is not None:
        assert exactly(found) == value


def test_the_bounds_are_those_of_metrics() -> None:
    inside = [
        "1e38",
        "9" * 38,
        "-" + "9" * 38 + "e1",
        "1e-30",
        "0." + "1" * 38,
        "1" + "0" * 38,
        "0e99999",
        "0" * 200 + "1",
        "1" * 39,
    ]
    outside = ["1e39", "9" * 39, "1e-31", "1e50000000", "1e-99999999999999999999", "1" + "0" * 39]
    numbers = [find_decimal(text) for text in inside + outside]
    assert [number is not None and is_within(number) for number in numbers] == [True] * 9 + [False] * 6


# --- regular expressions


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+$", "(a|a)*b", "(a|aa)+$", "([a-z]+)*!", "(.*)(.*)(.*)(.*)(.*)(.*)x", "(a?){50}a{50}", "[ab]*a[ab]{100}x"],
)
@pytest.mark.parametrize("function", ["regex_match(t, p)", "regex_extract(t, p)", "regex_replace(t, p, 'x')"])
def test_no_pattern_hangs(pattern: str, function: str) -> None:
    started = time.perf_counter()
    try:
        search(function, {"t": "aaabab" * 5_000 + "\n", "p": pattern})
    except ExpressionFailed as error:
        assert "too large for a text of this length" in error.message  # noqa: PT017 - either is an answer
    assert time.perf_counter() - started < 3


def test_replacing_takes_no_quadratic_time() -> None:
    # Each search reads to the end before it knows that `[A-Z]` is the match.
    sentence = failure("regex_replace(t, '.*[^A-Z]|[A-Z]', 'b')", {"t": "A" * 100_000})
    assert sentence == "regex_replace() has a pattern that is too large for a text of this length"
    assert "too large" in failure("regex_replace(t, '(a?)', x)", {"t": "a" * 3_000, "x": "$1$0" * 2_000})


def test_an_ordinary_text_of_the_largest_call_can_be_searched() -> None:
    text = "The quick brown fox, jumps! " * 1_100 + "order 4711"
    assert search(r"regex_extract(@, 'order (\d+)')", text) == "4711"
    assert search(r"regex_match(@, '(?i)^the\pL*\s.*4711$')", text) is True
    assert search(r"regex_replace(@, '[^a-z0-9]+', '_')", text[:8_000]).startswith("_he_quick_brown_fox_jumps_")


@given(st.text(max_size=20), st.text(max_size=10))
def test_replacing_a_pattern_without_groups_is_replacing_text(text: str, to: str) -> None:
    escaped = to.replace("$", "$$")
    assert search("regex_replace(t, 'a', to)", {"t": text, "to": escaped}) == text.replace("a", to)
    # An empty pattern matches before each character and at the end, and never inside one.
    assert search("regex_replace(t, '', '|')", {"t": text}) == "|" + "".join(one + "|" for one in text)


# --- size


def test_what_multiplies_is_bounded_before_it_is_made() -> None:
    long = "a" * 1_000_000
    document = {"t": long, "deep": {long: {str(n): n for n in range(10_000)}}}
    started = time.perf_counter()
    assert "4,000,000" in failure("replace(t, 'a', t)", document)
    assert "4,000,000" in failure("regex_replace(t, '^a+', '$0$0$0$0$0')", document)
    assert "4,000,000" in failure("format('{t}{t}{t}{t}{t}', @)", document)
    assert "4,000,000" in failure("flatten_object(deep)", document)
    assert time.perf_counter() - started < 3


@pytest.mark.parametrize(
    "text",
    [
        "[@,@] | [@,@] | [@,@] | [@,@] | [@,@] | [@,@] | [@,@] | [@,@] | [@,@] | [@,@] | [@,@] | [@,@] | to_json(@)",
        "l[*].root().l[*].root()",
        "l[*].replace(root().t, 'a', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb')",
        "to_json(to_json(to_json(to_json(to_json(to_json(to_json(to_json(to_json(to_json(q))))))))))",
        "l[*].lookup('plans', 'pro', root())",
        "l[*].format('{t}', root())",
        "l[*].merge_deep(root(), root())",
    ],
)
def test_an_expression_that_makes_too_much_fails_at_the_engines_limit(text: str) -> None:
    document = {"l": list(range(2_000)), "t": "a" * 50_000, "q": '"\\' * 2_000}
    assert "steps" in failure(text, document)


def test_a_value_that_is_nested_too_deeply_is_a_sentence() -> None:
    # No call nests deeper than 200 levels; what is made of calls may.
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    for _ in range(20_000):
        first, second = {"a": first}, {"a": second}
    for text in ("omit_null(a)", "merge_deep(a, b)", "to_json(a)", "in(a, [b])", "flatten_object(a)"):
        assert re.search("nested|characters|steps", failure(text, {"a": first, "b": second})), text


# --- every function, given anything

# fmt: off
_TELLING = st.sampled_from([
    "", " ", "a", "12.5", "1e3", "-0", "1e50000000", "٣", "0" * 300, "2026-11-01T10:00:00Z", "1793527200", "0001-01-01",
    "9999-12-31T23:59:59.999999Z", "%Y-%m %q", "Europe/Rome", "America", "localtime", "../etc/passwd", "+23:59",
    "-1200", "days", "month", "plans", "pro", "(a|b)*", "(", r"\C", "$1 ${x} $$", "{} {a}", "{", "[1, {}]", "[" * 3000,
    '{"a": NaN}', "\ud83d", "\0", "日本 İ ß ﬃ", "a.b", 10**400, -(10**399), 1e308, 5e-324, -0.0, 2**53, 2**64, 1e400,
    [[1], None], {"a": None, "a.b": 1, "c": {"d": [1, 2]}}, {"a": {"b": 2}, "a.b": 3}, [{"a": 1}, {"a": "2"}],
    Decimal("0.12345678901234567890"), Decimal("1e25"), Decimal("-99999999999999999999999999999999999999.5"),
])
# fmt: on
_ANYTHING = _TELLING | st.integers(-3, 40) | DOCUMENTS


def is_json(value: Any) -> bool:
    """Tell whether a value can stand in a result: JSON's types, and Decimal. Depth does not matter."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if not all(isinstance(key, str) for key in item):
                return False
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
        elif not (item is None or type(item) in {bool, str, *NUMBER_TYPES}):
            return False
    return True


def calls_of(function: Function, arguments: list[Any]) -> tuple[str, dict[str, Any]]:
    document = {f"a{index}": value for index, value in enumerate(arguments)}
    written = ["&a" if index in function.expressions else f"a{index}" for index in range(len(arguments))]
    return f"{function.name}({', '.join(written)})", document


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_gives_json_or_says_why_not_whatever_it_is_given(function: Function) -> None:
    most = function.min_args + 2 if function.max_args is None else function.max_args

    @settings(max_examples=max(60, settings.default.max_examples if settings.default else 0))
    @given(st.lists(_ANYTHING, min_size=function.min_args, max_size=most))
    def run(arguments: list[Any]) -> None:
        text, document = calls_of(function, arguments)
        before = deepcopy(document)
        try:
            result = search(text, document)
        except ExpressionFailed as error:
            told = error.message
            assert told.startswith(f"{function.name}() ") or "nested" in told or "steps" in told
            # What a function has no sentence of its own for is a case that nobody thought of.
            assert "cannot work with" not in told
            assert "cannot be used on" not in told
            assert not any(isinstance(value, str) and len(value) > 9 and value in told for value in arguments)
        else:
            assert is_json(result)
            if function.growth is not None:
                given_size = size_of(list(document.values()), 10**9)
                assert size_of(result, 10**9) <= function.growth * given_size
            assert repr(search(text, document)) == repr(result)
        assert repr(document) == repr(before)

    run()


def test_no_case_changes_what_it_is_given() -> None:
    for text, document, _ in RESULTS:
        before = deepcopy(document)
        search(text, document)
        assert document == before, text


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("lower(a)", "İ" * 15),
        ("upper(a)", "ΐ" * 31),
        ("snake_case(a)", "aİ" * 15),
        ("split(a, 'b')", "b" * 31),
        ("concat(a, a, a)", 1e-30),
        ("concat(a, a, a)", 10**63),
        ("concat(a)", Decimal("-1.2345678901234567890123456789012345678e-30")),
        ("time_format(`0`, a)", "%s" * 7),
        ("time_format('0001-01-01', a)", "%s" * 15),
        ("entries(a)", {"": None}),
        ("from_json(a)", "[" + "0," * 14 + "0]"),
        ("from_json(a)", "[" * 15 + "]" * 15),
        ("to_json(a)", "\x01" * 31),
        ("to_json(a)", ["\x01" * 15] * 50),
        ("to_json(a)", [10**399] * 50),
        ("to_json(a)", {"\ud83d" * 15: 1.2345678901234567e-100}),
        ("sha256(a)", ""),
        ("to_time(a)", 0),
        ("time_add(a, a, 'day')", 0),
        ("received_at()", None),
    ],
)
def test_a_result_is_no_larger_than_the_engine_was_told(text: str, document: Any) -> None:
    expression = compile_expression(text, functions=FUNCTIONS)
    assert expression.bound.is_small
    result = expression.search_in({"a": document}, scope_of(None))
    assert size_of(result, 10**9) <= expression.bound.growth * size_of({"a": document}, 10**9)
    growth = FUNCTIONS[text.partition("(")[0]].growth
    assert growth is not None
    arguments = len(re.findall(r"\ba\b", text))
    assert size_of(result, 10**9) <= growth * (1 + arguments * size_of(document, 10**9))


@given(DOCUMENTS)
def test_json_text_gives_the_value_again(value: Any) -> None:
    again = search("from_json(to_json(@))", value)
    # A double beyond 2**53 comes back as the digits that it is written with.
    assert with_numbers_by_value(again) == with_numbers_by_value(value)
    assert value is None or again == decode(search("to_json(@)", value).encode("utf-8", "surrogatepass"))


# --- the scope


def test_a_scope_never_shows_its_key_or_the_call() -> None:
    shown = repr(Scope(document={"email": "ada@example.com"}, secret=b"the key"))
    assert "ada" not in shown
    assert "the key" not in shown


def test_without_a_scope_the_document_is_the_root_and_the_rest_says_what_is_missing() -> None:
    assert compile_expression("a.root().b", functions=FUNCTIONS).search({"a": 1, "b": 2}) == 2
    for text, sentence in (
        ("received_at()", "received_at() is not known here: nothing says when the call was received"),
        ("sha256('a')", "set PSEUDONYM_KEY to a long random text"),
        ("lookup('plans', 'a')", "that stands in `lookup`: none"),
    ):
        with pytest.raises(ExpressionFailed, match=re.escape(sentence)):
            compile_expression(text, functions=FUNCTIONS).search({})


def test_pseudonyms_are_the_same_for_a_number_and_its_text_and_differ_by_key() -> None:
    pseudonym = search("sha256(`42`)")
    assert pseudonym == search("sha256('42')") == search("sha256(`42.0`)")
    assert re.fullmatch("[0-9a-f]{64}", pseudonym)
    other = compile_expression("sha256('42')", functions=FUNCTIONS).search_in(None, Scope(document=None, secret=b"k2"))
    assert other != pseudonym


def test_only_jmespaths_functions_that_make_numbers_or_write_them_are_replaced() -> None:
    assert set(FUNCTIONS) & set(BUILT_IN) == {"avg", "ceil", "floor", "sum", "to_number", "to_string"}
