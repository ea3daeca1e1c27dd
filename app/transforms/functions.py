"""Every function that an expression can call, one line each, for completion in the editor.

The lines of our own functions are those of docs/functions.md; a test compares the two.
"""

import msgspec


class FunctionDocument(msgspec.Struct, frozen=True):
    """One function."""

    name: str
    signature: str
    sentence: str
    """What it returns."""


def _documents(*lines: tuple[str, str]) -> tuple[FunctionDocument, ...]:
    return tuple(FunctionDocument(signature.partition("(")[0], signature, sentence) for signature, sentence in lines)


# What docs/functions.md says, without its backticks.
OURS = _documents(
    ("if(condition, then[, else])", "then if the condition is true, else else (or null)"),
    ("coalesce(value, ...)", 'the first that is not null; keeps 0, false and ""'),
    ("default_empty(value, fallback)", "the fallback for null, blank text, [] and {}"),
    ("any(list, &expression)", "whether it is true for an item; of an empty list false"),
    ("all(list, &expression)", "whether it is true for every item; of an empty list true"),
    ("in(value, list)", "whether the list has it; compares as == does"),
    (
        "real_id(value)",
        "the value; null for what stands for no id: blank text, undefined, null, NaN, [object Object], None, (null)",
    ),
    ("lower(text)", "small letters"),
    ("upper(text)", "capitals"),
    ("trim(text)", "the text without white space around it"),
    ("replace(text, from, to)", "each from replaced"),
    ("split(text, separator[, limit])", "the parts; with a limit no more than that, the rest in the last"),
    ("snake_case(text)", "words in small letters joined by _"),
    ("substring(text, start[, end])", "characters from start up to end, from 0; below 0 they count from the end"),
    ("concat(value, ...)", "text, numbers and booleans in a row; 1.0 is 1"),
    (
        "format(template, value, ...)",
        (
            "the template with {} replaced by the values in turn, and {name} by a member of "
            "the object among them; {{ is a brace"
        ),
    ),
    ("regex_match(text, pattern)", "whether the pattern is found anywhere; ^ and $ tie it to the ends"),
    (
        "regex_extract(text, pattern[, group])",
        "what the group (a number or a name; the first, or all if there is none) matched; null if nothing did",
    ),
    ("regex_replace(text, pattern, to)", "each match replaced; $1 and ${name} are groups, $$ is a dollar"),
    ("add(number, number, ...)", "the sum"),
    ("subtract(number, number)", "the first less the second"),
    ("multiply(number, number, ...)", "the product"),
    ("divide(number, number)", "the quotient; fails for zero"),
    ("modulo(number, number)", "what is left, with the sign of the second"),
    ("round(number[, digits])", "rounded, half up; digits after the point, below 0 before it"),
    ("floor(number)", "the next whole number below"),
    ("ceil(number)", "the next whole number above"),
    (
        "sum_by(list, &expression)",
        (
            "the exact sum over the items; null if one gives null (&coalesce(x, ...) says "
            "what it counts as), 0 for an empty list"
        ),
    ),
    ("sum(list)", "the exact sum of JSON numbers; sum_by takes text too"),
    ("avg(list)", "their mean; null for an empty list"),
    (
        "to_string(value)",
        "text as it is, anything else as JSON text; a whole number has no point and no exponent",
    ),
    ("to_number(value)", 'the number that text is; null for anything that is none ("inf", "1_000")'),
    ("to_time(value)", "the time"),
    (
        "time_add(time, amount, unit)",
        "a later time; earlier for amounts below 0. A month has its last day where it is shorter",
    ),
    ("time_diff(time, time, unit)", "the first less the second"),
    ("time_format(time, format[, zone])", "the time as text"),
    ("is_time_zone(value)", "whether time_format takes it as a zone"),
    ("received_at()", "when the call was received"),
    (
        "merge_deep(object, ...)",
        (
            "one object; objects under the same key are merged, of anything else the last "
            "counts; a null argument is left out"
        ),
    ),
    ("omit(object, keys)", "the object without these keys (an array, or one)"),
    ("pick(object, keys)", "the object with these keys alone, those that are there"),
    ("omit_null(value)", "the value without nulls, at any depth, in arrays too"),
    (
        "flatten_object(object[, separator])",
        "an object of one level, keys joined by .; arrays by position; fails if two values would get one key",
    ),
    ("entries(object)", "its members as an array"),
    ("from_json(text)", "the value that JSON text is"),
    ("to_json(value)", "the value as JSON text, keys in order"),
    ("root()", "the whole call, from inside a projection too"),
    (
        "lookup(table, key[, default])",
        "the key's value in a lookup table of the transform; null or the default if it is not there",
    ),
    (
        "sha256(value)",
        (
            "a pseudonym: 64 digits that are the same for the same text or number "
            "(HMAC-SHA-256), and cannot be guessed back without the key PSEUDONYM_KEY"
        ),
    ),
)

JMESPATH = _documents(
    ("abs(number)", "the number without its sign"),
    ("contains(subject, search)", "whether an array has the value, or text the part"),
    ("ends_with(text, suffix)", "whether the text ends so"),
    ("join(separator, texts)", "the texts in a row, with the separator between"),
    ("keys(object)", "the object's keys"),
    ("length(value)", "how many characters, items or members it has"),
    ("map(&expression, list)", "the expression applied to each item; nulls stay"),
    ("max(list)", "the largest of numbers or texts"),
    ("max_by(list, &expression)", "the item for which the expression is largest"),
    ("merge(object, ...)", "one object; of the same key the last counts"),
    ("min(list)", "the smallest of numbers or texts"),
    ("min_by(list, &expression)", "the item for which the expression is smallest"),
    ("not_null(value, ...)", "the first that is not null"),
    ("reverse(value)", "an array or text from its end"),
    ("sort(list)", "numbers or texts in order"),
    ("sort_by(list, &expression)", "the items in the order of what the expression gives"),
    ("starts_with(text, prefix)", "whether the text begins so"),
    ("to_array(value)", "the value as an array of one; an array as it is"),
    ("type(value)", "number, string, boolean, array, object or null"),
    ("values(object)", "the object's values"),
)

FUNCTION_DOCUMENTS = tuple(sorted((*OURS, *JMESPATH), key=lambda function: function.name))
