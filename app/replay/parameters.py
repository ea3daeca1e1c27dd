"""The parameters of a replay as text: options of the command line, fields of a form or members of JSON.

Names and checks are the same in all three places, and so is what is stored: a replay begun in one place can be resumed
in another.
"""

import re
from collections.abc import Mapping, Sequence

from app.core.fault import KEY_BYTES
from app.core.outcome import REASONS_OF, Outcome, Reason
from app.errors import BadQuery
from app.replay.correction_batch import REASON
from app.replay.plan import ReplayRequest
from app.store.corrections import Attribution, LotusChoice
from app.store.ids import ID_MAX
from app.store.query import parse_moment

PARAMETERS: tuple[str, ...] = ("outcome", "event", "reason", "by", "version", "problem", "mapped_by")
PARAMETERS += ("since", "until", "transform", "id", "limit", "correct")

ATTRIBUTION: tuple[str, ...] = ("author", "why", "name", "lotus")
"""Of a correction: who makes it, why, its name, and what Lotus gets of it."""

_WORDS_MAX = {"author": 100, "why": 500, "name": 100}

_DIGEST = re.compile(r"[0-9a-f]{32}")
_PROBLEM = re.compile(rf"[0-9a-f]{{{2 * KEY_BYTES}}}")
_CALL_ID = re.compile(r"[1-9][0-9]{0,18}")
_LIMIT = re.compile(r"[0-9]{1,18}")
_WITHOUT_EVENTS = (Outcome.REJECTED, Outcome.IGNORED)
# Characters that no command line can hold.
_UNTYPED = re.compile("[\0\ud800-\udfff]")
# Longer than any name, and short enough for a command line.
_TEXT_MAX = 2000


def parse_replay_request(texts: Mapping[str, str]) -> ReplayRequest:
    """Parse the parameters of a replay; `texts` holds some of PARAMETERS, and `correct` with any text means yes.

    Raises:
        BadQuery: names the invalid parameter, and says what is valid.

    """
    for name, text in texts.items():
        if name not in PARAMETERS:
            raise BadQuery(f"there is no parameter {name[:40]!a}: there are {', '.join(PARAMETERS)}")
        if len(text) > _TEXT_MAX or _UNTYPED.search(text):
            raise BadQuery(
                f"{name} must be text of at most {_TEXT_MAX} characters, without NUL or half surrogate pairs"
            )
    reason, version, correct = texts.get("reason"), texts.get("version"), "correct" in texts
    if reason is not None and reason not in set(Reason):
        raise BadQuery(f"reason must be one of {', '.join(Reason)}; it is {reason[:40]!a}")
    if version is not None and not _DIGEST.fullmatch(version):
        raise BadQuery(f"version must be the 32 hexadecimal digits that `show` prints; it is {version[:40]!a}")
    problem = texts.get("problem")
    if problem is not None and not _PROBLEM.fullmatch(problem):
        raise BadQuery(
            f"problem must be the {2 * KEY_BYTES} hexadecimal digits that `show` prints; it is {problem[:40]!a}"
        )
    return ReplayRequest(
        outcomes=_parse_outcomes(texts),
        event=texts.get("event"),
        reason=Reason(reason) if reason is not None else None,
        by=texts.get("by"),
        version=version,
        problem=problem,
        mapped_by=_parse_names(texts),
        since=texts.get("since"),
        until=texts.get("until"),
        transform=texts.get("transform"),
        call_id=_parse_call_id(texts["id"]) if "id" in texts else None,
        limit=_parse_limit(texts["limit"]) if "limit" in texts else None,
        correct=correct,
    )


def parse_bounds(request: ReplayRequest, now: int) -> tuple[int | None, int | None]:
    """Parse since and until into microseconds since 1970. Raises BadQuery."""
    since = parse_moment("since", request.since, now) if request.since else None
    until = parse_moment("until", request.until, now) if request.until else None
    return since, until


def to_texts(request: ReplayRequest) -> dict[str, str]:
    """Return the parameters that `parse_replay_request` parses into this request."""
    texts = {
        "outcome": ",".join(request.outcomes),
        "event": request.event,
        "reason": request.reason,
        "by": request.by,
        "version": request.version,
        "problem": request.problem,
        "mapped_by": ",".join(request.mapped_by) or None,
        "since": request.since,
        "until": request.until,
        "transform": request.transform,
        "id": None if request.call_id is None else str(request.call_id),
        "limit": None if request.limit is None else str(request.limit),
        "correct": "yes" if request.correct else None,
    }
    if set(request.outcomes) == set(Outcome):
        # Nobody lists all outcomes: all is the default of a correction, of an id and of a lane.
        texts["outcome"] = None
    return {name: str(value) for name, value in texts.items() if value is not None}


def to_options(request: ReplayRequest) -> list[str]:
    """Return the options of `segment-lotus replay` for this request. Each is one argument, whatever it contains."""
    return [
        f"--{name}" if name == "correct" else f"--{name.replace('_', '-')}={text}"
        for name, text in to_texts(request).items()
    ]


def parse_attribution(texts: Mapping[str, str], author: str, *, correct: bool) -> Attribution | None:
    """Parse who makes a correction, why and how; None for a replay that corrects nothing.

    `texts` holds some of ATTRIBUTION; `author` is who it is if they do not say so.

    Raises:
        BadQuery: names the invalid parameter, and says what is valid.

    """
    if not correct:
        if texts:
            raise BadQuery(f"{', '.join(texts)}: only a correction has it; give correct as well")
        return None
    words = {name: text.strip() for name, text in texts.items()}
    for name, most in _WORDS_MAX.items():
        text = words.get(name)
        if text is not None and (not 0 < len(text) <= most or _UNTYPED.search(text)):
            raise BadQuery(f"{name} must be a text of 1 to {most} characters, without NUL or half surrogate pairs")
    lotus = words.get("lotus", LotusChoice.HOLD)
    if lotus not in set(LotusChoice):
        raise BadQuery(f"lotus must be one of {', '.join(LotusChoice)}; it is {lotus[:40]!a}")
    return Attribution(
        author=words.get("author", author),
        reason=words.get("why", REASON),
        name=words.get("name"),
        lotus=LotusChoice(lotus),
    )


def to_attribution_options(attribution: Attribution | None) -> list[str]:
    """Return the options of `segment-lotus replay` for this attribution."""
    if attribution is None:
        return []
    values = {"author": attribution.author, "why": attribution.reason, "name": attribution.name}
    return [f"--{name}={text}" for name, text in {**values, "lotus": attribution.lotus}.items() if text is not None]


def _parse_outcomes(texts: Mapping[str, str]) -> tuple[Outcome, ...]:
    outcome, reason, correct = texts.get("outcome"), texts.get("reason"), "correct" in texts
    stored = (Outcome.STORED,) if correct else ()
    # A duplicate by idempotency id of another message may become an event of its own once the transform is fixed.
    allowed: Sequence[Outcome] = (*_WITHOUT_EVENTS, Outcome.CONFLICT, Outcome.DUPLICATE, *stored)
    # A stored event may be shared with calls of any outcome: a correction reads all of them.
    usual: Sequence[Outcome] = tuple(Outcome) if correct else _WITHOUT_EVENTS
    if "transform" in texts:
        if correct:
            raise BadQuery("--transform fills a lane and --correct replaces events: give one of them")
        allowed = usual = tuple(Outcome)
    elif "id" in texts:
        usual = tuple(Outcome)
    elif "problem" in texts:
        usual = (*usual, Outcome.CONFLICT)
    if reason is not None and outcome is None:
        outcome = next(outcome.value for outcome, reasons in REASONS_OF.items() if reason in reasons)
    if outcome is None:
        return tuple(sorted(set(usual)))
    names = [name.strip() for name in outcome.split(",")]
    if wrong := next((name for name in names if name not in allowed), None):
        hint = "; give --correct to replace events that are stored" if wrong == Outcome.STORED else ""
        raise BadQuery(f"outcome must be one of {', '.join(allowed)}; it is {wrong[:40]!a}{hint}")
    return tuple(sorted({Outcome(name) for name in names}))


def _parse_call_id(text: str) -> int | str:
    if not text:
        raise BadQuery("id is empty: give the id of a call, of its message or of its event")
    return int(text) if _CALL_ID.fullmatch(text) and int(text) <= ID_MAX else text


def _parse_names(texts: Mapping[str, str]) -> tuple[str, ...]:
    if "mapped_by" not in texts:
        return ()
    if "transform" in texts:
        raise BadQuery("transform fills a lane, and mapped_by chooses calls by who maps them: give one of them")
    return tuple(sorted({name for text in texts["mapped_by"].split(",") if (name := text.strip())}))


def _parse_limit(text: str) -> int:
    if not _LIMIT.fullmatch(text) or int(text) < 1:
        raise BadQuery(f"limit must be a whole number of at least 1; it is {text[:40]!a}")
    return int(text)
