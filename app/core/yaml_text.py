"""Parse YAML text to plain values with the position of each, so that an error can point at a line and a column.

Built from ruamel.yaml's node tree and not from its ready-made objects: YAML 1.2 keeps `on` and `no` as text, and times
stay text here as well, since a transform's document is JSON in YAML syntax.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

Path = tuple[str | int, ...]

# A document is written by hand; what nests deeper is a mistake or an attack on the stack.
MAX_DEPTH = 50

_SURROGATE = re.compile("[\ud800-\udfff]")

# Aliases can be nested so that a kilobyte means a billion values; count values, not bytes.
MAX_VALUES = 20_000


class YamlInvalid(ValueError):
    """The text is not usable YAML. `line` and `column` count from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        self.line = line
        self.column = column
        super().__init__(message)


def value_at(value: Any, path: Path) -> Any:
    """Follow keys and indexes into a JSON value; None if one of them is not there."""
    for key in path:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return None
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlDocument:
    """A parsed text: its value, and the position of each part."""

    value: Any
    places: dict[Path, tuple[int, int]]
    """Path to (line, column), both counted from 1."""
    keys: dict[Path, tuple[int, int]]
    """The same for the keys of maps: the position of the key itself, not of its value."""
    unstorable: list[tuple[int, int, str]] = field(default_factory=list)
    r"""Line, column and sentence for each text that databases cannot store: `"\0"`, or a lone surrogate `"\ud83d"`."""

    def place(self, path: Path) -> tuple[int, int]:
        """Return where `path` begins; for a path that is not in the text, where its nearest parent begins."""
        while path not in self.places:
            path = path[:-1]
        return self.places[path]

    def key_place(self, path: Path) -> tuple[int, int]:
        """Return the position of the last key of `path`; for an index, where its value begins."""
        return self.keys.get(path) or self.place(path)


def parse_yaml(text: str) -> YamlDocument:
    """Parse one YAML 1.2 document of maps with text keys, lists, text, numbers, booleans and null.

    Raises:
        YamlInvalid: with line and column.

    """
    try:
        # Not "rt": it marks the folds of `>` text with BEL characters.
        reader = YAML(typ="safe", pure=True)
        # YAML allows it, and a warning has no place in a file.
        reader.composer.warn_double_anchors = False
        node = reader.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise YamlInvalid(str(error.problem or error.context), line, column) from error
    except ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - before.rfind("\n")
        raise YamlInvalid(f"the character U+{ord(text[error.position]):04X} cannot stand here", line, column) from error
    except RecursionError as error:
        raise YamlInvalid(f"nests deeper than {MAX_DEPTH} levels", 1, 1) from error
    except (YAMLError, ValueError) as error:
        raise YamlInvalid(f"not YAML: {type(error).__name__}", 1, 1) from error
    document = YamlDocument(value=None, places={(): (1, 1)}, keys={})
    return document if node is None else replace(document, value=_value(node, (), document))


def _value(node: Node, path: Path, document: YamlDocument) -> Any:
    places = document.places
    line, column = node.start_mark.line + 1, node.start_mark.column + 1
    places[path] = (line, column)
    if len(path) > MAX_DEPTH:
        raise YamlInvalid(f"nests deeper than {MAX_DEPTH} levels", line, column)
    if len(places) > MAX_VALUES:
        raise YamlInvalid(f"holds more than {MAX_VALUES} values", line, column)
    if isinstance(node, ScalarNode):
        return _scalar(node, line, column, document)
    if isinstance(node, SequenceNode):
        return [_value(item, (*path, index), document) for index, item in enumerate(node.value)]
    if isinstance(node, MappingNode):
        result: dict[str, Any] = {}
        for key_node, item in node.value:
            at = key_node.start_mark.line + 1, key_node.start_mark.column + 1
            if not isinstance(key_node, ScalarNode):
                raise YamlInvalid("a key must be text", *at)
            key = _text(key_node, *at, document)
            if key in result:
                raise YamlInvalid(f"the key {key!r} stands here twice", *at)
            document.keys[*path, key] = at
            result[key] = _value(item, (*path, key), document)
        return result
    raise YamlInvalid("this kind of YAML node is not used here", line, column)


def _text(node: ScalarNode, line: int, column: int, document: YamlDocument) -> str:
    r"""Return a scalar's text, surrogate pairs joined as in JSON; note in the document what cannot be stored."""
    text: str = node.value
    if "\0" in text:
        document.unstorable.append((line, column, "this holds a NUL character, which cannot be stored"))
    if not text.isascii() and _SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        if half := _SURROGATE.search(text):
            sentence = f"this holds \\u{ord(half[0]):04x}, half of a surrogate pair, which is no character"
            document.unstorable.append((line, column, sentence))
    return text


def _scalar(node: ScalarNode, line: int, column: int, document: YamlDocument) -> Any:
    kind = str(node.tag).rpartition(":")[2]
    text = _text(node, line, column, document)
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
