r"""The cost of the regular expressions of an `input_schema`: characters of a text times positions of a pattern.

jsonschema_rs searches in linear time, and linear means the pattern's size times the text's: `(\w{1000}){50}` has 50,000
positions, and on 200 KB of letters it takes 42 s. Most patterns cost a hundredth of what is counted here; those written
to be slow take 3 to 12 ns for each position and character.
"""

import re
from functools import lru_cache

import jsonschema_rs
import re2  # type: ignore[import-untyped]

# jsonschema_rs itself refuses patterns that take more than the last of these.
_SIZES = (*(512 << power for power in range(15)), 10 << 20)

_CACHED = 1024

# For a pattern that RE2 cannot read: a position takes 70 bytes or more.
_POSITIONS_A_KIB = 16

# One position each, whatever they match. RE2 reads most of them differently from ECMA-262, or not at all.
_ESCAPE = re.compile(r"\\(?:u\{[0-9a-fA-F]+\}|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|c[A-Za-z]|[pP]\{[^}]*\}|.)", re.DOTALL)


@lru_cache(maxsize=_CACHED)
def count_positions(pattern: str) -> int:
    """Return how many positions a pattern has: what a search may have to check for each character of a text."""
    size = count_bytes(pattern)
    if size == 0:
        return 1
    options = re2.Options()
    options.log_errors = False
    # One instruction for a class of characters, and not one for each way to write them in UTF-8.
    options.encoding = re2.Options.Encoding.LATIN1
    try:
        skeleton = _ESCAPE.sub(".", pattern).encode("latin-1", "replace")
        return int(re2.compile(skeleton, options).programsize)
    except re2.error:
        return size * _POSITIONS_A_KIB // 1024


@lru_cache(maxsize=_CACHED)
def count_bytes(pattern: str) -> int:
    """Return the bytes of memory that a pattern takes, rounded up to a power of two.

    0 if it is simple enough to be compared as text, or if the compiler refuses it, which is reported elsewhere.
    """
    if _takes(pattern, 1):
        return 0
    return next((size for size in _SIZES if _takes(pattern, size)), 0)


def _takes(pattern: str, size: int) -> bool:
    options = jsonschema_rs.RegexOptions(size_limit=size)
    try:
        jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=options, offline=True)
    except (jsonschema_rs.ValidationError, ValueError):
        return False
    return True
