"""Parse JMESPath text to a tree: jmespath's own parser, preceded by limits, with errors that show the position.

The tree is jmespath's (`{"type", "children", "value"}`), changed in three ways: it is a copy (jmespath caches its own),
chains of `||`, `&&` and `|` are one node with many children, and a call or `&` knows its `start` in the text.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, TypeAlias

from jmespath.exceptions import IncompleteExpressionError, JMESPathError, LexerError, ParseError
from jmespath.lexer import Lexer
from jmespath.parser import Parser

from app.errors import ExpressionInvalid

Node: TypeAlias = dict[str, Any]
Token: TypeAlias = dict[str, Any]

# Longer than any mapping that a person writes, and short enough to be parsed in milliseconds.
MAX_EXPRESSION_CHARS = 10_000

# jmespath's parser uses up to four stack frames a level and Python's default limit is 1,000: 120 levels leave half of
# the stack to the caller, and are more than the deepest of JMESPath's own compliance cases (104 projections).
MAX_DEPTH = 120

_OPENING = frozenset({"lparen", "lbracket", "lbrace", "filter"})
_CLOSING = frozenset({"rparen", "rbracket", "rbrace"})
_DEEPER = frozenset({"not", "expref", "star"})
_ENDS_A_PROJECTION = frozenset({"comma", "pipe", "or", "and"})
_CHAINS = frozenset({"or_expression", "and_expression", "pipe"})

_TOO_DEEP = f"the expression is nested more than {MAX_DEPTH} levels deep"
_QUOTES = 'a key that is not letters, digits and _ goes in double quotes: `"my-key"`'
# Hints for what people write that JMESPath does not have.
_HINTS = {
    "=": "equality is `==`",
    "-": f"{_QUOTES}; to take away is subtract(a, b)",
    "+": "to add is add(a, b)",
    "*": "to multiply is multiply(a, b)",
    "/": f"{_QUOTES}; to divide is divide(a, b)",
    "?": "a choice is if(condition, a, b)",
    "$": "the whole call is `@`",
    "and": "that is written `&&`",
    "or": "that is written `||`",
    "not": "that is written `!`",
}

_GOES_ON = frozenset({"dot", "lbracket", "flatten", "filter", "colon"})
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAME = re.compile(r"\w+")
_WORD = re.compile(r"\w{1,30}|.", re.DOTALL)

# What an error shows of a long line, on each side of the place.
_SHOWN_CHARS = 60


class ExpressionInvalidAt(ExpressionInvalid):
    """An invalid expression and the position in its text: `line` and `column` count from 1."""

    def __init__(self, reason: str, text: str, position: int) -> None:
        before = text[:position]
        line_start = before.rfind("\n") + 1
        line_end = text.find("\n", position) if "\n" in text[position:] else len(text)
        shown_from = max(line_start, position - _SHOWN_CHARS)
        shown = text[shown_from : min(line_end, position + _SHOWN_CHARS)].rstrip()
        # A tab before the place stays a tab below it, so that the caret is right whatever a tab's width is.
        gap = "".join("\t" if char == "\t" else " " for char in text[shown_from:position])
        self.reason = reason
        self.text = text
        self.line = before.count("\n") + 1
        self.column = position - line_start + 1
        where = f"column {self.column}" if self.line == 1 else f"line {self.line}, column {self.column}"
        super().__init__(f"{reason} ({where})\n  {shown}\n  {gap}^")


def parse(text: str) -> Node:
    """Parse JMESPath text and return its tree.

    Raises:
        ExpressionInvalidAt: the text is not JMESPath, is too long, or is nested too deeply.
    """
    if len(text) > MAX_EXPRESSION_CHARS:
        reason = f"the expression has {len(text):,} characters, and {MAX_EXPRESSION_CHARS:,} is the limit"
        raise ExpressionInvalidAt(reason, text, MAX_EXPRESSION_CHARS)
    try:
        tokens = list(Lexer().tokenize(text))
        _refuse_deep_nesting(text, tokens)
        return _TreeCopier(text, tokens).of(Parser().parse(text).parsed, 1)
    except JMESPathError as error:
        raise _locate_error(text, error) from None
    except ValueError:
        # int() refuses more than 4,300 digits, inside jmespath's lexer.
        raise ExpressionInvalidAt("a number in the expression has too many digits", text, 0) from None
    except RecursionError:
        # A literal nested a thousand deep, or a caller that itself is deep in the stack.
        raise ExpressionInvalidAt(_TOO_DEEP, text, 0) from None


def list_quoted_names(text: str) -> set[str]:
    """Return the keys of an expression that stand alone in double quotes that they do not need: `"pro"`.

    Not included: `a."b"` and `"b".c`, which are paths, and `{"b": a}`, which names a member.
    """
    tokens = list(Lexer().tokenize(text))
    names: set[str] = set()
    for before, token, after in zip([None, *tokens], tokens, [*tokens[1:], None], strict=False):
        alone = (before is None or before["type"] != "dot") and (after is None or after["type"] not in _GOES_ON)
        if token["type"] == "quoted_identifier" and alone and _PLAIN_KEY.fullmatch(token["value"]):
            names.add(token["value"])
    return names


def _locate_error(text: str, error: JMESPathError) -> ExpressionInvalidAt:
    """Turn an error of jmespath's parser ("Expecting: rbracket, got: dot") into a readable one with its position."""
    reason, position = str(error), 0
    if not text.strip():
        reason = "the expression is empty"
    elif isinstance(error, IncompleteExpressionError):
        reason, position = "the expression ends too early", len(text.rstrip())
    elif isinstance(error, LexerError) and not error.message.startswith("Unknown token"):
        reason, position = error.message[:1].lower() + error.message[1:], error.lexer_position
    elif isinstance(error, ParseError):
        position = error.lex_position
        shown = _WORD.match(text, position)
        word = shown[0] if shown else ""
        before = text[:position].rstrip()
        hint = _HINTS.get(word)
        if word[:1].isdigit():
            hint = _QUOTES if before.endswith(".") else f"a number is written in backticks: `{word}`"
        elif word == "'" and before.endswith("["):
            hint = 'a key comes after a point: `a.b`, or `a."my key"`'
        elif not hint and _NAME.fullmatch(word) and _NAME.search(before[-1:]) and position > len(before):
            hint = 'a key with a space in it goes in double quotes: `"my key"`'
        reason = f"`{word}` cannot stand here" + (f"; {hint}" if hint else "")
        if not word:
            reason = "the expression ends too early"
        if error.msg.startswith("Quoted identifier not"):
            reason = "the name of a function is written without quotes"
    return ExpressionInvalidAt(reason, text, position)


def _refuse_deep_nesting(text: str, tokens: list[Token]) -> None:
    """Count the levels that jmespath's parser would recurse into, before it does."""
    # For each open bracket: itself, and the prefix operators and projections still open in it. A projection's right
    # side is read one level deeper than its left.
    open_levels = [0]
    for token in tokens:
        kind = token["type"]
        depth_here = 0
        if kind in _OPENING:
            open_levels.append(1)
        elif kind in _CLOSING and len(open_levels) > 1:
            open_levels.pop()
            open_levels[-1] += kind == "rbracket"
        elif kind in _DEEPER:
            open_levels[-1] += 1
        elif kind in _ENDS_A_PROJECTION:
            open_levels[-1] = min(open_levels[-1], int(len(open_levels) > 1))
        elif kind == "literal":
            depth_here = _depth_of(token["value"])
        else:
            continue
        if sum(open_levels) + depth_here > MAX_DEPTH:
            raise ExpressionInvalidAt(_TOO_DEEP, text, token["start"])


def _depth_of(literal: object) -> int:
    depth = 0
    level = [literal]
    while level := [
        inner
        for value in level
        if isinstance(value, dict | list)
        for inner in (value.values() if isinstance(value, dict) else value)
    ]:
        depth += 1
    return depth


class _TreeCopier:
    """One copy of jmespath's tree, made in the order of the text, so that nodes meet their tokens."""

    __slots__ = ("_calls", "_references", "_text")

    def __init__(self, text: str, tokens: list[Token]) -> None:
        self._text = text
        named = (name for name, after in pairwise(tokens) if after["type"] == "lparen")
        self._calls = iter([token for token in named if token["type"] == "unquoted_identifier"])
        self._references = iter([token for token in tokens if token["type"] == "expref"])

    def of(self, node: Node, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise ExpressionInvalidAt(_TOO_DEEP, self._text, 0)
        kind: str = node["type"]
        copied = {key: value for key, value in node.items() if key != "children"}
        if kind == "slice":
            return {**copied, "children": node["children"]}
        if kind == "function_expression":
            copied["start"] = self._token_start(self._calls, node["value"])
        elif kind == "expref":
            copied["start"] = self._token_start(self._references, "&")
        children = _chain_children(node) if kind in _CHAINS else node["children"]
        if kind == "filter_projection":
            # The tree has the condition last, the text has it second.
            base, right, condition = children
            base, condition, right = (self.of(child, depth + 1) for child in (base, condition, right))
            return {**copied, "children": [base, right, condition]}
        return {**copied, "children": [self.of(child, depth + 1) for child in children]}

    @staticmethod
    def _token_start(tokens: Iterator[Token], value: str) -> int:
        # To jmespath `(name)(argument)` is a call too, and it has no such token: its errors point at the start.
        token = next(tokens, None)
        return token["start"] if token is not None and token["value"] == value else 0


def _chain_children(node: Node) -> list[Node]:
    kind = node["type"]
    children: list[Node] = []
    while node["type"] == kind:
        node, right = node["children"]
        children.append(right)
    return [node, *reversed(children)]
