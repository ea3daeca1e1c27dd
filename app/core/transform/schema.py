"""The JSON Schema of a transform file: editors use it for completion, `SourceText` for validation."""

from typing import Any

from app.core.outcome import Outcome, Reason

FIELDS = ("event_name", "idempotency_id", "customer_id", "time_created", "properties")

_EXPRESSION = {"type": "string", "minLength": 1, "description": "A JMESPath expression over the Segment call."}
_CONSTANT = {
    "type": "object",
    "required": ["const"],
    "additionalProperties": False,
    "properties": {"const": {}},
    "description": "A value as it stands: {const: api_call}.",
}
_NAMES = {
    "oneOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
    ]
}
# What an example may expect in place of events.
_ENDS = list(dict.fromkeys([*map(str, Outcome), *map(str, Reason)]))

_FIELD = {"oneOf": [_EXPRESSION, _CONSTANT]}

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "A Segment-Lotus transform",
    "description": "Turns the Segment calls it takes into Lotus events. One file per event.",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "description": {"type": "string", "description": "What it is for, in a line."},
        "enabled": {"type": "boolean", "description": "false: the calls it takes are ignored (disabled)."},
        "priority": {
            "type": "integer",
            "description": "Of several that take a call, the highest goes first; among equals, the name.",
        },
        "also": {"type": "boolean", "description": "true: adds its events to those of others, in a lane of its own."},
        "match": {
            "type": "object",
            "additionalProperties": False,
            "description": "Which calls it takes.",
            "properties": {
                "type": {
                    "enum": ["track", "identify", "page", "screen", "group", "alias", "delete"],
                    "description": "The type of call; track where it is left out.",
                },
                "event": {**_NAMES, "description": "A name, a list of names, or a pattern with * and ?."},
                "source": {**_NAMES, "description": "The source's projectId, or several."},
            },
        },
        "when": {**_EXPRESSION, "description": "Calls for which this gives false or null are ignored (filtered)."},
        "each": {**_EXPRESSION, "description": "One event for each item; `event` then sees `item` and `index`."},
        "input_schema": {
            "type": ["object", "boolean"],
            "description": "A JSON Schema (draft 2020-12); a call that breaks it is rejected.",
        },
        "lookup": {
            "type": "object",
            "additionalProperties": {"type": "object"},
            "description": "Tables by name, for lookup('table', key).",
        },
        "event": {
            "description": "The Lotus event: an expression for each field, or one for all of it.",
            "oneOf": [
                _EXPRESSION,
                {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        **dict.fromkeys(FIELDS, _FIELD),
                        "properties": {"$ref": "#/$defs/properties"},
                    },
                },
            ],
        },
        "examples": {
            "type": "array",
            "description": "Calls, and what is to become of them; `segment-lotus check` runs them.",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["given", "expect"],
                "properties": {
                    "name": {"type": "string"},
                    "given": {"type": "object", "description": "A call; fields that do not matter may be left out."},
                    "received_at": {"type": "string", "description": "When the call came, for received_at()."},
                    "expect": {
                        "description": "The event, a list of events, or a reason: filtered, event_invalid, ...",
                        "oneOf": [
                            {"type": "string", "enum": _ENDS},
                            {"$ref": "#/$defs/event"},
                            {"type": "array", "items": {"$ref": "#/$defs/event"}},
                        ],
                    },
                },
            },
        },
    },
    "$defs": {
        "event": {
            "type": "object",
            "additionalProperties": False,
            "properties": {field: {} for field in FIELDS},
        },
        "properties": {
            "description": "An expression, a map of them (maps may nest), or * for all properties.",
            "oneOf": [
                _EXPRESSION,
                _CONSTANT,
                {
                    "type": "object",
                    "not": {"required": ["const"]},
                    "properties": {
                        "*": {
                            "type": ["object", "null"],
                            "additionalProperties": False,
                            "description": "All properties of the call, some renamed, some dropped.",
                            "properties": {
                                "rename": {"type": "object", "additionalProperties": {"type": "string"}},
                                "drop": {"type": "array", "items": {"type": "string"}},
                            },
                        }
                    },
                    "additionalProperties": {"$ref": "#/$defs/properties"},
                },
            ],
        },
    },
}
