"""The `.env` of a first start. Deployed nodes have none: with different random secrets they would answer 401."""

import os
import secrets
from pathlib import Path

_TEXT = """\
# Written on the first start. It holds secrets: keep it private and out of version control.
# Environment variables take precedence over this file.

# Where everything is kept. For PostgreSQL: postgresql://user:password@host/database
DATABASE_URL=sqlite:///var/segment-lotus.db

# The shared secret: paste it into the webhook destination in Segment, which signs its requests with it.
SEGMENT_SHARED_SECRETS={shared_secret}

# Keys of your choice, comma-separated, with which SDKs can send directly to this service; empty: off.
# Segment's SDKs (/v1/*):
SEGMENT_WRITE_KEYS=
# Lotus's clients (/api/track/):
LOTUS_INGEST_KEYS=

# Opens the JSON API, the pages, the metrics and the details of /readyz.
ADMIN_TOKEN={admin_token}
"""


def write_first_env(path: Path) -> bool:
    """Write a `.env` with new random secrets, readable only by this user; False, and no change, if it exists."""
    try:
        # O_EXCL never follows or replaces what is there; the mode holds from the first byte.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(_TEXT.format(shared_secret=secrets.token_urlsafe(32), admin_token=secrets.token_urlsafe(32)))
    except OSError:
        # At the next start, a partial file would pass for one that a person wrote.
        path.unlink()
        raise
    return True
