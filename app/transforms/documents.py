"""The JSON documents of the editor's API."""

from typing import Any

import msgspec

from app.catalog.status import CatalogStatus
from app.core.times import format_time
from app.core.transform.transform import DEFAULT, Transform
from app.transforms.functions import FunctionDocument
from app.transforms.sql_drafts import Draft

DRAFT_ONLY = "draft"
"""The state of a name that is neither live nor in a file: at most, it has a draft."""


class ListedTransform(msgspec.Struct, kw_only=True):
    """One line of the list of transforms."""

    name: str
    state: str
    """A value of app.catalog.status.FileState, or DRAFT_ONLY."""
    description: str
    match: str
    """Which calls it takes, in a line for people."""
    version: str | None
    origin: str | None
    published_at: str | None
    enabled: bool
    calls_24h: int
    failed_24h: int
    examples: int
    examples_passed: int
    has_draft: bool
    problems: list[str]


class TransformList(msgspec.Struct, kw_only=True):
    """All transforms. `estimated`: there were too many calls to count; `calls_24h` and `failed_24h` are estimates."""

    transforms: list[ListedTransform]
    estimated: bool
    looked_at: int
    """The newest calls of the last 24 hours that were counted."""
    received: int
    """All calls of the last 24 hours, by the ledger."""


class LiveDocument(msgspec.Struct, kw_only=True):
    """The live version of a name."""

    text: str
    version: str
    origin: str
    published_at: str


class FileDocument(msgspec.Struct, kw_only=True):
    """The file of a name."""

    text: str


class DraftDocument(msgspec.Struct, kw_only=True):
    """A text that was saved and is not published yet."""

    text: str
    revision: int
    base: str | None
    saved_at: str


class ExampleDocument(msgspec.Struct, kw_only=True):
    """An example of a file, and `call`: the whole call, with usual values for the fields it leaves out."""

    name: str
    given: Any
    expect: Any
    call: Any


class PublicationDocument(msgspec.Struct, kw_only=True):
    """One publication; without a version, the transform was unpublished."""

    version: str | None
    origin: str
    published_at: str


class TransformDocument(msgspec.Struct, kw_only=True):
    """One transform, with all that the editor needs to start."""

    name: str
    state: str
    live: LiveDocument | None
    file: FileDocument | None
    draft: DraftDocument | None
    examples: list[ExampleDocument]
    history: list[PublicationDocument]
    functions: tuple[FunctionDocument, ...]
    problems: list[str]
    """What prevents publishing the file."""


class VersionDocument(msgspec.Struct, kw_only=True):
    """One version of a transform."""

    version: str
    text: str
    inherits: str | None
    seen_at: str


class PathDocument(msgspec.Struct, kw_only=True):
    """A path in calls, and the value there in the newest one that has it."""

    path: str
    sample: str


def to_draft_document(draft: Draft | None) -> DraftDocument | None:
    """Return a draft as JSON shows it."""
    if draft is None:
        return None
    return DraftDocument(
        text=draft.text, revision=draft.revision, base=to_version(draft.base), saved_at=format_time(draft.saved_at)
    )


def to_version(digest: bytes | None) -> str | None:
    """Return a digest in hexadecimal, which is how the API names a version."""
    return digest.hex() if digest is not None else None


def describe_match(transform: Transform | None) -> str:
    """Return a line that says which calls a transform takes."""
    if transform is None:
        return "cannot be read"
    if transform.name == DEFAULT:
        return f"every {transform.match.type} call that no other takes"
    events = transform.source.value.get("match", {}).get("event")
    names = [events] if isinstance(events, str) else events or []
    line = ", ".join(names) if names else f"every {transform.match.type} call"
    return f"{line} from {', '.join(sorted(transform.match.sources))}" if transform.match.sources else line


def blocking_sentences(status: CatalogStatus, name: str) -> list[str]:
    """Return the problems of a file, and of the live version, in sentences of one line."""
    sentences = [sentence.split("\n", 1)[0] for sentence in status.blocking(name)]
    if name in status.live.unreadable:
        sentences.append(f"this program cannot read the live version: {status.live.unreadable[name].splitlines()[0]}")
    return sentences
