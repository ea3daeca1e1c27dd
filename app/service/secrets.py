"""The secrets of the settings: what tells shared secrets apart, and what else somebody may have pasted into Segment."""

from collections.abc import Iterator

from app.core.credentials import fingerprint
from app.settings import Settings

_OTHERS = ("ADMIN_TOKEN", "SEGMENT_BEARER_TOKENS", "SEGMENT_WRITE_KEYS", "LOTUS_INGEST_KEYS", "LOTUS_API_KEY")


def secret_fingerprints(settings: Settings) -> list[str]:
    """Return the fingerprint of each shared secret, in their order."""
    return [fingerprint(secret, settings.admin_token) for secret in settings.segment_shared_secrets]


def other_secrets(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield each other secret of the service, with the name of its setting."""
    for name in _OTHERS:
        value: str | tuple[str, ...] = getattr(settings, name.lower())
        yield from ((name, secret) for secret in ((value,) if isinstance(value, str) else value) if secret)
    for pair in settings.segment_basic_auth:
        yield "SEGMENT_BASIC_AUTH", pair
        yield "SEGMENT_BASIC_AUTH", pair.partition(":")[2]
