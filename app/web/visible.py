r"""Text from outside, made visible: what a browser would hide, turn around or refuse is shown as its escape.

A NUL and other control characters are no valid HTML; a sign that turns the direction of writing could make one value
look like another. JSON writes all of them as \u202e too, so what is shown is still what came.
"""

import re

# Control characters but tab and newline, signs of direction, byte order mark, halves of surrogate pairs, no-characters.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufdd0-\ufdef\ufff9-\uffff"
    "\ud800-\udfff" + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(1, 17)) + "]"
)


def to_visible(text: str) -> str:
    """Return a text in which every character can be seen."""
    return text if text.isascii() and text.isprintable() else _HIDDEN.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"  # noqa: PLR2004  the basic plane
