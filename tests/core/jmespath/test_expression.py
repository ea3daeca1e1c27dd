"""The engine against jmespath.py, on cases of our own and on random ones; then what only the engine has.

The cases in compliance/ are ours, in the shape of JMESPath's public compliance suite and with its categories. Each runs
on jmespath.py too, so that what they expect is right.
"""

import contextlib
import copy
import gc
import inspect
import json
import os
import sys
import threading
import weakref
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import jmespath
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jmespath.exceptions import (
    ArityError,
    EmptyExpressionError,
    JMESPathTypeError,
    ParseError,
    UnknownFunctionError,
)

from app.core.jmespath.call import Function, wrong_type
from app.core.jmespath.closures import Closures
from app.core.jmespath.expression import Expression, compile_expression, explain_null
from app.core.jmespath.limits import MAX_STEPS, Meter, size_of
from app.core.jmespath.parser import MAX_DEPTH, MAX_EXPRESSION_CHARS, ExpressionInvalidAt, parse
from app.core.jmespath.semantics import is_true
from app.core.jmespath.standard_functions import BUILT_IN, MAX_JOINED_CHARS
from app.errors import ExpressionFailed, ExpressionInvalid

# More for a thorough run: EXPRESSION_EXAMPLES=20000 pytest tests/core/jmespath/test_expression.py
EXAMPLES = int(os.environ.get("EXPRESSION_EXAMPLES", "400"))

# JMESPath once allowed `foo` for "foo"; jmespath.py still does, and warns.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated string literal syntax:PendingDeprecationWarning")

Outcome = tuple[str, str]


def error_kind(error: Exception) -> str:
    kinds: list[tuple[Any, str]] = [
        (UnknownFunctionError, "unknown-function"),
        (ArityError, "invalid-arity"),
        (JMESPathTypeError, "invalid-type"),
        ((ParseError, EmptyExpressionError), "syntax"),
        # Python's own errors, which jmespath.py lets out: "a" < 1, contains("a", 1), merge({}, null), [::0].
        (TypeError, "invalid-type"),
        ((ValueError, OverflowError), "invalid-value"),
    ]
    return next(kind for raised, kind in kinds if isinstance(error, raised))


def by_jmespath(text: str, document: Any) -> Outcome:
    try:
        # repr tells 1, 1.0 and true apart, and shows the order of keys.
        return "result", repr(jmespath.search(text, document))
    except (ValueError, TypeError, OverflowError) as error:
        return "error", error_kind(error)


def by_us(text: str, document: Any) -> Outcome:
    return _outcome(lambda: compile_expression(text).search(document))


def by_us_counted(text: str, document: Any) -> Outcome:
    """Search with everything counted, as in an expression that could explode."""
    compiled = by_us(text, None) == ("error", "compile")
    closures = Closures(BUILT_IN, Meter(), [None], spares=False)
    return ("error", "compile") if compiled else _outcome(lambda: closures.make(parse(text))(document))


def _outcome(search: Callable[[], Any]) -> Outcome:
    try:
        return "result", repr(search())
    except ExpressionInvalid:
        return "error", "compile"
    except ExpressionFailed:
        return "error", "search"


# The engine finds unknown functions and wrong numbers of arguments before there is a document.
OUR_ERRORS = {
    "syntax": "compile",
    "unknown-function": "compile",
    "invalid-arity": "compile",
    "invalid-type": "search",
    "invalid-value": "search",
}


def as_ours(theirs: Outcome) -> Outcome:
    kind, what = theirs
    return ("error", OUR_ERRORS[what]) if kind == "error" else theirs


def compliance_cases() -> list[Any]:
    cases = [
        (file.stem, group["given"], case)
        for file in sorted((Path(__file__).parent / "compliance").glob("*.json"))
        for group in json.loads(file.read_text(encoding="utf-8"))
        for case in group["cases"]
    ]
    return [pytest.param(given, case, id=f"{stem}-{index}") for index, (stem, given, case) in enumerate(cases)]


@pytest.mark.parametrize(("document", "case"), compliance_cases())
def test_a_compliance_case_holds_in_jmespath_and_here(document: Any, case: dict[str, Any]) -> None:
    text = case["expression"]
    expected = ("error", case["error"]) if "error" in case else ("result", repr(case["result"]))
    # `&a` where no function takes an expression, and a wrong call in a branch that this document does not reach.
    ours = ("error", "compile") if case.get("found_when_compiled") else as_ours(expected)
    before = copy.deepcopy(document)

    assert by_jmespath(text, document) == expected
    assert by_us(text, document) == ours
    assert by_us_counted(text, document) == ours
    assert repr(document) == repr(before)


def test_the_compliance_cases_cover_every_category_and_every_function() -> None:
    files = {file.stem for file in (Path(__file__).parent / "compliance").glob("*.json")}
    assert files == {
        "basic", "boolean", "current", "escape", "filters", "functions", "identifiers", "indices", "literal",
        "multiselect", "ormatch", "pipe", "slice", "syntax", "unicode", "wildcard", "benchmarks",
    }  # fmt: skip
    functions = [case.values[1] for case in compliance_cases() if str(case.id).startswith("functions-")]
    for name in BUILT_IN:
        calls = [case for case in functions if case["expression"].startswith(f"{name}(")]
        assert any("result" in case for case in calls), name
        assert any(case.get("error") == "invalid-arity" for case in calls), name
        anything_goes = {"not_null", "to_array", "to_number", "to_string", "type"}
        assert name in anything_goes or any(case.get("error") == "invalid-type" for case in calls), name


# --- random expressions on random documents

KEYS = ["a", "b", "c", "d e", "é"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, -0.0, 1.0, 1.5, 1e300, -2.5, 10**25]),
    st.sampled_from(["", "a", "b", "1", "2.5", "é", "\U0001f389", '"', "x y"]),
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
        # What transforms meet: arrays of numbers, of text, and of objects alike.
        st.lists(st.one_of(st.integers(-2, 2), st.sampled_from([0.5, 1.0])), max_size=4),
        st.lists(st.sampled_from(["a", "b", ""]), max_size=3),
        st.lists(st.dictionaries(st.sampled_from(KEYS[:3]), SCALARS, min_size=1, max_size=3), max_size=4),
    ),
    max_leaves=16,
)
FIELDS = st.sampled_from(["a", "b", "c", '"d e"', '"é"'])
LITERALS = st.one_of(
    st.builds(
        lambda value: "`" + json.dumps(value).replace("`", "\\`") + "`",
        st.one_of(SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(st.sampled_from(KEYS), SCALARS, max_size=2)),
    ),
    st.sampled_from(["'a'", "''", "'1'", "`1`", "`0`", "`true`", "`null`", "`[]`"]),
)
BOUNDS = st.sampled_from(["", "0", "1", "2", "-1", "-2", "7"])
SLICES = st.builds("[{}:{}:{}]".format, BOUNDS, BOUNDS, st.sampled_from(["", "1", "2", "-1", "-2", "0"]))
SUFFIXES = st.one_of(
    st.builds(".{}".format, FIELDS),
    st.sampled_from(["[0]", "[1]", "[-1]", "[*]", "[]", ".*", "[][]"]),
    SLICES,
)
UNARY = sorted(name for name, function in BUILT_IN.items() if function.min_args == 1 and not function.expressions)
COMPARATORS = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])


def _bigger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    chains = st.builds("{}{}".format, FIELDS, st.lists(SUFFIXES, max_size=3).map("".join))
    return st.one_of(
        chains,
        st.builds("({}){}".format, inner, SUFFIXES),
        st.builds("{} | {}".format, inner, inner),
        st.builds("{} || {}".format, inner, inner),
        st.builds("{} && {}".format, inner, inner),
        st.builds("!({})".format, inner),
        st.builds("{} {} {}".format, chains | LITERALS, COMPARATORS, chains | LITERALS),
        st.builds("({}) {} ({})".format, inner, COMPARATORS, inner),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds("{{x: {}, y: {}}}".format, inner, inner),
        st.builds("{{x: {}, y: {}, z: {} || {}, x: {}}}".format, FIELDS, chains, chains, LITERALS, FIELDS),
        st.builds("{{x: {}, y: a.{}, z: {} || {}, l: {}}}".format, FIELDS, FIELDS, chains, LITERALS, LITERALS),
        st.builds("{}[?{}].{}".format, chains, inner, FIELDS),
        st.builds("{}[?{} {} {}]{}".format, FIELDS, FIELDS, COMPARATORS, LITERALS, st.just("") | SUFFIXES),
        st.builds("{}[*].{{x: {}, y: {}}}".format, FIELDS, inner, inner),
        st.builds("{}[].[{}]".format, FIELDS, inner),
        st.builds("{}({})".format, st.sampled_from(UNARY), inner),
        st.builds("{}({})".format, st.sampled_from(UNARY), chains),
        st.builds(
            "{}({}, {})".format,
            st.sampled_from(["contains", "ends_with", "starts_with", "join", "merge", "not_null"]),
            inner | LITERALS,
            inner,
        ),
        st.builds("join(',', {})".format, inner),
        st.builds("map(&{}, {})".format, inner, chains),
        st.builds("{}({}, &{})".format, st.sampled_from(["sort_by", "min_by", "max_by"]), chains, inner),
    )


EXPRESSIONS = st.recursive(st.one_of(FIELDS, LITERALS, st.just("@")), _bigger, max_leaves=7)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=EXPRESSIONS, document=DOCUMENTS)
@example(text="a || b && c", document={"a": 0})
@example(text="sum(a)", document={"a": [True]})
@example(text="a == b", document={"a": 1, "b": True})
def test_random_expressions_do_on_random_documents_what_jmespath_does(text: str, document: Any) -> None:
    before = copy.deepcopy(document)
    expected = as_ours(by_jmespath(text, document))

    assert by_us(text, document) == expected
    assert by_us_counted(text, document) == expected
    assert repr(document) == repr(before)


@settings(max_examples=EXAMPLES, deadline=None)
@given(text=st.text(alphabet="ab0.[]*?|&!=<>(){}:,@`'\"-\\ \n", max_size=14))
def test_random_text_compiles_here_exactly_if_it_does_in_jmespath(text: str) -> None:
    theirs, ours = as_ours(by_jmespath(text, {"a": 1})), by_us(text, {"a": 1})

    # A call of a() in a branch that is not reached, and `&a` where it has no use, are found by us alone.
    assert ours == theirs or (ours == ("error", "compile") and ("(" in text or "&" in text))


def rendered_size(value: Any) -> int:
    """Give the size that bounds are about: size_of, with text as long as its JSON is."""
    if isinstance(value, str):
        return 1 + (len(json.dumps(value)) - 2) // 16
    if isinstance(value, dict):
        return 1 + sum(rendered_size(key) + rendered_size(inner) for key, inner in value.items())
    return 1 + sum(map(rendered_size, value)) if isinstance(value, list) else 1


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=EXPRESSIONS, document=DOCUMENTS)
@example(text="to_string(@)", document=[1.2345678901234567e-300] * 50)
@example(text="to_string(@)", document=['"' * 15] * 50)
@example(text="to_string(@)", document=["\U0001f389" * 15] * 50)
@example(text="join('x', a)", document={"a": ["x" * 15] * 50})
@example(text="join('" + "x" * 90 + "', a)", document={"a": ["x" * 15] * 50})
@example(text="[?@].[@, @, @]", document=[["x"] * 9] * 9)
@example(text="[to_string(@), to_string(@)] | to_string(@)", document=["\\" * 15] * 50)
def test_no_result_is_larger_than_the_bound_that_was_known_at_compile_time(text: str, document: Any) -> None:
    try:
        expression = compile_expression(text)
        result = expression.search(document)
    except (ExpressionInvalid, ExpressionFailed):
        return
    assert rendered_size(result) <= expression.bound.growth * rendered_size(document)


# --- errors in the text


def invalid(text: str, functions: dict[str, Function] | None = None) -> ExpressionInvalidAt:
    with pytest.raises(ExpressionInvalidAt) as caught:
        compile_expression(text, functions=functions)
    return caught.value


QUOTES = 'a key that is not letters, digits and _ goes in double quotes: `"my-key"`'


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("a.lenght(b)", 3, "there is no function lenght(); did you mean length()?"),
        ("xyzzy(b)", 1, "there is no function xyzzy()"),
        ("a[?length(b) > `1`].lenght(b)", 21, "there is no function lenght(); did you mean length()?"),
        ("a[?lenght(b)].length(b)", 4, "there is no function lenght(); did you mean length()?"),
        ("a && length(b, c)", 6, "length() takes 1 argument, not 2"),
        ("not_null()", 1, "not_null() takes at least 1 argument, not 0"),
        ("a || sort_by(b, c)", 6, "sort_by() takes an expression, written with `&`, as argument 2"),
        ("length(&a)", 8, "length() takes a value, written without `&`, as argument 1"),
        ("a && &b", 6, "`&` can only stand before an argument of a function that takes an expression"),
        ("a ||", 5, "the expression ends too early"),
        ("a b", 3, '`b` cannot stand here; a key with a space in it goes in double quotes: `"my key"`'),
        ("a and b", 3, "`and` cannot stand here; that is written `&&`"),
        ("a * b", 3, "`*` cannot stand here; to multiply is multiply(a, b)"),
        ("a ? b : c", 3, "`?` cannot stand here; a choice is if(condition, a, b)"),
        ("a['b']", 3, '`\'` cannot stand here; a key comes after a point: `a.b`, or `a."my key"`'),
        ("a.b.", 5, "the expression ends too early"),
        ("a.1", 3, f"`1` cannot stand here; {QUOTES}"),
        ("a[?b > 10]", 8, "`10` cannot stand here; a number is written in backticks: `10`"),
        ("a = b", 3, "`=` cannot stand here; equality is `==`"),
        ("my-key", 3, f"`-` cannot stand here; {QUOTES}; to take away is subtract(a, b)"),
        ("a/b", 2, f"`/` cannot stand here; {QUOTES}; to divide is divide(a, b)"),
        ("'a", 1, "unclosed ' delimiter"),
        ('a."\\u"', 3, "invalid \\uXXXX escape"),
        ('"length"(a)', 1, "the name of a function is written without quotes"),
        ("a[0:1:" + "9" * 5000 + "]", 1, "a number in the expression has too many digits"),
        ("", 1, "the expression is empty"),
        ("  \n ", 1, "the expression is empty"),
    ],
)
def test_what_is_wrong_with_a_text_is_said_with_its_place(text: str, column: int, reason: str) -> None:
    error = invalid(text)
    assert (error.reason, error.line, error.column) == (reason, 1, column)
    assert error.code == "expression_invalid"
    said, _, caret = error.message.split("\n")
    assert said == f"{reason} (column {column})"
    assert caret == " " * (2 + min(column - 1, 60)) + "^"


def test_the_caret_stands_under_the_place_in_its_own_line() -> None:
    error = invalid("{\n\ta: b,\n\tc: lenght(d)\n}")
    assert error.message == (
        "there is no function lenght(); did you mean length()? (line 3, column 5)\n  \tc: lenght(d)\n  \t   ^"
    )


def test_a_long_line_is_shown_around_the_place() -> None:
    error = invalid("a || " * 200 + "lenght(b)" + " || a" * 200)
    _, shown, caret = error.message.split("\n")
    assert len(shown) < 130
    assert shown[caret.index("^") :].startswith("lenght(b)")


# --- errors in the call

MIXED_MAX = (
    "max() takes an array of numbers or an array of strings as argument 1, and was given an array of nulls and strings"
)
MIXED_SORT = (
    "sort() takes an array of numbers or an array of strings as argument 1, "
    "and was given an array of numbers and strings"
)
MIXED_SORT_BY = (
    "sort_by() takes an expression that gives only numbers or only strings as argument 2, "
    "and it gave numbers and strings"
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("sum(l)", "sum() takes an array of numbers as argument 1, and was given an array of nulls and strings"),
        ("sum(s)", "sum() takes an array of numbers as argument 1, and was given a string"),
        ("abs(missing)", "abs() takes a number as argument 1, and was given null"),
        ("join(n, l)", "join() takes a string as argument 1, and was given a number"),
        ("join(',', o)", "join() takes an array of strings as argument 2, and was given an object"),
        ("contains(s, n)", "contains() takes a string as argument 2, and was given a number"),
        ("starts_with(s, b)", "starts_with() takes a string as argument 2, and was given a boolean"),
        ("merge(o, n)", "merge() takes an object as argument 2, and was given a number"),
        ("max(l)", MIXED_MAX),
        ("sort([n, s])", MIXED_SORT),
        ("sort_by(os, &v)", MIXED_SORT_BY),
        ("s > n", "`>` cannot compare a string with a number; to_number() makes numbers of text"),
        ("os[?v > `1`]", "`>` cannot compare a string with a number; to_number() makes numbers of text"),
        ("l[::0]", "the step of a slice cannot be 0"),
        ("ceil(to_number('inf'))", "ceil() cannot work with the values it was given"),
    ],
)  # fmt: skip
def test_a_wrong_type_is_a_sentence_that_names_types_and_never_values(text: str, sentence: str) -> None:
    document = {"l": ["SECRET", None], "s": "SECRET", "n": 31337, "b": True, "o": {"SECRET": 1},
                "os": [{"v": 31337}, {"v": "SECRET"}]}  # fmt: skip
    with pytest.raises(ExpressionFailed) as caught:
        compile_expression(text).search(document)
    assert caught.value.message == sentence
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "text", ["to_string(a)", "a == b", "a != b", "contains([a], b)", "a == `[[1]]` || a == b", "{x: to_string(a)}.x"]
)
def test_a_document_nested_too_deeply_is_a_failure_and_no_crash(text: str) -> None:
    with pytest.raises(ExpressionFailed, match="deep"):
        compile_expression(text).search({"a": nested(50_000), "b": nested(50_000)})


@pytest.mark.parametrize("text", ["a", "a[0][0]", "[a, a]", "a[][]", "length(a)", "a || b", "a[*][*]", "type(a)"])
def test_what_does_not_go_down_does_not_mind_the_depth(text: str) -> None:
    compile_expression(text).search({"a": nested(50_000)})


class Raising:
    """No JSON: it stands for what nobody thought of."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def get(self, _: str) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "the result of the expression does not fit into memory"),
        (RecursionError(), "the call is nested too deeply for this expression"),
        (ValueError("SECRET"), "the expression cannot be used on this call (ValueError)"),
    ],
)
def test_whatever_else_goes_wrong_in_a_large_expression_is_a_failure_too(error: Exception, sentence: str) -> None:
    deep, counted = "[" * 30 + "a" + "]" * 30, "a" + " | [@, @]" * 10
    for text in (deep, counted):
        with pytest.raises(ExpressionFailed) as caught:
            compile_expression(text).search(Raising(error))
        assert caught.value.message == sentence


def test_a_search_at_the_end_of_the_stack_fails_and_leaves_the_stack_whole() -> None:
    expression = compile_expression("[" * 100 + "a" + "]" * 100)

    def at_the_end(frames: int) -> None:
        if frames:
            at_the_end(frames - 1)
        else:
            with pytest.raises(ExpressionFailed, match="nested too deeply"):
                expression.search({})

    used = len(inspect.stack(0))
    at_the_end(sys.getrecursionlimit() - used - 90)
    assert expression.search(None) is None


def test_compiling_at_the_end_of_the_stack_is_an_invalid_expression_and_no_crash() -> None:
    reasons = set()

    def at_the_end(frames: int) -> None:
        if frames:
            at_the_end(frames - 1)
        else:
            reasons.add(invalid("[" * 100 + "a" + "]" * 100).reason)

    used = len(inspect.stack(0))
    for left in range(120, 420, 20):
        at_the_end(sys.getrecursionlimit() - used - left)
    assert len(reasons) == 2
    assert all("nested" in reason for reason in reasons)
    compile_expression("[" * 100 + "a" + "]" * 100)


# --- limits


def doubled(times: int, then: str = "") -> str:
    return "@" + " | [@, @]" * times + then


@pytest.mark.parametrize(
    "text",
    [
        doubled(60),
        doubled(60, " | length(@)"),
        # Comparing two values that share nothing, each of 2 to the 40th items.
        f"[({doubled(40)}), ({doubled(40)})] | [0] == [1]",
        "a" + ".{x: @, y: @}" * 60,
        # Each step doubles the backslashes.
        "to_string(to_array(" * 40 + "'\"'" + "))" * 40,
        "to_string([" * 50 + "a, '\"'" + "])" * 50,
        "[" + ",".join(["big"] * 70) + "] | [*][] | [@, @, @, @] | [][] | [@, @, @, @][]",
        "map(&[@, @, @, @, @, @, @, @, @], big) | map(&[@, @, @, @, @, @, @, @, @], @) | map(&[@, @, @, @, @], @)",
        "big[*].{x: [@, @, @, @, @, @, @, @], y: [@, @, @]} | [*].[x, y, x, y, x, y, x, y] | [*].[@, @, @, @, @]",
        "join(to_string(big), big[*].to_string(@)) | join(@, [@, @, @]) | join(@, [@, @, @])",
        f"merge(@, {{x: {doubled(40)}}})",
        f"sort_by([{', '.join(['big'] * 60)}][] | [@, @, @, @, @][], &to_string(@))",
    ],
)  # fmt: skip
def test_an_expression_that_explodes_is_stopped(text: str) -> None:
    expression = compile_expression(text)
    assert not expression.bound.is_small
    with pytest.raises(ExpressionFailed, match=f"{MAX_STEPS:,} steps|{MAX_JOINED_CHARS:,} characters"):
        expression.search({"a": "x", "big": list(range(1000))})


def test_a_separator_from_the_call_cannot_multiply_with_the_list() -> None:
    document = {"s": "x" * 10_000, "l": [""] * 10_000}
    with pytest.raises(ExpressionFailed, match=f"join.. would make more than {MAX_JOINED_CHARS:,} characters"):
        compile_expression("join(s, l)").search(document)
    assert len(compile_expression("join('xx', l)").search(document)) == 19_998


def test_a_counted_expression_gives_its_result_each_time_while_it_stays_below_the_limit() -> None:
    expression = compile_expression(doubled(8))
    assert not expression.bound.is_small
    # 2 ** 9 steps a search: a meter that was not reset would run out.
    for _ in range(1000):
        result = expression.search(1)
    assert size_of(result, 10**9) == 2**9 - 1


def test_the_transforms_that_people_write_run_uncounted() -> None:
    for text in (
        "event",
        "properties.products[?price > `10`].{id: product_id, q: quantity, n: name, c: category, p: price}",
        "sum(properties.products[].price)",
        "sort_by(properties.products, &price)[-1].product_id",
        "join('-', [messageId, to_string(properties.step), context.groupId || 'none'])",
        "{" + ", ".join(f"key_{n}: properties.key_{n} || context.key_{n}" for n in range(25)) + "}",
        "properties.products[].variants[?stock > `0`][].{sku: sku, tags: join(',', tags), total: sum(prices)}",
    ):
        assert compile_expression(text).bound.is_small, text


def test_text_and_nesting_have_limits_that_are_named() -> None:
    assert compile_expression("a" * MAX_EXPRESSION_CHARS).search({}) is None
    assert f"{MAX_EXPRESSION_CHARS:,} is the limit" in invalid("a" * (MAX_EXPRESSION_CHARS + 1)).message


NESTINGS = [("(", ")"), ("[", "]"), ("{a: ", "}"), ("!", ""), ("a[?", "]"), ("type(", ")"), ("map(&", ", a)"),
            ("a || (", ")"), ("@ == (", ")"), ("a.{a: ", "}"), ("a[*].", ""), ("a.*.", ""), ("a[0:1].", ""),
            ("a[].", "")]  # fmt: skip


@pytest.mark.parametrize(("opening", "closing"), NESTINGS)
def test_nesting_compiles_below_the_limit_and_is_refused_above_it(opening: str, closing: str) -> None:
    def nest(times: int) -> str:
        return opening * times + "a" + closing * times

    for times in (1, 10, 39):
        with contextlib.suppress(ExpressionFailed):
            compile_expression(nest(times)).search({"a": [{"a": 1}]})
    for times in (MAX_DEPTH + 1, 500, 1300):
        error = invalid(nest(times))
        assert f"nested more than {MAX_DEPTH} levels" in error.message or len(nest(times)) > MAX_EXPRESSION_CHARS
        # Found before jmespath's parser could recurse (into `a[].a[].a` it does not).
        assert error.column > 1 or opening == "a[]."


def test_two_thousand_parentheses_are_refused_and_do_not_overflow_the_stack() -> None:
    assert f"nested more than {MAX_DEPTH} levels" in invalid("(" * 2000 + "a" + ")" * 2000).message
    for times in (MAX_DEPTH + 2, 2000):
        literal = "`" + "[" * times + "]" * times + "`"
        assert f"nested more than {MAX_DEPTH} levels" in invalid(literal).message


def test_what_stands_side_by_side_is_not_deep() -> None:
    compile_expression("[" + ", ".join(["a[*].b", "!c", "d[0:1].e", "f[?g].h"] * 75) + "]").search({"a": []})


def test_a_long_chain_of_choices_is_not_deep() -> None:
    for sign in ("||", "&&", "|"):
        compile_expression(f" {sign} ".join(["a"] * 1500)).search({"a": {"a": 1}})
    assert compile_expression(" || ".join(["a"] * 1500 + ["'x'"])).search({}) == "x"


# --- our own functions


def function(name: str, call: Callable[..., Any], count: int, **marks: Any) -> dict[str, Function]:
    return {name: Function(name=name, call=call, min_args=count, max_args=count, **marks)}


def test_a_function_of_ours_is_called_with_values() -> None:
    upper = function("upper", str.upper, 1, growth=1)
    expression = compile_expression("l[].upper(@)", functions=upper)
    assert expression.search({"l": ["a", "b"]}) == ["A", "B"]
    assert expression.bound.is_small
    assert "upper() takes 1 argument, not 2" in invalid("upper(a, b)", upper).message
    assert "did you mean upper()?" in invalid("uper(a)", upper).message


def test_a_function_of_ours_takes_the_place_of_jmespaths() -> None:
    strict = function("to_number", lambda _: "ours", 1)
    assert compile_expression("to_number('5')", functions=strict).search({}) == "ours"
    assert compile_expression("to_number('5')").search({}) == 5


def test_a_function_that_takes_an_expression_is_handed_a_callable() -> None:
    total = function("sum_by", lambda items, price: sum(map(price, items)), 2, expressions=frozenset({1}))
    expression = compile_expression("sum_by(l, &a.b)", functions=total)
    assert expression.search({"l": [{"a": {"b": 2}}, {"a": {"b": 3}}]}) == 5
    assert "sum_by() takes an expression, written with `&`, as argument 2" in invalid("sum_by(l, a)", total).message


def test_a_lazy_function_evaluates_only_what_it_asks_for() -> None:
    def choose(node: Any, test: Any, then: Any, other: Any) -> Any:
        return then(node) if is_true(test(node)) else other(node)

    choice = function("if", choose, 3, lazy=True, growth=1)
    expression = compile_expression("l[].if(b, length(b), 'none')", functions=choice)
    assert expression.search({"l": [{"b": "xyz"}, {}]}) == [3, "none"]
    with pytest.raises(ExpressionFailed, match=r"length\(\) takes"):
        expression.search({"l": [{"b": 7}]})


def test_a_scoped_function_sees_the_document_from_inside_a_projection() -> None:
    root = function("root", lambda scope: scope, 0, scoped=True)
    expression = compile_expression("l[].{id: root().id, n: n}", functions=root)
    document = {"id": "m1", "l": [{"n": 1}, {"n": 2}]}
    assert expression.search(document) == [{"id": "m1", "n": 1}, {"id": "m1", "n": 2}]
    assert expression.search_in(document, {"id": "other"}) == [{"id": "other", "n": 1}, {"id": "other", "n": 2}]
    # The next search does not see the scope of the one before.
    assert expression.search(document)[0]["id"] == "m1"


def test_reaching_the_whole_call_from_inside_a_projection_is_counted() -> None:
    root = function("root", lambda scope: scope, 0, scoped=True)
    document = {"l": list(range(2000))}
    for text in (
        "l[*].root()",
        "l[*].root().l[*].root().l[?@ == 'x']",
        "l[*].sum(root().l)",
        "l[?contains(root().l, 'x')]",
    ):
        with pytest.raises(ExpressionFailed, match="steps"):
            compile_expression(text, functions=root).search(document)


def test_looking_at_items_is_counted_even_where_nothing_comes_of_it() -> None:
    root = function("root", lambda scope: scope, 0, scoped=True)
    expression = compile_expression("l[*].root().l[*].missing", functions=root)
    assert expression.search({"l": list(range(400))}) == [[]] * 400
    with pytest.raises(ExpressionFailed, match="steps"):
        expression.search({"l": list(range(600))})


def test_what_a_function_of_unknown_growth_makes_is_counted_even_where_it_is_dropped() -> None:
    large = function("large", lambda _: list(range(1000)), 1)
    expression = compile_expression("l[*].large(@)[0]", functions=large)
    assert expression.search({"l": [1] * 200}) == [0] * 200
    with pytest.raises(ExpressionFailed, match="steps"):
        expression.search({"l": [1] * 600})


def test_a_function_of_ours_is_called_on_each_search_even_with_literals() -> None:
    calls: list[str] = []
    expression = compile_expression("tick('x') || 'none'", functions=function("tick", calls.append, 1, growth=1))
    assert [expression.search({}), expression.search({})] == ["none", "none"]
    assert calls == ["x", "x"]


def test_a_search_inside_a_search_of_the_same_expression_has_a_scope_of_its_own() -> None:
    functions = function("root", lambda scope: scope, 0, scoped=True)
    functions |= function("again", lambda left: expression.search({"left": left - 1}), 1)
    expression = compile_expression("[left > `0` && again(left), root().left]", functions=functions)
    assert expression.search({"left": 2}) == [[[False, 0], 1], 2]


def test_an_expression_does_not_keep_the_document_or_the_scope() -> None:
    class Scope:
        pass

    scope = Scope()
    kept = weakref.ref(scope)
    seen = function("seen", lambda scope: type(scope).__name__, 0, scoped=True)
    assert compile_expression("seen()", functions=seen).search_in({}, scope) == "Scope"
    expression = compile_expression("seen()", functions=seen)
    assert expression.search_in({}, scope) == "Scope"
    del scope
    gc.collect()
    assert kept() is None


def test_searches_inside_searches_and_in_threads_do_not_mix_their_scopes() -> None:
    functions: dict[str, Function] = {}
    functions |= function("root", lambda scope: scope, 0, scoped=True)
    functions |= function("again", lambda name: inner[0].search({"name": name, "l": [1]}), 1)
    inner: list[Expression] = []
    expression = compile_expression("l[].[root().name, name != `null` && again('inner')]", functions=functions)
    inner.append(compile_expression("l[].root().name", functions=functions))
    expected = [["outer", ["inner"]]]
    assert expression.search({"name": "outer", "l": [{"name": 1}]}) == expected

    wrong: list[Any] = []

    def search(name: str) -> None:
        for _ in range(300):
            result = expression.search({"name": name, "l": [{"name": 1}] * 3})
            if result != [[name, ["inner"]]] * 3:
                wrong.append(result)

    threads = [threading.Thread(target=search, args=(f"thread {n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("raised", [TypeError("SECRET"), ValueError("SECRET"), ZeroDivisionError(), RecursionError()])
def test_what_python_raises_in_a_function_is_a_sentence_with_its_name(raised: Exception) -> None:
    def fail(*_: Any) -> None:
        raise raised

    for count, text in enumerate(("fail()", "fail(a)", "fail(a, b)", "fail(a, b, c)")):
        for marks in ({}, {"lazy": True}, {"scoped": True}):
            expression = compile_expression(text, functions=function("fail", fail, count, **marks))
            with pytest.raises(ExpressionFailed, match=r"^fail\(\) (cannot|was given)") as caught:
                expression.search({})
            assert "SECRET" not in caught.value.message


def test_a_function_may_take_fewer_or_more_arguments() -> None:
    substring = {"substring": Function(name="substring", call=lambda *_: "ok", min_args=2, max_args=3)}
    assert compile_expression("[substring(a, b), substring(a, b, c)]", functions=substring).search({}) == ["ok", "ok"]
    for text, count in (("substring(a)", 1), ("substring(a, b, c, d)", 4)):
        assert invalid(text, substring).reason == f"substring() takes 2 to 3 arguments, not {count}"


def test_a_functions_own_failure_is_told_as_it_is() -> None:
    def upper(text: Any) -> Any:
        raise wrong_type("upper", 1, "a string", text)

    expression = compile_expression("upper(a)", functions=function("upper", upper, 1))
    with pytest.raises(ExpressionFailed, match=r"^upper\(\) takes a string as argument 1, and was given an array$"):
        expression.search({"a": []})


def test_decimals_are_numbers() -> None:
    document = {"l": [Decimal("0.1"), 0.2, 3, Decimal("1e25")], "d": Decimal("0.5"), "z": Decimal(0)}
    assert compile_expression("max(l) > d && d < `1` && d == `0.5` && ceil(d) == `1`").search(document) is True
    assert compile_expression("[type(d), to_string(d), z || 'none']").search(document) == ["number", "0.5", Decimal(0)]


# --- an order of texts that are numbers


@pytest.mark.parametrize(
    ("text", "document"),
    [
        *((f"a {sign} b", {"a": "99.50", "b": "100"}) for sign in ("<", "<=", ">", ">=")),
        *((f"a {sign} b", {"a": "1.0", "b": "1"}) for sign in ("<=", ">")),
        ("l[?price > '100'].sku", {"l": [{"price": "250"}, {"price": "99.50"}]}),
        ("min(l)", {"l": ["9", "x", "10"]}),
        ("max(l)", {"l": ["9", "100", "2"]}),
        ("sort(l)", {"l": ["x", "9", "10"]}),
    ],
)
def test_texts_that_are_numbers_are_never_put_in_another_order_than_theirs(text: str, document: Any) -> None:
    with pytest.raises(ExpressionFailed, match=r"these are numbers in another order; to_number\(\)"):
        compile_expression(text).search(document)


@pytest.mark.parametrize(
    ("text", "document", "result"),
    [
        ("a < b", {"a": "20261101", "b": "20261102"}, True),
        ("a >= b", {"a": "1.0", "b": "1"}, True),
        ("a < b", {"a": "2026-11-01", "b": "99"}, True),
        ("[min(l), max(l), sort(l)[0]]", {"l": ["2", "1", "a"]}, ["1", "a", "1"]),
        ("min(l)", {"l": ["1", "10", "9"]}, "1"),
    ],
)
def test_an_order_of_texts_that_is_theirs_as_numbers_too_stays(text: str, document: Any, result: Any) -> None:
    assert compile_expression(text).search(document) == result


# --- why null


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("properties.regoin", "`properties.regoin` is not in this call; did you mean `region`?"),
        ("user_id", "`user_id` is not in this call; did you mean `userId`?"),
        ("properties.plan.name", "`properties.plan.name` is not in this call; did you mean `nome`?"),
        ("properties.zzz", "`properties.zzz` is not in this call"),
        ("properties.region.name", "`properties.region.name` is not in this call"),
        ("props | regoin", "`props` is not in this call; did you mean `properties`?"),
        ("context.xyz || properties.regoin", "`properties.regoin` is not in this call; did you mean `region`?"),
        ("context.xyz || `null`", "`context` is not in this call"),
        ("timestamp || originalTimestamp || sentAt", "`timestamp` is empty"),
        ("originalTimestamp || timestamp || sentAt", "`timestamp` is empty"),
        ("tags[0] || tags || user_id", "`tags` is empty"),
        ("userID || userId.x", "`userID` is not in this call"),
        ("user_id || plan || properties.xyz", "`user_id` is not in this call; did you mean `userId`?"),
    ],
)
def test_a_null_says_which_step_was_missing(text: str, sentence: str) -> None:
    document: dict[str, Any] = {"userId": "u", "properties": {"region": "eu", "plan": {"nome": "x"}}}
    document |= {"timestamp": "", "sentAt": None, "tags": []}
    expression = compile_expression(text)
    assert expression.search(document) is None
    step = explain_null(expression, document)
    assert step is not None
    assert step.sentence() == sentence


@pytest.mark.parametrize("text", ["a", "a.b", "`null`", "length(a) || a", "x[0]", "[a][0]", "@"])
def test_a_null_that_no_missing_key_made_is_not_explained(text: str) -> None:
    assert explain_null(compile_expression(text), {"a": None} if text != "a.b" else {"a": {"b": None}}) is None


def test_an_expression_cannot_be_changed_and_may_be_used_again() -> None:
    expression = compile_expression("{a: a, b: 'x'}")
    with pytest.raises(AttributeError):
        expression.text = "b"  # type: ignore[misc]
    first = expression.search({"a": 1})
    first["a"] = 2
    assert expression.search({"a": 1}) == {"a": 1, "b": "x"}
    assert expression.text == "{a: a, b: 'x'}"
