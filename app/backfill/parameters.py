"""The words that a person gives with a backfill."""

from app.errors import BadQuery
from app.store.query import check_texts

NAME_MAX = 100
REASON_MAX = 500


def parse_words(name: str, text: str, most: int) -> str:
    """Return a text of 1 to `most` characters without the spaces around it. Raises BadQuery."""
    words = text.strip()
    if not 0 < len(words) <= most:
        raise BadQuery(f"{name} must be a text of 1 to {most} characters")
    check_texts({name: words})
    return words
