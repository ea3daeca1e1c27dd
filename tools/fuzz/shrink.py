"""Makes a text that shows a fault smaller, as long as it still shows it."""

import re
from collections.abc import Callable

TRIES = 400

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[A-Za-z0-9.+-]+|.', re.DOTALL)
_TOKENS_MAX = 20_000


def shrink(text: bytes, fails: Callable[[bytes], bool], tries: int = TRIES) -> bytes:
    """Return the smallest text that `fails`, found by leaving out parts of it in at most `tries` looks."""
    parts = _TOKEN.findall(text)
    if len(parts) > _TOKENS_MAX:
        size = -(-len(text) // _TOKENS_MAX)
        parts = [text[start : start + size] for start in range(0, len(text), size)]
    step = max(1, len(parts) // 2)
    while tries > 0:
        smaller = False
        start = 0
        while start < len(parts) and tries > 0:
            candidate = parts[:start] + parts[start + step :]
            tries -= 1
            if fails(b"".join(candidate)):
                parts, smaller = candidate, True
            else:
                start += step
        if step == 1 and not smaller:
            break
        step = max(1, step // 2)
    return b"".join(parts)
