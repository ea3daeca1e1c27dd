"""A call on its way into the database."""

from hashlib import sha256
from typing import Any

import msgspec

from app.core import native
from app.core.fault import Fault
from app.core.outcome import Outcome, Reason
from app.core.pipeline import Run
from app.core.segment import Call, parse_call, read

KEY_MAX = 255
"""Characters of the longest key."""

_KEPT = KEY_MAX - 65


def to_key(text: str | None) -> str | None:
    """Return what a sender wrote as text that either database can index, None for None.

    That is the text itself; where it has a NUL, half a surrogate pair or more than KEY_MAX characters, its clean
    beginning and its SHA-256, so it is as unique as it was. (A transform's event keeps these rules by itself.)
    """
    if text is None or (len(text) <= KEY_MAX and text.isascii() and "\0" not in text):
        return text
    clean = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
    if clean == text and len(text) <= KEY_MAX:
        return text
    return f"{clean[:_KEPT]}~{sha256(text.encode(errors='surrogatepass')).hexdigest()}"


def to_detail(sentence: str) -> str:
    """Return a sentence as both databases accept it: it may quote a sender."""
    if sentence.isascii() and "\0" not in sentence:
        return sentence
    return sentence.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


class EventResult(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What became of one event of a call."""

    lane: str
    position: int
    idempotency_id: str
    result: Outcome
    """stored, duplicate or conflict."""
    rival: int | None = None
    """Id of the call whose event was there first."""
    event: dict[str, Any] | msgspec.Raw | None = None
    """The event as it would have been, for a conflict: kept and shown, not counted."""


class _CallState(msgspec.Struct, kw_only=True, gc=False):
    """The part of a call that `settle` fills in, and the lanes that a replay gives it."""

    outcome: Outcome | None = None
    reason: Reason | None = None
    detail: str | None = None
    fault: Fault | None = None
    """What it has in common with other calls that fail like it; None if it made its events, or another call did."""
    results: tuple[EventResult, ...] = ()
    made_lanes: frozenset[str] = frozenset()
    """The lanes in which it made events before, given by a replay: it claims nothing for them any more."""


class MappedCall(_CallState, gc=False):
    """A call and its run, as far as `settle` needs to know it; what only the database knows is filled in there."""

    id: int
    received_at: int
    run: Run
    message_id: str | None
    user_id: str | None

    @property
    def message_key(self) -> str | None:
        """Return the message id as it stands in indexes."""
        return to_key(self.message_id)

    def find_call(self) -> Call | None:
        """Return the call; None if it could not be read, or is an event in Lotus's own form."""
        return self.run.call

    @property
    def customer_id(self) -> str | None:
        """Return the customer of its first event, else the call's own user id."""
        return self.run.lanes[0].events[0].customer_id if self.run.lanes else self.user_id


def unstorable(run: Run | None, refusal: Exception) -> Run:
    """Return the run of a call, in place of `run`, that holds a value which the database refuses."""
    sentence = "the database does not take a value of this call"
    return Run.ended(
        Outcome.REJECTED,
        Reason.UNSTORABLE,
        f"{sentence} ({refusal})",
        fault=Fault("", sentence),
        transform=run.transform if run else None,
        digest=run.digest if run else None,
    )


class Record(MappedCall, gc=False):
    """A new call with all that is to be stored about it."""

    request_id: int
    position: int
    route: str
    raw: bytes
    type: str | None
    event: str | None
    mapped_after: int | None = None
    """Microseconds after it was received, as all that is called so."""

    def find_call(self) -> Call | None:
        """Return the call, parsed again if another process ran the pipeline and kept the document."""
        if self.run.call is None and self.run.lanes and self.run.transform != native.NAME:
            return parse_call(self.raw, read(self.raw))
        return self.run.call


class Request(msgspec.Struct):
    """What the calls of one request share."""

    id: int
    received_at: int
    auth: str
    shape: str
    envelope: bytes | None
    records: list[Record]
    """All of its calls, or those of one part of it."""
    began: int | None = None
    """When it was received, by `monotonic_micros`; None: nobody looked, and no time of a step is known."""
    verified_after: int | None = None
    parsed_after: int | None = None
    continued: bool = False
    """An earlier part of it was stored, and with that the request itself."""

    def next_part(self) -> "Request":
        """Return the part that follows one that was stored; it has no calls yet."""
        return msgspec.structs.replace(self, records=[], continued=True)
