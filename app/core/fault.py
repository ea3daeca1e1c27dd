"""The ways in which calls fail: a thousand calls that fail in one way have one fault.

A fault is the place and the sentence without what differs from call to call; paths stay. The errors of `app.errors`
carry both (`path` and `kind`), from where they are raised.
"""

import re
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

KEY_BYTES = 8

ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
"""Stands for what differs from call to call."""

_INDEX = re.compile(r"\[\d+\]")


class Fault(NamedTuple):
    """What calls that fail in one way have in common, besides their outcome and the transform that decided."""

    path: str
    """The place in the call, the event or the transform; "" if there is none."""
    sentence: str


CONFLICT = Fault("idempotency_id", "an event with this id is already there, with other content")


@lru_cache(maxsize=4096)
def fault_key(outcome: str, reason: str | None, transform: str | None, digest: bytes | None, fault: Fault) -> bytes:
    """Return the key of a fault: the same for all calls that fail in the same way by the same version."""
    parts = (outcome, reason or "", transform or "", digest.hex() if digest is not None else "", *fault)
    # Only a sentence, which is the last part, may hold a NUL: it quotes a sender's event name.
    return blake2b("\0".join(parts).encode(errors="surrogatepass"), digest_size=KEY_BYTES).digest()


def any_index(path: str) -> str:
    """Return a path with `[*]` for each index of an array."""
    return _INDEX.sub("[*]", path)
