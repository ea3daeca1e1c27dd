"""Text that can stand in an index of either database: no NUL, no lone surrogate, at most 255 characters.

A transform's event keeps these rules by itself (app.core.lotus); this is for what a sender wrote: message ids, event
names and user ids of calls that may never become an event.
"""

from hashlib import sha256

KEY_MAX = 255
_KEPT = KEY_MAX - 65


def to_key(text: str | None) -> str | None:
    """Return `text` itself where it can be indexed, else its clean beginning and its SHA-256: as unique as it was."""
    if text is None or (len(text) <= KEY_MAX and text.isascii() and "\0" not in text):
        return text
    clean = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
    if clean == text and len(text) <= KEY_MAX:
        return text
    return f"{clean[:_KEPT]}~{sha256(text.encode(errors='surrogatepass')).hexdigest()}"
