"""The list of transforms, and one transform with all that the editor needs to start. Reads only."""

from pathlib import Path
from typing import Any

from app.catalog.files import read_folder, to_path
from app.catalog.live import KIND, Catalog
from app.catalog.status import CatalogStatus, compare_with_live
from app.core.times import format_time
from app.core.transform.examples import run_examples, to_call
from app.core.transform.transform import Transform
from app.errors import NotFound
from app.store.engine import Connection
from app.store.publications import Publication, list_history
from app.store.versions import get_version
from app.transforms.documents import (
    DRAFT_ONLY,
    ExampleDocument,
    FileDocument,
    ListedTransform,
    LiveDocument,
    PublicationDocument,
    TransformDocument,
    TransformList,
    VersionDocument,
    blocking_sentences,
    describe_match,
    to_draft_document,
    to_version,
)
from app.transforms.functions import FUNCTION_DOCUMENTS
from app.transforms.sql_drafts import find_draft, list_drafted
from app.transforms.sql_traffic import Activity, TrafficShare, read_activity

DAY = 86_400_000_000
"""Microseconds."""

_DIGEST_DIGITS = 32
_HISTORY_MAX = 200
_NO_SHARE = TrafficShare(0, 0)


def list_transforms(conn: Connection, catalog: Catalog, folder: Path, now: int) -> TransformList:
    """Return all transforms, with their calls of the last 24 hours. A fixed number of queries."""
    status = compare_with_live(conn, catalog, read_folder(folder))
    activity = read_activity(conn, now - DAY)
    drafted = list_drafted(conn)
    listed = [_to_listed(status, activity, name, drafted) for name in _names(status, drafted)]
    return TransformList(
        transforms=listed, estimated=not activity.is_whole, looked_at=activity.looked_at, received=activity.received
    )


def read_transform(conn: Connection, catalog: Catalog, folder: Path, name: str) -> TransformDocument:
    """Return one transform; an empty one for a name that is not used yet.

    Raises:
        TransformInvalid: `name` cannot be a name.

    """
    to_path(folder, name)
    files = read_folder(folder)
    status = compare_with_live(conn, catalog, files)
    file = status.find(name)
    live = _live_publication(status, name)
    shown = _shown_transform(status, name)
    return TransformDocument(
        name=name,
        state=file.state.value if file else DRAFT_ONLY,
        live=_to_live(status, name, live) if live else None,
        file=FileDocument(text=files.texts[name]) if name in files.texts else None,
        draft=to_draft_document(find_draft(conn, name)),
        examples=_to_examples(shown) if shown else [],
        history=[
            PublicationDocument(
                version=to_version(row.digest), origin=row.origin, published_at=format_time(row.published_at)
            )
            for row in list_history(conn, KIND, name)[:_HISTORY_MAX]
        ],
        functions=FUNCTION_DOCUMENTS,
        problems=blocking_sentences(status, name),
    )


def read_version(conn: Connection, name: str, version: str) -> VersionDocument:
    """Return a version of a name by its 32 digits. Raises NotFound."""
    unknown = NotFound(f"{name[:100]} has no version {version[:40]!r}")
    try:
        digest = bytes.fromhex(version)
    except ValueError:
        raise unknown from None
    if len(version) != _DIGEST_DIGITS:
        raise unknown
    row = get_version(conn, digest)
    if (row.kind, row.name) != (KIND, name):
        raise unknown
    return VersionDocument(
        version=row.digest.hex(),
        text=row.text,
        inherits=to_version(row.inherits),
        seen_at=format_time(row.seen_at),
    )


def find_live_transform(conn: Connection, catalog: Catalog, name: str) -> Transform | None:
    """Return the live version of a name, as this program reads it."""
    return catalog.read_live(conn).transforms.get(name)


def _names(status: CatalogStatus, drafted: set[str]) -> list[str]:
    # An unpublished name without a file is history, and not listed.
    return sorted({*(file.name for file in status.files), *drafted})


def _to_listed(status: CatalogStatus, activity: Activity, name: str, drafted: set[str]) -> ListedTransform:
    file = status.find(name)
    live = _live_publication(status, name)
    shown = _shown_transform(status, name)
    passed = [result.difference is None for result in run_examples(shown)] if shown else []
    share = activity.shares.get(name, _NO_SHARE)
    factor = 1.0 if activity.is_whole else activity.received / activity.looked_at
    return ListedTransform(
        name=name,
        state=file.state.value if file else DRAFT_ONLY,
        description=str(shown.source.value.get("description", "")) if shown else "",
        match=describe_match(shown) if file else "",
        version=to_version(live.digest) if live else None,
        origin=live.origin if live else None,
        published_at=format_time(live.published_at) if live else None,
        enabled=shown.enabled if shown else True,
        calls_24h=round(share.calls * factor),
        failed_24h=round(share.failed * factor),
        examples=len(passed),
        examples_passed=sum(passed),
        has_draft=name in drafted,
        problems=blocking_sentences(status, name),
    )


def _live_publication(status: CatalogStatus, name: str) -> Publication | None:
    publication = status.live.publications.get(name)
    return publication if publication and publication.digest is not None else None


def _shown_transform(status: CatalogStatus, name: str) -> Transform | None:
    """Return the live version; where there is none, the file."""
    live = status.live.transforms.get(name)
    file = status.find(name)
    return live or (file.transform if file else None)


def _to_live(status: CatalogStatus, name: str, live: Publication) -> LiveDocument | None:
    text = status.live.texts.get(name)
    version = to_version(live.digest)
    if text is None or version is None:
        return None
    return LiveDocument(text=text, version=version, origin=live.origin, published_at=format_time(live.published_at))


def _to_examples(transform: Transform) -> list[ExampleDocument]:
    examples: list[dict[str, Any]] = transform.source.value.get("examples", [])
    return [_to_example(example, position, transform) for position, example in enumerate(examples)]


def _to_example(example: dict[str, Any], position: int, transform: Transform) -> ExampleDocument:
    return ExampleDocument(
        name=example.get("name") or f"example {position + 1}",
        given=example["given"],
        expect=example["expect"],
        call=to_call(example["given"], transform),
    )
