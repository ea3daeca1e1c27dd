"""What is suspicious about the expressions of one transform: what JMESPath takes without a word, and nobody means."""

import difflib
from collections.abc import Iterator
from typing import Any

from app.core.expression import Expression
from app.core.expression_closures import path_of
from app.core.expression_text import Node
from app.core.expression_values import ORDERINGS
from app.core.functions_decimal import find_decimal
from app.core.transform import Transform
from app.core.yaml_text import Path

Suspicion = tuple[Path, str, bool]
"""Where in the file, a sentence, and whether it cannot have been meant."""

# https://segment.com/docs/connections/spec/common/ and what the types of calls add; `item` and `index` are of `each`.
_TOP = frozenset({
    "anonymousId", "category", "channel", "context", "event", "groupId", "integrations", "messageId", "metadata",
    "name", "originalTimestamp", "previousId", "projectId", "properties", "receivedAt", "sentAt", "sourceId",
    "timestamp", "traits", "type", "userId", "version", "writeKey", "item", "index",
})  # fmt: skip
_VALUES = frozenset({"true", "false", "null"})

# These give their children the value that they are given themselves.
_SAME_VALUE = frozenset({
    "or_expression", "and_expression", "not_expression", "comparator", "multi_select_list", "multi_select_dict",
    "key_val_pair", "function_expression",
})  # fmt: skip


def lint_expressions(transform: Transform) -> Iterator[Suspicion]:
    """Look through what the file itself writes."""
    schema = transform.source.value.get("input_schema")
    expected = set(schema.get("properties", ())) if isinstance(schema, dict) else set()
    for path, expression in _written(transform):
        for node in _nodes(expression.tree):
            if (sentence := _always_null(node)) or (sentence := _no_table(node, transform)):
                yield path, sentence, True
            elif sentence := _ordered_as_text(node):
                yield path, sentence, False
        for name in sorted(set(_top_names(expression.tree)) - _TOP - expected):
            yield path, _about(name), False


def _written(transform: Transform) -> Iterator[tuple[Path, Expression]]:
    for key, expression in (("when", transform.when_expression), ("each", transform.each_expression)):
        if expression is not None:
            yield (key,), expression
    fields = transform.fields
    if fields.whole_expression is not None:
        yield ("event",), fields.whole_expression
    for part in fields.parts:
        if part.owner == transform.name:
            yield from part.expressions


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    if node["type"] != "slice":
        for child in node["children"]:
            yield from _nodes(child)


def _always_null(node: Node) -> str | None:
    children = node["children"]
    if node["type"] != "subexpression" or not children or children[0]["type"] != "not_expression":
        return None
    negated = path_of(children[0]["children"][0])
    rest = [child["value"] for child in children[1:] if child["type"] == "field"]
    if not negated or not rest:
        return "`!` goes before the point: this is always null; put what is negated in parentheses"
    whole = ".".join([*negated, *rest])
    return f"`!{whole}` means `(!{'.'.join(negated)}).{'.'.join(rest)}`, which is always null; write `!({whole})`"


def _no_table(node: Node, transform: Transform) -> str | None:
    if node["type"] != "function_expression" or node["value"] != "lookup":
        return None
    first = node["children"][0]
    if first["type"] != "literal" or first["value"] in transform.lookups:
        return None
    near = difflib.get_close_matches(str(first["value"]), transform.lookups, n=1)
    return f"there is no table {str(first['value'])[:60]!r} under `lookup`" + (
        f"; did you mean {near[0]}?" if near else ""
    )


def _ordered_as_text(node: Node) -> str | None:
    """Find text that is a number where it is put in order: `'99.50' > '100'` is true."""
    texts: list[Any] = []
    if node["type"] == "comparator" and node["value"] in ORDERINGS:
        texts = [child["value"] for child in node["children"] if child["type"] == "literal"]
    elif node["type"] == "function_expression" and node["value"] in {"max", "min", "sort"}:
        (listed,) = node["children"]
        children = listed["children"] if listed["type"] == "multi_select_list" else [listed]
        for child in children:
            value = child["value"] if child["type"] == "literal" else None
            texts += value if isinstance(value, list) else [value]
    for text in texts:
        if isinstance(text, str) and find_decimal(text) is not None:
            shown = text[:60]
            return (
                f"'{shown}' is text, and two texts are put in order by their characters: '99.50' comes after '100';"
                f" write the number `{shown.strip()}`, and to_number() around what is compared with it"
            )
    return None


def _top_names(node: Node) -> Iterator[str]:
    """Give the keys that are looked up in the call itself."""
    kind = node["type"]
    if kind == "field":
        yield node["value"]
    elif kind in _SAME_VALUE:
        for child in node["children"]:
            yield from _top_names(child)
    elif kind not in {"slice", "expref"} and node["children"]:
        # Of a chain, only the first link sees the call.
        yield from _top_names(node["children"][0])


def _about(name: str) -> str:
    shown = name[:60]
    if name in _VALUES:
        return f"`{shown}` is a key of the call here; the value is written in backticks"
    return f"`{shown}` is a key at the top of the call, where Segment has none of this name; a text is '{shown}'"
