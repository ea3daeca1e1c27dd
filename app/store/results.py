"""The results of the events of a call, as stored in `calls.results`: one writer, one reader."""

from collections.abc import Sequence
from typing import Any

import msgspec

from app.core.json_spans import split_array, split_object
from app.core.json_text import decode, encode
from app.core.outcome import Outcome
from app.errors import UnparsableJson
from app.store.record import EventResult


class StoredResult(msgspec.Struct, frozen=True):
    """The result of one event of a call."""

    lane: str
    position: int
    idempotency_id: str
    result: Outcome
    rival: int | None = None
    """Id of the call whose event was stored first."""
    event: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """For a conflict, the JSON of the event that was not stored."""

    def read_event(self) -> dict[str, Any] | None:
        """Return the event as JSON values; None if there is none.

        Each member is decoded separately, since its properties may nest as deep as `decode` reads.
        """
        if self.event is msgspec.UNSET:
            return None
        return {name: decode(value) for name, value in split_object(bytes(self.event)).items()}


_decode = msgspec.json.Decoder(tuple[StoredResult, ...]).decode


def results_text(results: Sequence[EventResult]) -> str | None:
    """Return results as JSON; None if there are none."""
    return encode(results).decode() if results else None


def read_results(text: str) -> tuple[StoredResult, ...]:
    """Parse what `results_text` wrote; events stay JSON. Raises UnparsableJson."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        # Usually half of a surrogate pair in an event.
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
    """Parse what `results_text` wrote, to write it again. Raises UnparsableJson."""
    # Events stay raw JSON, so that their numbers keep their form.
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
