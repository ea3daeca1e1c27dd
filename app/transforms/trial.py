"""The newest stored calls, mapped by a text before it goes live: whatever it does to them, it does to the next ones."""

import time
from collections.abc import Iterable

from app.core.pipeline import run
from app.core.transform.transform import TransformSet
from app.errors import TransformInvalid
from app.store.kept import KeptCall

TRIED_CALLS = 200

MAX_CALL_SECONDS = 0.25
"""Of a processor, so that a busy machine refuses nothing. An ordinary call takes 0.0001, and all others wait for it."""

_TRIED_SECONDS = 4


def try_on_calls(name: str, transforms: TransformSet, rows: Iterable[KeptCall]) -> None:
    """Map calls by a set in which the transform `name` is new.

    What comes out of it is not looked at: a call that is rejected may be one that should be.

    Raises:
        TransformInvalid: a call takes longer than MAX_CALL_SECONDS, or cannot be mapped for a fault of ours.

    """
    until = time.process_time() + _TRIED_SECONDS
    for row in rows:
        if row.raw is None:
            continue
        document = row.read()
        began = time.process_time()
        try:
            run(row.raw, document, transforms, row.received_at)
        except Exception as error:
            sentence = f"call {row.id} cannot be mapped by it ({type(error).__name__})"
            raise TransformInvalid(f"{name} is not published: {sentence}") from error
        ended = time.process_time()
        if ended - began > MAX_CALL_SECONDS:
            sentence = (
                f"one of the newest calls, {row.id}, takes {ended - began:.1f} s by it, and {MAX_CALL_SECONDS} s is the"
                " most; an expression has too much to do"
            )
            raise TransformInvalid(f"{name} is not published: {sentence}")
        if ended > until:
            return
