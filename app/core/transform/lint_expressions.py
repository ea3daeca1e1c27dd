"""Find suspicious expressions of one transform: valid JMESPath that nobody intends."""

import difflib
import re
from collections.abc import Iterator
from typing import Any

from app.core.jmespath.closures import path_of
from app.core.jmespath.expression import Expression
from app.core.jmespath.functions.choices import is_placeholder
from app.core.jmespath.parser import Node, list_quoted_names
from app.core.transform.transform import Transform
from app.core.yaml_text import Path

Suspicion = tuple[Path, str, bool]
"""The place in the file, a sentence, and whether it cannot have been intended."""

# https://segment.com/docs/connections/spec/common/ and what the types of calls add; `item` and `index` are of `each`.
_TOP = frozenset({
    "anonymousId", "category", "channel", "context", "event", "groupId", "integrations", "messageId", "metadata",
    "name", "originalTimestamp", "previousId", "projectId", "properties", "receivedAt", "sentAt", "sourceId",
    "timestamp", "traits", "type", "userId", "version", "writeKey", "item", "index",
})  # fmt: skip
_VALUES = frozenset({"true", "false", "null"})

# These pass their own input on to their children.
_SAME_VALUE = frozenset({
    "or_expression", "and_expression", "not_expression", "comparator", "multi_select_list", "multi_select_dict",
    "key_val_pair", "function_expression",
})  # fmt: skip


# The children at these positions are evaluated for each item, not for the node's input.
_OF_ITEMS = {"filter_projection": (1, 2), "projection": (1,), "value_projection": (1,), "expref": (0,)}

_ORDERINGS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
_IDS = ("idempotency_id", "customer_id")


def lint_expressions(transform: Transform) -> Iterator[Suspicion]:
    """Check the expressions that the file itself defines."""
    schema = transform.source.value.get("input_schema")
    expected = set(schema.get("properties", ())) if isinstance(schema, dict) else set()
    for path, expression in _own_expressions(transform):
        for node in _nodes(expression.tree):
            if (sentence := _always_null(node)) or (sentence := _unknown_table(node, transform)):
                yield path, sentence, True
            if sentence := _text_ordering(node):
                yield path, sentence, False
        for name in sorted(set(_top_names(expression.tree)) - _TOP - expected):
            yield path, _describe_key(name), False
        doubtful = _VALUES | list_quoted_names(expression.text)
        for name in sorted(set(_item_names(expression.tree)) & doubtful):
            yield path, _describe_key(name, of="the item"), False
    yield from _doubtful_ids(transform)


def _own_expressions(transform: Transform) -> Iterator[tuple[Path, Expression]]:
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
    fields = [child["value"] for child in children[1:] if child["type"] == "field"]
    if not negated or not fields:
        return "`!` goes before the point: this is always null; put what is negated in parentheses"
    whole = ".".join([*negated, *fields])
    return f"`!{whole}` means `(!{'.'.join(negated)}).{'.'.join(fields)}`, which is always null; write `!({whole})`"


def _unknown_table(node: Node, transform: Transform) -> str | None:
    if node["type"] != "function_expression" or node["value"] != "lookup":
        return None
    first = node["children"][0]
    if first["type"] != "literal" or first["value"] in transform.lookups:
        return None
    near = difflib.get_close_matches(str(first["value"]), transform.lookups, n=1)
    return f"there is no table {str(first['value'])[:60]!r} under `lookup`" + (
        f"; did you mean {near[0]}?" if near else ""
    )


def _top_names(node: Node) -> Iterator[str]:
    """Yield the keys that are looked up in the call itself."""
    kind = node["type"]
    if kind == "field":
        yield node["value"]
    elif kind in _SAME_VALUE:
        for child in node["children"]:
            yield from _top_names(child)
    elif kind not in {"slice", "expref"} and node["children"]:
        # Of a chain, only the first link sees the call.
        yield from _top_names(node["children"][0])


def _item_names(node: Node) -> Iterator[str]:
    """Yield the keys that are looked up in the items of a projection: in its filter and its right side."""
    if node["type"] == "slice":
        return
    inner = _OF_ITEMS.get(node["type"], ())
    for position, child in enumerate(node["children"]):
        if position in inner:
            yield from _top_names(child)
        yield from _item_names(child)


def _text_ordering(node: Node) -> str | None:
    if node["type"] != "comparator" or node["value"] not in _ORDERINGS:
        return None
    for child in node["children"]:
        value = child.get("value")
        if child["type"] == "literal" and type(value) is str and _NUMBER.fullmatch(value):
            sign = _ORDERINGS[node["value"]]
            return (
                f"`{sign}` orders '{value[:60]}' as text, in which '99.50' comes after '100'; a number is written in"
                f" backticks, `{value[:60]}`, and to_number() makes numbers of text"
            )
    return None


def _doubtful_ids(transform: Transform) -> Iterator[Suspicion]:
    """Find ids that come out the same for all calls without one."""
    for path, field, tree in _ids(transform):
        for node in _results(tree):
            if node["type"] == "literal" and type(node["value"]) is str and is_placeholder(node["value"]):
                yield path, f"gives {_quoted(node['value'])} as {field}, which stands for no id; leave it null", False
        if any(node["type"] == "function_expression" and node["value"] == "to_string" for node in _nodes(tree)):
            sentence = (
                f"to_string() gives the text 'null' for what is missing, and all who have no {field} become one;"
                " leave it out (a number becomes text by itself), or write concat()"
            )
            yield path, sentence, False


def _ids(transform: Transform) -> Iterator[tuple[Path, str, Node]]:
    """Yield the trees of the ids that the file itself defines; a constant as a literal."""
    written = transform.source.value.get("event")
    if isinstance(written, dict):
        for field in _IDS:
            constant = written.get(field)
            if isinstance(constant, dict):
                yield ("event", field), field, _literal(constant.get("const"))
    whole = transform.fields.whole_expression
    if whole is not None and whole.tree["type"] == "multi_select_dict":
        for pair in whole.tree["children"]:
            if pair["value"] in _IDS:
                yield ("event",), pair["value"], pair["children"][0]
    for field, part in zip(_IDS, transform.fields.parts[1:3], strict=True):
        if part.owner == transform.name:
            for path, expression in part.expressions:
                yield path, field, expression.tree


def _literal(value: Any) -> Node:
    return {"type": "literal", "value": value, "children": []}


def _results(node: Node) -> Iterator[Node]:
    """Yield the parts of a tree whose value can be the result of the whole."""
    children = node["children"]
    if node["type"] == "or_expression":
        chosen = children
    elif node["type"] in {"and_expression", "pipe"}:
        chosen = children[-1:]
    elif node["type"] == "function_expression" and node["value"] in {"coalesce", "default_empty"}:
        chosen = children
    elif node["type"] == "function_expression" and node["value"] == "if":
        chosen = children[1:]
    else:
        yield node
        return
    for child in chosen:
        yield from _results(child)


def _quoted(text: str) -> str:
    return f"'{text[:60]}'" if text.strip() else "blank text"


def _describe_key(name: str, of: str = "the call") -> str:
    shown = name[:60]
    if name in _VALUES:
        return f"`{shown}` is a key of {of} here; the value is written in backticks"
    if of != "the call":
        return f"`\"{shown}\"` is a key of {of} here: double quotes are for keys; a text is '{shown}'"
    return f"`{shown}` is a key at the top of the call, where Segment has none of this name; a text is '{shown}'"
