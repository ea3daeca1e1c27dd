"""What became of each event of a call, as it stands in `calls.results`: one writer, one reader."""

from collections.abc import Sequence
from typing import Any

import msgspec

from app.core.json_spans import split_array, split_object
from app.core.json_text import decode, encode
from app.core.outcome import Outcome
from app.errors import UnparsableJson
from app.store.record import EventResult


class StoredResult(msgspec.Struct, frozen=True):
    """What became of one event of a call."""

    lane: str
    position: int
    idempotency_id: str
    result: Outcome
    rival: int | None = None
    """Id of the call whose event was there first."""
    event: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """JSON of the event as it would have been, for a conflict."""

    def read_event(self) -> dict[str, Any] | None:
        """Return the event as JSON values; None where there is none.

        Its properties may nest as deep as `decode` reads, so each member is read by itself.
        """
        if self.event is msgspec.UNSET:
            return None
        return {name: decode(value) for name, value in split_object(bytes(self.event)).items()}


_decode = msgspec.json.Decoder(tuple[StoredResult, ...]).decode


def results_text(results: Sequence[EventResult]) -> str | None:
    """Return results as JSON; None where there are none."""
    return encode(results).decode() if results else None


def read_results(text: str) -> tuple[StoredResult, ...]:
    """Return what `results_text` wrote; an event in it stays the JSON it was. Raises UnparsableJson."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        # Mostly half of a surrogate pair in an event.
        return _read_tolerantly(text)


def _read_tolerantly(text: str) -> tuple[StoredResult, ...]:
    try:
        return tuple(map(_read_one, split_array(text.encode())))
    except (UnparsableJson, msgspec.ValidationError, UnicodeEncodeError) as error:
        why = type(error).__name__
        raise UnparsableJson(f"what became of its events cannot be read: it is damaged ({why})") from None


def _read_one(element: bytes) -> StoredResult:
    members = split_object(element)
    event = members.pop("event", None)
    result = msgspec.convert({name: decode(value) for name, value in members.items()}, StoredResult)
    return result if event is None else msgspec.structs.replace(result, event=msgspec.Raw(event))


def to_event_results(text: str | None) -> tuple[EventResult, ...]:
    """Return what `results_text` wrote, to be written again. Raises UnparsableJson."""
    # Raw, and not a decoded event: its numbers are written again as they were.
    return tuple(
        EventResult(
            result.lane,
            result.position,
            result.idempotency_id,
            result.result,
            result.rival,
            None if result.event is msgspec.UNSET else result.event,
        )
        for result in (read_results(text) if text is not None else ())
    )
