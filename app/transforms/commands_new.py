"""Writes a starter file for an event: `new`."""

import os
from pathlib import Path
from typing import Any

import click

from app.catalog.files import read_folder, to_path, write_file
from app.catalog.live import Catalog, build_catalog
from app.cli.program import Failure, open_backend, read_settings
from app.core.segment import parse_call
from app.core.text import schema_text
from app.core.transform.schema import SCHEMA
from app.core.transform.transform import DEFAULT, Transform
from app.errors import CallRejected, NotFound, TransformInvalid
from app.store.review import CallFilters, get_call, list_call_ids
from app.transforms.starter import make_starter, to_name

_CALLS = 100
_SCHEMA = "transform.schema.json"


@click.command()
@click.argument("event")
@click.option("--from-calls", is_flag=True, help="Take properties and an example from stored calls of the event.")
def new(*, event: str, from_calls: bool) -> None:
    """Write a starter file for the calls of EVENT into TRANSFORMS_DIR.

    It is a draft, NAME.draft.yaml: it maps no call until you rename it to NAME.yaml.
    """
    settings = read_settings()
    folder = settings.transforms_dir
    name = to_name(event)
    path = to_path(folder, name, draft=True)
    for existing in (path, to_path(folder, name)):
        if existing.exists():
            raise Failure(f"{existing} exists already; nothing was written")
    ids, calls = _read_calls(event) if from_calls else ([], [])
    catalog = build_catalog(settings.pseudonym_key)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        default = _find_default(catalog, folder)
        text = make_starter(event, calls, default, catalog.parse, _schema_path(folder))
        write_file(path, text)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}") from error
    click.echo(f"Wrote {path}, a draft: it maps no call yet.")
    click.echo("Next:")
    click.echo(f"  segment-lotus try {ids[0] if ids else 'call.json'} --transform {path}")
    if ids:
        click.echo(f"  segment-lotus preview {path}")
    click.echo(f"  mv {path} {to_path(folder, name)}    (it goes live within two seconds)")


def _read_calls(event: str) -> tuple[list[int], list[dict[str, Any]]]:
    """Return the newest stored track calls of an event that can be read, and their ids."""
    ids: list[int] = []
    calls: list[dict[str, Any]] = []
    with open_backend().database.reading() as conn:
        for call_id in list_call_ids(conn, CallFilters(event=event), limit=_CALLS):
            whole = get_call(conn, call_id)
            if whole.raw is None:
                continue
            try:
                call = parse_call(whole.raw, whole.read())
            except CallRejected:
                continue
            if call.type == "track":
                ids.append(call_id)
                calls.append(call.document)
    if not calls:
        raise NotFound(f"no stored track call has the event {event!r}; write a file anyway without --from-calls")
    return ids, calls


def _find_default(catalog: Catalog, folder: Path) -> Transform:
    text = read_folder(folder).texts.get(DEFAULT)
    if text is None:
        raise TransformInvalid(f"there is no {to_path(folder, DEFAULT)}, which a new file inherits from")
    return catalog.parse(DEFAULT, text, None)


def _schema_path(folder: Path) -> str:
    """Return the path of the schema relative to the folder; it is written into the folder if docs/ has none."""
    shipped = Path("docs") / _SCHEMA
    if shipped.exists():
        return os.path.relpath(shipped, folder)
    own = folder / _SCHEMA
    own.write_text(schema_text(SCHEMA), encoding="utf-8")
    return _SCHEMA
