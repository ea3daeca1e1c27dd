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


# The lines of docs/functions.md, without its backticks.
OURS = _documents(
    ("if(condition, then[, else])", "then if the condition is true, else else (or null)"),
    ("coalesce(value, ...)", 'the first that is not null; keeps 0, false and ""'),
    ("default_empty(value, fallback)", "the fallback for null, blank text, [] and {}"),
    ("any(list, &expression)", "whether it is true for at least one item; false for an empty list"),
    ("all(list, &expression)", "whether it is true for every item; true for an empty list"),
    ("in(value, list)", "whether the list contains the value; compares as == does"),
    (
        "real_id(value)",
        "the value; null for what stands for no id: blank text, undefined, null, NaN, [object Object], None, (null)",
    ),
    ("lower(text)", "the text in lower case"),
    ("upper(text)", "the text in upper case"),
    ("trim(text)", "the text without white space around it"),
    ("replace(text, from, to)", "the text with each from replaced"),
    (
        "split(text, separator[, limit])",
        "the parts; with a limit, at most that many, the last with the rest of the text",
    ),
    ("snake_case(text)", "lower-case words joined by _"),
    (
        "substring(text, start[, end])",
        "the characters from start up to end, counted from 0; negative positions count from the end",
    ),
    ("concat(value, ...)", "text, numbers and booleans joined; 1.0 is 1"),
    (
        "format(template, value, ...)",
        (
            "the template with {} replaced by the values in turn, and {name} by a member of "
            "the object among them; {{ is a brace"
        ),
    ),
    ("regex_match(text, pattern)", "whether the pattern matches anywhere; ^ and $ anchor it"),
    (
        "regex_extract(text, pattern[, group])",
        "what the group (a number or a name; the first, or all if there is none) matched; null if nothing did",
    ),
    (
        "regex_replace(text, pattern, to)",
        "the text with each match replaced; $1 and ${name} are groups, $$ is a dollar sign",
    ),
    ("add(number, number, ...)", "the sum"),
    ("subtract(number, number)", "the first minus the second"),
    ("multiply(number, number, ...)", "the product"),
    ("divide(number, number)", "the quotient; fails for zero"),
    ("modulo(number, number)", "the remainder, with the sign of the second"),
    (
        "round(number[, digits])",
        "the number rounded half up to digits decimal places; negative digits round before the point",
    ),
    ("floor(number)", "the number rounded down to a whole number"),
    ("ceil(number)", "the number rounded up to a whole number"),
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
    ("to_number(value)", 'the number in a text; null for anything that is not a number ("inf", "1_000")'),
    ("to_time(value)", "the time"),
    (
        "time_add(time, amount, unit)",
        "a later time; an earlier one for a negative amount. A day past the end of a month becomes its last day",
    ),
    ("time_diff(time, time, unit)", "the first minus the second"),
    ("time_format(time, format[, zone])", "the time as text"),
    ("is_time_zone(value)", "whether time_format takes it as a zone"),
    ("received_at()", "when the call was received"),
    (
        "merge_deep(object, ...)",
        (
            "one object; objects under the same key are merged, of other values the last "
            "wins; a null argument is left out"
        ),
    ),
    ("omit(object, keys)", "the object without these keys (an array, or one key)"),
    ("pick(object, keys)", "the object with only these keys, as far as it has them"),
    ("omit_null(value)", "the value without nulls, at any depth, in arrays too"),
    (
        "flatten_object(object[, separator])",
        "an object of one level, keys joined by .; arrays by position; fails if two values would get one key",
    ),
    ("entries(object)", "its members as an array"),
    ("from_json(text)", "the value of a JSON text"),
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
            "(HMAC-SHA-256), and cannot be reversed by guessing without the key PSEUDONYM_KEY"
        ),
    ),
)

JMESPATH = _documents(
    ("abs(number)", "the number without its sign"),
    ("contains(subject, search)", "whether an array contains the value, or a text the part"),
    ("ends_with(text, suffix)", "whether the text ends with the suffix"),
    ("join(separator, texts)", "the texts joined by the separator"),
    ("keys(object)", "the object's keys"),
    ("length(value)", "how many characters, items or members it has"),
    ("map(&expression, list)", "the expression applied to each item; nulls stay"),
    ("max(list)", "the largest of numbers or texts"),
    ("max_by(list, &expression)", "the item for which the expression is largest"),
    ("merge(object, ...)", "one object; of values under the same key the last wins"),
    ("min(list)", "the smallest of numbers or texts"),
    ("min_by(list, &expression)", "the item for which the expression is smallest"),
    ("not_null(value, ...)", "the first that is not null"),
    ("reverse(value)", "an array or text in reverse order"),
    ("sort(list)", "numbers or texts in order"),
    ("sort_by(list, &expression)", "the items in the order of what the expression gives"),
    ("starts_with(text, prefix)", "whether the text begins with the prefix"),
    ("to_array(value)", "the value in an array of one item; an array as it is"),
    ("type(value)", "number, string, boolean, array, object or null"),
    ("values(object)", "the object's values"),
)

FUNCTION_DOCUMENTS = tuple(sorted((*OURS, *JMESPATH), key=lambda function: function.name))
