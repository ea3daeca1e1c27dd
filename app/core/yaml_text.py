"""YAML text to plain values, with the place of every one, so that an error can point at a line and a column.

Read from ruamel.yaml's node tree and not from its ready-made objects: YAML 1.2 keeps `on` and `no` as text, and we
also keep times as text, since a transform's document is JSON in other clothes.
"""

from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

Path = tuple[str | int, ...]

# A document is written by hand; what nests deeper is a mistake or an attack on the stack.
MAX_DEPTH = 50

# Aliases can be nested so that a kilobyte means a billion values; count values, not bytes.
MAX_VALUES = 20_000


class YamlInvalid(ValueError):
    """The text is no YAML that can be used. `line` and `column` count from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        self.line = line
        self.column = column
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlDocument:
    """A parsed text: its value, and where each part of it begins."""

    value: Any
    places: dict[Path, tuple[int, int]]
    """Path to (line, column), both counted from 1."""

    def place(self, path: Path) -> tuple[int, int]:
        """Say where `path` begins; for a path that is not in the text, where its nearest parent begins."""
        while path not in self.places:
            path = path[:-1]
        return self.places[path]


def parse_yaml(text: str) -> YamlDocument:
    """Parse one YAML 1.2 document of maps with text keys, lists, text, numbers, booleans and null.

    Raises:
        YamlInvalid: with line and column.

    """
    try:
        # Not "rt": it marks the folds of `>` text with BEL characters.
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise YamlInvalid(str(error.problem or error.context), line, column) from error
    except RecursionError as error:
        raise YamlInvalid(f"nests deeper than {MAX_DEPTH} levels", 1, 1) from error
    except (YAMLError, ValueError) as error:
        raise YamlInvalid(f"not YAML: {type(error).__name__}", 1, 1) from error
    places: dict[Path, tuple[int, int]] = {(): (1, 1)}
    value = None if node is None else _value(node, (), places)
    return YamlDocument(value=value, places=places)


def _value(node: Node, path: Path, places: dict[Path, tuple[int, int]]) -> Any:
    line, column = node.start_mark.line + 1, node.start_mark.column + 1
    places[path] = (line, column)
    if len(path) > MAX_DEPTH:
        raise YamlInvalid(f"nests deeper than {MAX_DEPTH} levels", line, column)
    if len(places) > MAX_VALUES:
        raise YamlInvalid(f"holds more than {MAX_VALUES} values", line, column)
    if isinstance(node, ScalarNode):
        return _scalar(node, line, column)
    if isinstance(node, SequenceNode):
        return [_value(item, (*path, index), places) for index, item in enumerate(node.value)]
    if isinstance(node, MappingNode):
        result: dict[str, Any] = {}
        for key_node, item in node.value:
            at = key_node.start_mark.line + 1, key_node.start_mark.column + 1
            if not isinstance(key_node, ScalarNode):
                raise YamlInvalid("a key must be text", *at)
            key = key_node.value
            if key in result:
                raise YamlInvalid(f"the key {key!r} stands here twice", *at)
            result[key] = _value(item, (*path, key), places)
        return result
    raise YamlInvalid("this kind of YAML node is not used here", line, column)


def _scalar(node: ScalarNode, line: int, column: int) -> Any:
    kind = str(node.tag).rpartition(":")[2]
    text = node.value
    if kind == "null":
        return None
    if kind == "bool" and text.lower() in {"true", "false"}:
        # A document that asks for YAML 1.1 has more spellings; they stay text like everywhere else.
        return text.lower() == "true"
    if kind in {"int", "float"}:
        try:
            if kind == "float":
                return float(text)
            return int(text, 0) if text[:2] in {"0x", "0o"} else int(text)
        except ValueError as error:
            raise YamlInvalid(f"{text!r} is no number; put quotes around it if it is text", line, column) from error
    return text
