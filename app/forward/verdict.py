"""Interprets an answer of Lotus for the events of the request. Values in, values out.

201 is not enough: the body says which events failed. A reason is about the event and final, or it is temporary; what is
not about an event (the key, the broker, the server, the network) is a trouble of the whole destination. So is an answer
that is not one of Lotus: an event counts as delivered only if a 2xx says so explicitly. No answer makes this raise.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

INVALID_JSON = "Invalid JSON"
_OUTSIDE = (
    "Time created too far in the past or future. Events must be within 30 days before or 1 day ahead of current time."
)
PERMANENT = frozenset({"No idempotency_id provided", "No customer_id provided", "Invalid time_created", _OUTSIDE})

KEY, BROKER, SERVER, BUSY, NETWORK, ANSWER = "key", "broker", "server", "busy", "network", "answer"
"""The troubles, one word each."""

_BROKER_SAYS = "Failed to produce event to kafka"
_KEY_SAYS = {"No API key found in request", "Invalid API key"}
_QUOTED = 200
_LONGEST_WAIT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class LotusAnswer:
    """The answer to one request."""

    status: int | None
    """None: there was no answer."""
    body: bytes
    """If there was no answer, what went wrong."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""

    def text(self) -> str:
        """Return the body as text."""
        return self.body.decode(errors="replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A fault of the destination, not of an event."""

    word: str
    sentence: str
    wait_seconds: float = 0.0
    """How long Lotus asks to wait."""


@dataclass(slots=True, kw_only=True)
class AnswerVerdict:
    """The result of each event of a request, by idempotency id."""

    delivered: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    """Permanently, with Lotus's reason."""
    later: dict[str, str] = field(default_factory=dict)
    """To be retried, with the reason."""
    split: str | None = None
    """Why the request was refused as a whole, perhaps for one of its events: send halves of it. None: it was not."""
    split_is_final: bool = False
    """Whether a single event refused this way fails permanently."""
    trouble: Trouble | None = None


def read_verdict(answer: LotusAnswer, ids: Sequence[str], now: int) -> AnswerVerdict:
    """Interpret the answer to a request with these idempotency ids; `now` in microseconds since 1970."""
    status = answer.status
    if status is None:
        sentence = f"Lotus cannot be reached or understood: {answer.text()[:_QUOTED]}"
        return _all_later(ids, Trouble(word=NETWORK, sentence=sentence))
    document = _decode(answer.body)
    verdict = _read_success(status, document, ids)
    if verdict is not None:
        return verdict
    message = str(document.get("message") or document.get("detail") or answer.text())[:_QUOTED]
    # A proxy may refuse a request for one of its events; its answer has no "success".
    if message not in _KEY_SAYS and "success" not in document and status in {400, 413}:
        return AnswerVerdict(split=f"{status} {message}", split_is_final=status == 413)  # noqa: PLR2004
    return _all_later(ids, _find_trouble(answer, status, message, now))


def _find_trouble(answer: LotusAnswer, status: int, message: str, now: int) -> Trouble:
    if message in _KEY_SAYS or status in {401, 403}:
        return Trouble(word=KEY, sentence=f"Lotus refuses LOTUS_API_KEY: {status} {message}")
    wait = _read_retry_after(answer.headers.get("retry-after"), now)
    if status == 429:  # noqa: PLR2004
        return Trouble(word=BUSY, sentence="Lotus asks for fewer requests: 429", wait_seconds=wait)
    if status >= 500:  # noqa: PLR2004
        return Trouble(word=SERVER, sentence=f"Lotus fails: {status} {message}", wait_seconds=wait)
    return Trouble(word=ANSWER, sentence=_describe_unexpected(status, message, answer.headers))


def _read_success(status: int, document: dict[str, Any], ids: Sequence[str]) -> AnswerVerdict | None:
    """Interpret the body of an answer; None if Lotus does not send such a body with this status."""
    success, reasons = document.get("success"), document.get("failed_events")
    if reasons is not None and not _are_reasons(reasons):
        return None
    reasons = reasons or {}
    if 200 <= status < 300:  # noqa: PLR2004
        if success == "all":
            return None if reasons else AnswerVerdict(delivered=set(ids))
        if success == "some":
            # A failure under an id that was not sent may concern any of the events.
            return _read_reasons(reasons, ids, others_taken=True) if reasons and reasons.keys() <= set(ids) else None
    if success == "none" and (200 <= status < 300 or status == 400):  # noqa: PLR2004
        if INVALID_JSON in reasons.values():
            return AnswerVerdict(split=INVALID_JSON, split_is_final=True)
        return _read_reasons(reasons, ids, others_taken=False)
    return None


def _are_reasons(failed_events: object) -> bool:
    return isinstance(failed_events, dict) and all(isinstance(reason, str) for reason in failed_events.values())


def _read_reasons(reasons: Mapping[str, str], ids: Sequence[str], *, others_taken: bool) -> AnswerVerdict:
    if reasons.keys().isdisjoint(ids):
        # Whatever failed, it is none of these events.
        quoted = "; ".join(reasons.values())[:_QUOTED]
        if quoted.startswith(_BROKER_SAYS):
            return _all_later(ids, Trouble(word=BROKER, sentence=f"Lotus's broker is down: {quoted}"))
        return _all_later(ids, Trouble(word=ANSWER, sentence=f"Lotus's answer names none of the events sent: {quoted}"))
    verdict = AnswerVerdict()
    for id_ in ids:
        reason = reasons.get(id_)
        if reason is None and others_taken:
            verdict.delivered.add(id_)
        elif reason in PERMANENT:
            verdict.failed[id_] = reason
        else:
            verdict.later[id_] = reason or "Lotus took none of the batch"
            if reason is not None and reason.startswith(_BROKER_SAYS):
                verdict.trouble = Trouble(word=BROKER, sentence=f"Lotus's broker is down: {reason[:_QUOTED]}")
    return verdict


def _all_later(ids: Sequence[str], trouble: Trouble) -> AnswerVerdict:
    return AnswerVerdict(later=dict.fromkeys(ids, trouble.sentence), trouble=trouble)


def _decode(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body; an empty one if it is anything else, or has a key twice."""
    try:
        document = json.loads(body.decode(), object_pairs_hook=_to_object, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("an object has a key twice")
    return document


def _refuse_constant(literal: str) -> NoReturn:
    raise ValueError(f"{literal} is not JSON")


def _describe_unexpected(status: int, message: str, headers: Mapping[str, str]) -> str:
    if 300 <= status < 400:  # noqa: PLR2004
        where = headers.get("location", "elsewhere")[:_QUOTED]
        return f"LOTUS_HOST answers {status} and redirects to {where}; set LOTUS_HOST to the address of Lotus itself"
    if status in {404, 405}:
        return f"LOTUS_HOST answers {status}: there is no /api/track/; check that it is the address of Lotus"
    return f"LOTUS_HOST does not answer as Lotus does: {status} {message}"


def _read_retry_after(text: str | None, now: int) -> float:
    """Return the seconds of a Retry-After header, which may be a date; capped."""
    if text is None:
        return 0.0
    seconds = 0.0
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        seconds = float(text)
    else:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return 0.0
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.fromtimestamp(now / 1_000_000, UTC)).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_WAIT_SECONDS)
