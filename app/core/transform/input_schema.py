"""`input_schema`: a JSON Schema (draft 2020-12) that calls must keep, checked before anything is mapped.

jsonschema_rs checks calls, with regular expressions in linear time and without ever fetching a document; jsonschema
checks the schema itself, for its better error messages. The limits on what a schema may cost are in `schema_limits`.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import jsonschema_rs
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match

from app.core.outcome import Reason
from app.core.transform.schema_graph import Unbounded
from app.core.transform.schema_limits import Weight, weigh
from app.core.yaml_text import Path
from app.errors import CallRejected

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCES = ("$ref", "$dynamicRef")

# A hundred times as fast as jsonschema, which is used only for schemas that are invalid.
_META = jsonschema_rs.Draft202012Validator(Draft202012Validator.META_SCHEMA, offline=True)

# Rules whose value the error sentence shows: it comes from the file, and reveals nothing about the call.
_THE_CALL = "the call"
_SHOWN = frozenset({
    "type", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength",
    "minItems", "maxItems", "pattern", "multipleOf",
})  # fmt: skip
_SHOWN_CHARS = 200
_ALTERNATIVES = ("anyOf", "oneOf")
_UNEVALUATED = frozenset({"unevaluatedProperties", "unevaluatedItems"})
_NO_PATTERN = "is no regular expression that runs in linear time (there is no looking around and no going back in it)"


class SchemaUnusable(ValueError):
    """The schema cannot be used; `path` is the place in it."""

    def __init__(self, path: Path, message: str) -> None:
        self.path = path
        super().__init__(message)


class InputCheck:
    """A compiled schema."""

    def __init__(self, schema: Any) -> None:
        """Compile. Raises SchemaUnusable if it is no JSON Schema, or refers to other documents.

        A schema that costs too much is compiled all the same, since it may already be live: `excess` is the error for
        publishing it, and `verify` rejects each call that could take too long.
        """
        _refuse_external_references(schema, ())
        try:
            if not _META.is_valid(schema):
                problem = best_match(Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema))
                if problem is not None:
                    raise SchemaUnusable(tuple(problem.absolute_path), problem.message[:_SHOWN_CHARS])
            self.excess, self._weight = _weigh(schema)
            self._validator = self._explainer = None
            if self._weight is not None:
                self._validator = _compile(schema)
                self._explainer = _explainer(schema, self._validator)
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, SchemaError) as error:
            path = tuple(getattr(error, "instance_path", ()))
            if "pattern" in path or "patternProperties" in path:
                raise SchemaUnusable(path, _NO_PATTERN) from error
            message = str(getattr(error, "message", error)).partition("\n")[0][:_SHOWN_CHARS]
            raise SchemaUnusable(path, f"this schema cannot be used: {message}") from error
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            if isinstance(error, SchemaUnusable):
                raise
            raise SchemaUnusable((), f"this schema cannot be used ({type(error).__name__})") from error
        self._guard = None if self._weight is None or self._weight.is_free else self._weight.verify

    def verify(self, document: dict[str, Any]) -> None:
        """Raise CallRejected (input_schema) with the path of the first error. No value of the call is quoted."""
        if self._guard is not None:
            self._guard(document)
        if self._validator is None:
            raise CallRejected(Reason.INPUT_SCHEMA, "no call can be checked by input_schema, which costs too much")
        try:
            if self._validator.is_valid(document):
                return
            if self._explainer is not None:
                self._explainer.validate(document)
        except jsonschema_rs.ValidationError as error:
            steps = error.instance_path
            where = ".".join(map(str, steps))[:_SHOWN_CHARS]
            everywhere = ".".join("*" if isinstance(step, int) else step for step in steps)[:_SHOWN_CHARS]
            rule = f"breaks input_schema: {_describe_rule(error)}"
            raise CallRejected(
                Reason.INPUT_SCHEMA,
                f"{where or _THE_CALL} {rule}",
                path=".".join(filter(None, (everywhere, _missing_key(error)))),
                kind=f"{everywhere or _THE_CALL} {rule}",
            ) from None
        except (ValueError, TypeError, OverflowError) as error:
            sentence = f"the call cannot be checked by input_schema ({type(error).__name__})"
            raise CallRejected(Reason.INPUT_SCHEMA, sentence) from None
        raise CallRejected(Reason.INPUT_SCHEMA, "the call breaks input_schema")


def _weigh(schema: Any) -> tuple[SchemaUnusable | None, Weight | None]:
    """Return why a schema must not be published, if so, and its weight; None if the weight is unbounded."""
    try:
        weight = weigh(schema)
    except Unbounded as error:
        return SchemaUnusable(error.path, str(error)), None
    excess = weight.excess()
    return SchemaUnusable(excess.path, str(excess)) if excess is not None else None, weight


def _compile(schema: Any) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(
        schema, pattern_options=jsonschema_rs.RegexOptions(), offline=True, mask=""
    )


def _explainer(schema: Any, validator: jsonschema_rs.Draft202012Validator) -> jsonschema_rs.Draft202012Validator | None:
    """Return the validator that explains why a call breaks the schema; None if explaining would cost too much.

    For `anyOf` and `oneOf` jsonschema_rs collects every failure of every alternative, a thousand times the work of the
    check, while only the name of the rule is reported: so they are wrapped in a `not` of `not`, which only gives yes or
    no. That would hide from `unevaluatedProperties` which keys they have evaluated.
    """
    keys = set(_keys(schema))
    if keys.isdisjoint(_ALTERNATIVES):
        return validator
    if not keys.isdisjoint(_UNEVALUATED):
        return None
    try:
        return _compile(_with_boolean_alternatives(schema))
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError):
        # A `$ref` leads into one of them.
        return None


def _keys(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema
    for inner in _children(schema):
        yield from _keys(inner)


def _children(schema: Any) -> Iterable[Any]:
    return schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()


def _with_boolean_alternatives(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_with_boolean_alternatives(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    ways = [{"not": {"not": {key: schema[key]}}} for key in _ALTERNATIVES if isinstance(schema.get(key), list)]
    other_rules = {
        key: _with_boolean_alternatives(inner)
        for key, inner in schema.items()
        if key not in _ALTERNATIVES or not isinstance(inner, list)
    }
    return {**other_rules, "allOf": [*other_rules.get("allOf", ()), *ways]} if ways else other_rules


def _refuse_external_references(schema: Any, path: Path) -> None:
    """Refuse references to other documents: a transform consists of its own file only."""
    if isinstance(schema, dict):
        for key, inner in schema.items():
            if key in _REFERENCES and isinstance(inner, str) and not inner.startswith("#"):
                message = f"{key} {inner[:100]!r} leads out of the file; only references that begin with # are followed"
                raise SchemaUnusable((*path, key), message)
            if key == "$schema" and path == () and inner != _DRAFT:
                raise SchemaUnusable((key,), f"only draft 2020-12 is known here ({_DRAFT}); leave $schema out")
            _refuse_external_references(inner, (*path, key))
    elif isinstance(schema, list):
        for index, inner in enumerate(schema):
            _refuse_external_references(inner, (*path, index))


def _missing_key(error: jsonschema_rs.ValidationError) -> str | None:
    kind: Any = error.kind
    return str(kind.property) if kind.name == "required" else None


def _describe_rule(error: jsonschema_rs.ValidationError) -> str:
    """Describe the rule that is broken, never the value."""
    kind: Any = error.kind
    if kind.name == "required":
        return f"`{kind.property}` is required"
    if not {"additionalProperties", "unevaluatedProperties"}.isdisjoint(error.schema_path):
        return "it has a key that is not known"
    if kind.name == "falseSchema":
        return "nothing may stand there"
    if kind.name == "not" and isinstance(kind.schema, dict) and isinstance(ways := kind.schema.get("not"), dict):
        return f"rule {next(iter(ways), 'not')}"
    if kind.name in _SHOWN:
        expected = next(iter(kind.as_dict().values()), None)
        return f"{kind.name} {_expected_text(expected)}"[:_SHOWN_CHARS]
    return f"rule {kind.name}"


def _expected_text(expected: Any) -> str:
    return ", ".join(map(str, expected)) if isinstance(expected, list) else str(expected)
