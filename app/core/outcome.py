"""The possible outcomes of a call and the reasons for them."""

from enum import StrEnum


class Outcome(StrEnum):
    """Every call ends with exactly one of these. received = stored + duplicate + conflict + ignored + rejected."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    IGNORED = "ignored"
    REJECTED = "rejected"

    # Enum's own __hash__ is a slow Python function, and each call is counted several times by its outcome.
    __hash__ = str.__hash__


class Reason(StrEnum):
    """Why a call ended as it did. A `stored` call has no reason."""

    DUPLICATE = "duplicate"
    CONFLICT = "conflict"

    NO_TRANSFORM = "no_transform"
    FILTERED = "filtered"
    DISABLED = "disabled"
    UNSUPPORTED_TYPE = "unsupported_type"

    NOT_AN_OBJECT = "not_an_object"
    TYPE_MISSING = "type_missing"
    EVENT_MISSING = "event_missing"
    EVENT_NOT_STRING = "event_not_string"
    PROPERTIES_NOT_OBJECT = "properties_not_object"
    CALL_TOO_LARGE = "call_too_large"
    INPUT_SCHEMA = "input_schema"
    TRANSFORM_ERROR = "transform_error"
    EVENT_INVALID = "event_invalid"
    UNSTORABLE = "unstorable"

    __hash__ = str.__hash__


REASONS_OF: dict[Outcome, tuple[Reason, ...]] = {
    Outcome.STORED: (),
    Outcome.DUPLICATE: (Reason.DUPLICATE,),
    Outcome.CONFLICT: (Reason.CONFLICT,),
    Outcome.IGNORED: (Reason.NO_TRANSFORM, Reason.FILTERED, Reason.DISABLED, Reason.UNSUPPORTED_TYPE),
    Outcome.REJECTED: (
        Reason.NOT_AN_OBJECT,
        Reason.TYPE_MISSING,
        Reason.EVENT_MISSING,
        Reason.EVENT_NOT_STRING,
        Reason.PROPERTIES_NOT_OBJECT,
        Reason.CALL_TOO_LARGE,
        Reason.INPUT_SCHEMA,
        Reason.TRANSFORM_ERROR,
        Reason.EVENT_INVALID,
        Reason.UNSTORABLE,
    ),
}
