"""Maps the newest stored calls by a text before it goes live: if it is slow for them, it is slow for later ones."""

import time
from collections.abc import Iterable

from app.core.pipeline import run
from app.core.transform.transform import TransformSet
from app.errors import TransformInvalid
from app.store.kept import KeptCall

TRIED_CALLS = 200

MAX_CALL_SECONDS = 0.25
"""Processor time, so that a busy machine does not matter. A usual call takes 0.0001 s; all other calls wait for it."""

_TRIED_SECONDS = 4


def try_on_calls(name: str, transforms: TransformSet, rows: Iterable[KeptCall]) -> None:
    """Map calls by a set in which the transform `name` is new.

    The results are not judged: a call that is rejected may be one that should be.

    Raises:
        TransformInvalid: a call takes longer than MAX_CALL_SECONDS, or cannot be mapped because of a bug.

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
            sentence = f"it cannot map call {row.id} ({type(error).__name__})"
            raise TransformInvalid(f"{name} is not published: {sentence}") from error
        ended = time.process_time()
        if ended - began > MAX_CALL_SECONDS:
            sentence = (
                f"mapping call {row.id}, one of the newest, takes {ended - began:.1f} s, and the limit is"
                f" {MAX_CALL_SECONDS} s; an expression does too much"
            )
            raise TransformInvalid(f"{name} is not published: {sentence}")
        if ended > until:
            return
