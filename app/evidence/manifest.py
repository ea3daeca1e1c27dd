"""The manifest of an evidence file: what it is about, and the digest of each file in it. Its bytes are signed."""

import msgspec

FORMAT = "segment-lotus evidence 1"

MANIFEST, SIGNATURE = "manifest.json", "signature.json"
CALLS, ADJUSTMENTS = "calls_not_counted.csv", "adjustments.json"
CONTENTS = (
    "events.csv",
    "number.json",
    "metric.yaml",
    "metric_versions.json",
    "transforms.json",
    CALLS,
    ADJUSTMENTS,
)
"""The files that each evidence file holds, beside the manifest and its signature."""


class FileDigest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file."""

    sha256: str
    """In hexadecimal digits."""
    bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an evidence file says about itself; times are RFC 3339 in UTC."""

    format: str = FORMAT
    program: str
    """The version of the program that made it."""
    metric: str
    version: str
    """The digest of the metric's definition."""
    customer_id: str
    month: str
    tz: str
    start: str
    end: str
    """The end of the month, or the moment, if that is earlier."""
    moment: str
    """As of when it was made."""
    files: dict[str, FileDigest]


def write_manifest(manifest: Manifest) -> bytes:
    """Return a manifest as it is signed."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def read_manifest(raw: bytes) -> Manifest:
    """Parse a manifest. Raises msgspec.DecodeError, which includes values of a wrong type."""
    return msgspec.json.decode(raw, type=Manifest)
