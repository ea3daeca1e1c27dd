"""JMESPath text to a tree: jmespath's own parser, with limits before it and errors that point at the place.

The tree is jmespath's (`{"type", "children", "value"}`), changed in three ways: it is a copy (jmespath caches its own),
chains of `||`, `&&` and `|` are one node with many children, and a function call knows its `start` in the text.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, ClassVar, TypeAlias

from jmespath.exceptions import (
    EmptyExpressionError,
    IncompleteExpressionError,
    JMESPathError,
    LexerError,
    ParseError,
)
from jmespath.lexer import Lexer
from jmespath.parser import Parser

from app.errors import ExpressionInvalid

Node: TypeAlias = dict[str, Any]
Token: TypeAlias = dict[str, Any]

# Longer than any mapping a person has written, and short enough that reading it takes milliseconds.
MAX_EXPRESSION_CHARS = 10_000

# jmespath's parser uses up to four stack frames a level and Python's default limit is 1,000: 120 levels leave half of
# the stack to the caller, and are more than the deepest of JMESPath's own compliance cases (104 projections).
MAX_DEPTH = 120

_OPENING = frozenset({"lparen", "lbracket", "lbrace", "filter"})
_CLOSING = frozenset({"rparen", "rbracket", "rbrace"})
_DEEPER = frozenset({"not", "expref", "star"})
_ENDS_A_PROJECTION = frozenset({"comma", "pipe", "or", "and"})
_CHAINS = frozenset({"or_expression", "and_expression", "pipe"})

# What an error shows of a long line, on each side of the place.
_SHOWN_CHARS = 60


class ExpressionInvalidAt(ExpressionInvalid):
    """An expression that cannot be used, and the place in its text: `line` and `column` count from 1."""

    code: ClassVar[str] = ExpressionInvalid.code

    def __init__(self, reason: str, text: str, position: int) -> None:
        before = text[:position]
        start = before.rfind("\n") + 1
        end = text.find("\n", position)
        shown_from = max(start, position - _SHOWN_CHARS)
        shown = text[shown_from : min(len(text) if end < 0 else end, position + _SHOWN_CHARS)]
        # A tab before the place stays a tab under it, so that the caret is right whatever a tab's width is.
        gap = "".join("\t" if char == "\t" else " " for char in text[shown_from:position])
        self.reason = reason
        self.text = text
        self.line = before.count("\n") + 1
        self.column = position - start + 1
        where = f"column {self.column}" if self.line == 1 else f"line {self.line}, column {self.column}"
        super().__init__(f"{reason} ({where})\n  {shown.rstrip()}\n  {gap}^")


def parse(text: str) -> Node:
    """Take JMESPath text; give its tree.

    Raises:
        ExpressionInvalidAt: the text is no JMESPath, is too long, or is nested too deeply.
    """
    if len(text) > MAX_EXPRESSION_CHARS:
        reason = f"the expression has {len(text):,} characters, and {MAX_EXPRESSION_CHARS:,} is the limit"
        raise ExpressionInvalidAt(reason, text, MAX_EXPRESSION_CHARS)
    try:
        tokens = list(Lexer().tokenize(text))
        _refuse_deep_nesting(text, tokens)
        return _Tree(text, tokens).copy(Parser().parse(text).parsed, 1)
    except EmptyExpressionError:
        raise ExpressionInvalidAt("the expression is empty", text, 0) from None
    except LexerError as error:
        raise ExpressionInvalidAt(_sentence(error.message), text, error.lexer_position) from None
    except IncompleteExpressionError:
        reason = "the expression ends too early" if text.strip() else "the expression is empty"
        raise ExpressionInvalidAt(reason, text, len(text.rstrip())) from None
    except ParseError as error:
        shown = text[error.lex_position : error.lex_position + 1]
        # jmespath says these two of whatever it did not expect; the token is worth more than the words.
        vague = error.msg in ("invalid token", "syntax error")
        reason = f"`{shown}` cannot stand here" if vague and shown else _sentence(error.msg)
        raise ExpressionInvalidAt(reason, text, error.lex_position) from None
    except JMESPathError as error:
        raise ExpressionInvalidAt(_sentence(str(error)), text, 0) from None
    except ValueError:
        # int() refuses more than 4,300 digits, inside jmespath's lexer.
        raise ExpressionInvalidAt("a number in the expression has too many digits", text, 0) from None
    except RecursionError:
        # Only when the caller itself stands deep in the stack, or in a literal nested a thousand deep.
        raise ExpressionInvalidAt(_too_deep(), text, 0) from None


def _sentence(message: str) -> str:
    return message[:1].lower() + message[1:]


def _too_deep() -> str:
    return f"the expression is nested more than {MAX_DEPTH} levels deep"


def _refuse_deep_nesting(text: str, tokens: list[Token]) -> None:
    """Count the levels that jmespath's parser would recurse into, before it does."""
    # One counter per open bracket: the prefix operators and projections that are still open inside it. A projection's
    # right side is read one level deeper than its left.
    open_levels = [0]
    depth = 0
    for token in tokens:
        kind = token["type"]
        if kind in _OPENING:
            open_levels.append(1)
            depth += 1
        elif kind in _CLOSING and len(open_levels) > 1:
            depth -= open_levels.pop()
            if kind == "rbracket":
                open_levels[-1] += 1
                depth += 1
        elif kind in _DEEPER:
            open_levels[-1] += 1
            depth += 1
        elif kind in _ENDS_A_PROJECTION:
            bracket = int(len(open_levels) > 1)
            depth -= open_levels[-1] - bracket
            open_levels[-1] = bracket
        elif kind == "literal":
            depth_here = depth + _depth_of(token["value"])
            if depth_here > MAX_DEPTH:
                raise ExpressionInvalidAt(_too_deep(), text, token["start"])
        if depth > MAX_DEPTH:
            raise ExpressionInvalidAt(_too_deep(), text, token["start"])


def _depth_of(value: object) -> int:
    depth = 0
    level = [value]
    while level := [
        child
        for item in level
        if isinstance(item, dict | list)
        for child in (item.values() if isinstance(item, dict) else item)
    ]:
        depth += 1
    return depth


class _Tree:
    """One copy of jmespath's tree, made from the top; the depth is checked on the way."""

    __slots__ = ("_calls", "_text")

    def __init__(self, text: str, tokens: list[Token]) -> None:
        self._text = text
        self._calls: Iterator[Token] = iter(
            [name for name, after in pairwise(tokens) if after["type"] == "lparen" and name["type"].endswith("identifier")]
        )

    def copy(self, node: Node, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise ExpressionInvalidAt(_too_deep(), self._text, 0)
        kind: str = node["type"]
        copied = {"type": kind, **({"value": node["value"]} if "value" in node else {})}
        if kind == "slice":
            return {**copied, "children": node["children"]}
        if kind == "function_expression":
            copied["start"] = self._start_of(node["value"])
        children = self._unchained(node) if kind in _CHAINS else node["children"]
        if kind == "filter_projection":
            # Copied in the order of the text (base, condition, right side), so that calls meet their tokens.
            base, right, condition = children
            base, condition, right = (self.copy(child, depth + 1) for child in (base, condition, right))
            return {**copied, "children": [base, right, condition]}
        return {**copied, "children": [self.copy(child, depth + 1) for child in children]}

    def _start_of(self, name: str) -> int:
        # `(name)(argument)` is a call too, to jmespath, and has no such token: its error then points at the start.
        token = next(self._calls, None)
        return token["start"] if token is not None and token["value"] == name else 0

    @staticmethod
    def _unchained(node: Node) -> list[Node]:
        kind = node["type"]
        children: list[Node] = []
        while node["type"] == kind:
            node, right = node["children"]
            children.append(right)
        return [node, *reversed(children)]
