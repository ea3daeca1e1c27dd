"""What is there: the list of transforms, and one of them with all that the editor begins with. Reads only."""

from pathlib import Path
from typing import Any

from app.catalog.files import read_folder, to_path
from app.catalog.live import KIND, Catalog
from app.catalog.status import CatalogStatus, survey
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
    tell_match,
    tell_problems,
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
    """Return all transforms, with what they had to do in the last 24 hours. A fixed number of queries."""
    found = survey(conn, catalog, read_folder(folder))
    activity = read_activity(conn, now - DAY)
    drafted = list_drafted(conn)
    listed = [_to_listed(found, activity, name, drafted) for name in _names(found, drafted)]
    return TransformList(
        transforms=listed, estimated=not activity.is_whole, looked_at=activity.looked_at, received=activity.received
    )


def read_transform(conn: Connection, catalog: Catalog, folder: Path, name: str) -> TransformDocument:
    """Return one transform; of a name that nobody knows yet, the empty beginning.

    Raises:
        TransformInvalid: it cannot be a name.

    """
    to_path(folder, name)
    files = read_folder(folder)
    found = survey(conn, catalog, files)
    standing = found.find(name)
    live = _live_publication(found, name)
    shown = _shown_transform(found, name)
    return TransformDocument(
        name=name,
        state=standing.state.value if standing else DRAFT_ONLY,
        live=_to_live(found, name, live) if live else None,
        file=FileDocument(text=files.texts[name]) if name in files.texts else None,
        draft=to_draft_document(find_draft(conn, name)),
        examples=[_to_example(one, position, shown) for position, one in enumerate(_examples(shown))] if shown else [],
        history=[
            PublicationDocument(
                version=to_version(one.digest), origin=one.origin, published_at=format_time(one.published_at)
            )
            for one in list_history(conn, KIND, name)[:_HISTORY_MAX]
        ],
        functions=FUNCTION_DOCUMENTS,
        problems=tell_problems(found, name),
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
    found = get_version(conn, digest)
    if (found.kind, found.name) != (KIND, name):
        raise unknown
    return VersionDocument(
        version=found.digest.hex(),
        text=found.text,
        inherits=to_version(found.inherits),
        seen_at=format_time(found.seen_at),
    )


def find_live_transform(conn: Connection, catalog: Catalog, name: str) -> Transform | None:
    """Return what is live under a name, as this program reads it."""
    return catalog.read_live(conn).transforms.get(name)


def _names(found: CatalogStatus, drafted: set[str]) -> list[str]:
    # One that was taken out and has no file is history, and not in the list.
    return sorted({*(one.name for one in found.standings), *drafted})


def _to_listed(found: CatalogStatus, activity: Activity, name: str, drafted: set[str]) -> ListedTransform:
    standing = found.find(name)
    live = _live_publication(found, name)
    shown = _shown_transform(found, name)
    results = [one.difference is None for one in run_examples(shown)] if shown else []
    share = activity.shares.get(name, _NO_SHARE)
    times = 1.0 if activity.is_whole else activity.received / activity.looked_at
    return ListedTransform(
        name=name,
        state=standing.state.value if standing else DRAFT_ONLY,
        description=str(shown.source.value.get("description", "")) if shown else "",
        match=tell_match(shown) if standing else "",
        version=to_version(live.digest) if live else None,
        origin=live.origin if live else None,
        published_at=format_time(live.published_at) if live else None,
        enabled=shown.enabled if shown else True,
        calls_24h=round(share.calls * times),
        failed_24h=round(share.failed * times),
        examples=len(results),
        examples_passed=sum(results),
        has_draft=name in drafted,
        problems=tell_problems(found, name),
    )


def _live_publication(found: CatalogStatus, name: str) -> Publication | None:
    publication = found.live.publications.get(name)
    return publication if publication and publication.digest is not None else None


def _shown_transform(found: CatalogStatus, name: str) -> Transform | None:
    """Return what is live, else what the file says."""
    live = found.live.transforms.get(name)
    standing = found.find(name)
    return live or (standing.file if standing else None)


def _to_live(found: CatalogStatus, name: str, live: Publication) -> LiveDocument | None:
    text = found.live.texts.get(name)
    version = to_version(live.digest)
    if text is None or version is None:
        return None
    return LiveDocument(text=text, version=version, origin=live.origin, published_at=format_time(live.published_at))


def _examples(transform: Transform) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = transform.source.value.get("examples", [])
    return found


def _to_example(example: dict[str, Any], position: int, transform: Transform) -> ExampleDocument:
    return ExampleDocument(
        name=example.get("name") or f"example {position + 1}",
        given=example["given"],
        expect=example["expect"],
        call=to_call(example["given"], transform),
    )
