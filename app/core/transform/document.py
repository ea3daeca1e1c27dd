"""Parse a transform's text into a checked document; errors name file, line and column, and show a caret."""

import difflib
import re
from collections.abc import Iterator
from typing import Any, ClassVar

import jsonschema_rs
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from app.core.jmespath.parser import ExpressionInvalidAt
from app.core.transform.schema import SCHEMA
from app.core.yaml_text import MAX_DEPTH, Path, YamlDocument, YamlInvalid, parse_yaml
from app.errors import DocumentInvalid, ExpressionInvalid, TransformInvalid

# What counts as the end of a line in YAML.
_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_SHOWN_CHARS = 120
_SHOWN_BEFORE = 60
_WHERE_CHARS = 200
_MESSAGE_CHARS = 500
_COMPARED_CHARS = 64

_CONST_ALONE = (
    "beside `const` nothing else can stand: a constant is {const: value}. For a property that is called const, write"
    " all of properties as one expression: '{const: properties.const, other: userId}'"
)


# Rules whose errors are about a key, not its value.
_OF_A_KEY = frozenset({"additionalProperties", "not"})


class SourceText:
    """One file: its name, its text, and its parsed document."""

    # Documents of another kind have another schema, and an error of their own.
    validator: ClassVar = Draft202012Validator(SCHEMA)
    # A hundred times as fast; the other one gives better error messages.
    quick_validator: ClassVar = jsonschema_rs.Draft202012Validator(SCHEMA)
    error: ClassVar[type[DocumentInvalid]] = TransformInvalid

    def __init__(self, name: str, text: str) -> None:
        """Parse and check `text`. Raises `error`."""
        self.name = name
        self.text = text
        self._lines = _LINE_END.split(text)
        try:
            self.document: YamlDocument = parse_yaml(text)
        except YamlInvalid as error:
            raise self._at(error.line, error.column, str(error)) from error
        try:
            problem = self._problem()
        except RecursionError:
            # The caller itself is deep in the stack: the same text might pass elsewhere, but is rejected anyway.
            raise self._at(1, 1, f"nests too deep; {MAX_DEPTH} levels are the most anywhere") from None
        if problem is not None:
            path, message = _describe_problem(problem)
            of_a_key = problem.validator in _OF_A_KEY
            line, column = self.document.key_place(path) if of_a_key else self.document.place(path)
            raise self._at(line, column, _with_path(path, message))

    def __repr__(self) -> str:
        return f"Source({self.name!r})"

    def list_unstorable(self) -> Iterator[DocumentInvalid]:
        """Yield an error for each text in it that cannot be stored: with a NUL character, or a lone surrogate."""
        for line, column, sentence in self.document.unstorable:
            yield self._at(line, column, sentence)

    def _problem(self) -> ValidationError | None:
        # The quick validator cannot read lone surrogates.
        if not self.document.unstorable and self.quick_validator.is_valid(self.document.value):
            return None
        return _deepest(list(self.validator.iter_errors(self.document.value)))

    @property
    def value(self) -> dict[str, Any]:
        """The parsed document."""
        value: dict[str, Any] = self.document.value
        return value

    def invalid(self, path: Path, message: str) -> DocumentInvalid:
        """Return the error for the value at `path` of the document."""
        line, column = self.document.place(path)
        return self._at(line, column, _with_path(path, message))

    def invalid_key(self, path: Path, message: str) -> DocumentInvalid:
        """Return the error for the last key of `path`, not for its value."""
        line, column = self.document.key_place(path)
        return self._at(line, column, _with_path(path, message))

    def invalid_expression(self, path: Path, error: ExpressionInvalid) -> DocumentInvalid:
        """Return the error for the expression at `path`, with the position inside it where that can be determined."""
        line, column = self.document.place(path)
        if isinstance(error, ExpressionInvalidAt) and "\n" not in error.text:
            # Plain, or right behind a quote; anything else is folded or escaped, and then the message has a picture
            # of the expression of its own.
            start = self._line(line).find(error.text, column - 1, column + len(error.text))
            if error.text and start >= 0:
                return self._at(line, start + error.column, _with_path(path, error.reason))
        return self._at(line, column, _with_path(path, error.message))

    def _line(self, line: int) -> str:
        return self._lines[line - 1] if 0 < line <= len(self._lines) else ""

    def _at(self, line: int, column: int, message: str) -> DocumentInvalid:
        shown = self._line(line)
        first = max(0, column - 1 - _SHOWN_BEFORE) if column > _SHOWN_CHARS else 0
        # A tab before the place stays a tab below it, so that the caret is right whatever a tab's width is.
        gap = "".join("\t" if char == "\t" else " " for char in shown[first : column - 1].ljust(column - 1 - first))
        picture = f"    {shown[first : first + _SHOWN_CHARS]}\n    {gap}^"
        full_text = f"{self.name}.yaml:{line}:{column}: {message}\n{picture}"
        # YAML can contain lone surrogates, which neither logs nor terminals accept.
        escaped_text, escaped_message = (
            text.encode("utf-8", "backslashreplace").decode() for text in (full_text, message)
        )
        return self.error(escaped_text, place=(line, column), sentence=escaped_message)


def _with_path(path: Path, message: str) -> str:
    where = ".".join(map(str, path))
    return f"{where[:_WHERE_CHARS]}: {message}" if where else message


def _deepest(problems: list[ValidationError]) -> ValidationError | None:
    """Return the most informative problem: of several alternatives that all fail, the one that matched furthest."""
    if not problems:
        return None
    deepest = max(problems, key=lambda problem: len(problem.absolute_path))
    while deepest.context:
        # An alternative of another type was not meant; the error is inside the one that was.
        other_types = {
            problem.schema_path[0] for problem in deepest.context if problem.validator == "type" and not problem.path
        }
        candidates = [problem for problem in deepest.context if problem.schema_path[0] not in other_types]
        if not candidates:
            break
        # `not` is the only rule of our schema that shows what was misunderstood, and not only that it fails.
        deepest = max(candidates, key=lambda problem: (problem.validator == "not", len(problem.absolute_path)))
    return deepest


def _describe_problem(problem: ValidationError) -> tuple[Path, str]:
    """Return the path and the sentence for a problem; of what was written, only keys are quoted."""
    path = tuple(problem.absolute_path)
    rule, expected, instance = problem.validator, problem.validator_value, problem.instance
    if rule == "additionalProperties":
        return _unknown_key(path, instance, list(problem.schema.get("properties", {})))
    if rule == "not":
        return (*path, "const"), _CONST_ALONE
    if rule == "required":
        return path, f"the key {next(key for key in expected if key not in instance)} is missing"
    return path, _sentence(rule, expected, instance) or problem.message[:_MESSAGE_CHARS]


def _unknown_key(path: Path, instance: dict[str, Any], allowed: list[str]) -> tuple[Path, str]:
    unknown = next(key for key in instance if key not in allowed)
    if allowed == ["const"]:
        return (*path, unknown), _CONST_ALONE
    hint = _nearest(unknown, allowed) or f"known here: {', '.join(allowed)}"
    return (*path, unknown), f"there is no such key; {hint}"


def _sentence(rule: str, expected: Any, instance: Any) -> str | None:
    if rule == "enum":
        near = _nearest(str(instance), expected)
        return f"must be one of {', '.join(expected)}" + (f"; {near}" if near else "")
    if rule == "type":
        return f"must be {_kinds([expected] if isinstance(expected, str) else expected)}"
    if rule == "oneOf":
        return f"must be {_kinds([schema['type'] for schema in expected if isinstance(schema.get('type'), str)])}"
    return "must not be empty" if rule in {"minLength", "minItems"} else None


def _nearest(word: str, choices: list[str]) -> str | None:
    near = difflib.get_close_matches(word[:_COMPARED_CHARS], choices, n=1)
    return f"did you mean {near[0]}?" if near else None


_KINDS = {
    "string": "text",
    "object": "a map",
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
}


def _kinds(types: list[str]) -> str:
    return " or ".join(dict.fromkeys(_KINDS.get(name, name) for name in types))
