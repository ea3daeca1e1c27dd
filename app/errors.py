"""Every error this program raises on purpose: one class per reason, and its docstring is the message.

`code` is the stable name that other programs see; it never changes once released. How an error is said over HTTP
stands in `app/web/errors.py`, how it is said on a terminal in `app/cli`.
"""

from typing import ClassVar


class SegmentLotusError(Exception):
    """Something went wrong in Segment-Lotus."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        super().__init__(self.message)


class SettingInvalid(SegmentLotusError):
    """A setting is missing or has a value that cannot be used."""

    code = "setting_invalid"


class NotFound(SegmentLotusError):
    """There is nothing by that name or id."""

    code = "not_found"


class BadQuery(SegmentLotusError):
    """A query parameter has a value that cannot be used."""

    code = "bad_query"


class Unavailable(SegmentLotusError):
    """The call cannot be stored now. Nothing was kept; send it again."""

    code = "unavailable"

    def __init__(self, message: str | None = None, *, detail: str = "") -> None:
        """`detail` is for the operator alone: terminals and logs show it by `str`, senders and pages the message."""
        super().__init__(message)
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.message}: {self.detail}" if self.detail else self.message


class RequestRefused(SegmentLotusError):
    """A request that is turned away as a whole. It holds no calls and is not in the ledger."""


class UnparsableJson(RequestRefused):
    """The body is not JSON."""

    code = "unparsable_json"


class TooLarge(RequestRefused):
    """The body is larger than MAX_BODY_BYTES."""

    code = "too_large"


class WrongPath(RequestRefused):
    """A request that was meant for Segment's webhook came to another path."""

    code = "wrong_path"


class SignatureMissing(RequestRefused):
    """The request has no X-Signature header and no other credential."""

    code = "signature_missing"


class SignatureMismatch(RequestRefused):
    """X-Signature is not the HMAC-SHA1 of this body under any of SEGMENT_SHARED_SECRETS."""

    code = "signature_mismatch"


class Unauthorized(RequestRefused):
    """The credential in the Authorization header is not known here."""

    code = "unauthorized"


class BatchNotFullyAuthenticated(RequestRefused):
    """The signature covers only the first call of this batch, and SEGMENT_REQUIRE_FULL_AUTH is set."""

    code = "batch_not_fully_authenticated"


class Forbidden(SegmentLotusError):
    """This is not allowed."""

    code = "forbidden"


class TooManyAttempts(SegmentLotusError):
    """This is not the admin token, and too many wrong ones came at this moment. The right one opens at any time."""

    code = "too_many_attempts"


class EditConflict(SegmentLotusError):
    """Somebody else changed this meanwhile. Nothing was overwritten."""

    code = "edit_conflict"


class ExpressionInvalid(SegmentLotusError):
    """The text is not a JMESPath expression that can be used."""

    code = "expression_invalid"


class CallFailed(SegmentLotusError):
    """A call cannot become an event."""

    reason: str
    """One of `app.core.outcome.Reason`."""

    def __init__(self, message: str | None = None, *, path: str = "", kind: str | None = None) -> None:
        """`path` is the place at fault, in the call, the event or the transform.

        `kind` is the message with an ellipsis for whatever differs from call to call; None: nothing does.
        """
        super().__init__(message)
        self.path = path
        self.kind = kind or self.message


class ExpressionFailed(CallFailed):
    """A JMESPath expression could not be evaluated on this call."""

    code = "expression_failed"
    reason = "transform_error"


class DocumentInvalid(SegmentLotusError):
    """A file cannot be used."""

    def __init__(
        self, message: str | None = None, *, place: tuple[int, int] | None = None, sentence: str | None = None
    ) -> None:
        """`place` is (line, column) in the text, both from 1; `sentence` the message without place and picture."""
        super().__init__(message)
        self.place = place
        self.sentence = sentence or self.message


class TransformInvalid(DocumentInvalid):
    """A transform file cannot be used."""

    code = "transform_invalid"


class MetricInvalid(DocumentInvalid):
    """A metric file cannot be used."""

    code = "metric_invalid"


class FileInvalid(SegmentLotusError):
    """A file of calls or events cannot be loaded."""

    code = "file_invalid"


class CallRejected(CallFailed):
    """A call that breaks a rule before any expression is evaluated."""

    code = "call_rejected"

    def __init__(self, reason: str, message: str, *, path: str = "", kind: str | None = None) -> None:
        super().__init__(message, path=path, kind=kind)
        self.reason = reason


class EventInvalid(CallFailed):
    """A mapped event breaks a rule of Lotus. `field` is the Lotus field at fault."""

    code = "event_invalid"
    reason = "event_invalid"

    def __init__(self, field: str, message: str, *, path: str | None = None, kind: str | None = None) -> None:
        """`path` is the place within the field, None for the field itself."""
        super().__init__(message, path=path or field, kind=kind)
        self.field = field
