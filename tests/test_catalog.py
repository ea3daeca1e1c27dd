"""Transforms from files to versions in the database, and back by digest."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from app.catalog import Catalog, read_transforms
from app.core.transform import DEFAULT, TransformSet
from app.errors import TransformInvalid
from app.store import schema
from app.store.engine import Database
from tests.builders import DEFAULT_TEXT, MISSING, NOW, a_call, a_digest, a_document, rows_of, some_transforms
from tests.store.conftest import (
    database,
    migrated_postgres_url,
    migrated_sqlite_url,
    migrated_url,
    postgres_template,
    sqlite_template,
)

# Fixtures that this module borrows; naming them here is what makes them its own.
__all__ = [
    "database",
    "migrated_postgres_url",
    "migrated_sqlite_url",
    "migrated_url",
    "postgres_template",
    "sqlite_template",
]

ROOT = Path(__file__).parent.parent
ORDER = "match: {event: Order}\nevent: {properties: {total: properties.total}}\n"


def a_folder(path: Path, **texts: str) -> Path:
    for name, text in {"_default": DEFAULT_TEXT, **texts}.items():
        (path / f"{name}.yaml").write_text(text, encoding="utf-8")
    return path


def a_catalog(**texts: str) -> Catalog:
    return Catalog(some_transforms(**texts))


def digest_of(catalog: Catalog, name: str) -> bytes:
    return next(one.digest for one in catalog.active.transforms if one.name == name)


# --- Files


def test_every_yaml_file_of_a_folder_is_a_transform_of_its_name(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, order=ORDER, z_page="match: {type: page}")
    (folder / "README.md").write_text("not a transform")
    (folder / "draft.yaml.off").write_text("{{{")
    transforms = read_transforms(folder)
    assert [one.name for one in transforms.transforms] == ["_default", "order", "z_page"]
    assert [one.digest for one in transforms.transforms] == [
        one.digest for one in some_transforms(order=ORDER, z_page="match: {type: page}").transforms
    ], "where a text comes from is no part of its version"


def test_the_transforms_that_are_shipped_can_be_used() -> None:
    transforms = read_transforms(ROOT / "transforms")
    chosen = transforms.choose(a_call(event="Anything"))
    assert chosen is not None
    assert chosen.name == DEFAULT
    assert chosen.apply(a_call())[0].customer_id == "customer-1"


def test_a_folder_without_a_default_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TransformInvalid, match=r"_default\.yaml"):
        read_transforms(tmp_path)
    with pytest.raises(TransformInvalid, match=r"_default\.yaml"):
        read_transforms(tmp_path / "missing")


def test_a_file_with_a_mistake_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(TransformInvalid, match=r"^order\.yaml:2:16: "):
        read_transforms(a_folder(tmp_path, order="event:\n  customer_id: 'a ||'\n"))


def test_a_file_that_is_no_text_or_much_too_large_is_refused_by_name(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    (folder / "latin.yaml").write_bytes(b"description: caf\xe9\n")
    with pytest.raises(TransformInvalid, match=r"latin\.yaml is not UTF-8 at byte 16"):
        read_transforms(folder)
    (folder / "latin.yaml").unlink()
    (folder / "large.yaml").write_bytes(b"#" * (256 * 1024 + 1))
    with pytest.raises(TransformInvalid, match=r"large\.yaml is larger"):
        read_transforms(folder)
    (folder / "large.yaml").unlink()
    (folder / "folder.yaml").mkdir()
    with pytest.raises(TransformInvalid, match=r"folder\.yaml cannot be read"):
        read_transforms(folder)


# --- Versions


def test_publishing_keeps_every_active_version_once(database: Database) -> None:
    a_catalog(order=ORDER).publish(database, lambda: NOW)
    a_catalog(order=ORDER).publish(database, lambda: NOW + 1)
    columns = schema.versions.c
    assert sorted(rows_of(database, schema.versions, columns.name, columns.kind, columns.text, columns.seen_at)) == [
        ("_default", "transform", DEFAULT_TEXT, NOW),
        ("order", "transform", ORDER, NOW),
    ]
    a_catalog(order=ORDER + "# changed\n").publish(database, lambda: NOW + 2)
    assert len(rows_of(database, schema.versions, columns.digest)) == 3


def test_a_version_is_found_by_digest_also_after_a_restart(database: Database) -> None:
    before = a_catalog(order=ORDER)
    before.publish(database, lambda: NOW)
    restarted = a_catalog(default=DEFAULT_TEXT + "# changed\n", order=ORDER + "# changed\n")
    with database.reading() as conn:
        for name in ("_default", "order"):
            digest = digest_of(before, name)
            found = restarted.find_transform(conn, digest)
            assert found is not None
            assert (found.name, found.digest) == (name, digest)
            assert restarted.find_transform(conn, digest) is found, "it is read once"
        order = restarted.find_transform(conn, digest_of(before, "order"))
        assert order is not None
        [event] = order.apply(a_call(event="Order", properties={"total": 5, "other": 1}))
    assert (event.event_name, event.properties) == ("Order", '{"total":5}')


def test_nothing_active_still_finds_every_version(database: Database) -> None:
    before = a_catalog(order=ORDER)
    before.publish(database, lambda: NOW)
    with database.reading() as conn:
        assert Catalog(TransformSet(())).find_transform(conn, digest_of(before, "order")) is not None


def test_a_version_that_was_never_seen_is_not_found(database: Database) -> None:
    with database.reading() as conn:
        assert a_catalog().find_transform(conn, a_digest("never")) is None


def test_a_version_of_another_engine_is_not_found(database: Database) -> None:
    """Its text may mean something else today; what it made then cannot be made again."""
    before = a_catalog(order=ORDER)
    before.publish(database, lambda: NOW)
    digest = digest_of(before, "order")
    with database.writing() as conn:
        conn.execute(
            sa.update(schema.versions).where(schema.versions.c.digest == digest).values(digest=a_digest("older engine"))
        )
    with database.reading() as conn:
        assert a_catalog().find_transform(conn, a_digest("older engine")) is None


def test_a_version_whose_text_cannot_be_read_any_more_is_not_found(database: Database) -> None:
    before = a_catalog(order=ORDER)
    before.publish(database, lambda: NOW)
    digest = digest_of(before, "order")
    with database.writing() as conn:
        conn.execute(sa.update(schema.versions).where(schema.versions.c.digest == digest).values(text="event: {x: y}"))
    with database.reading() as conn:
        assert a_catalog().find_transform(conn, digest) is None


def test_a_call_is_mapped_again_only_by_a_version_that_takes_it_and_can_map_it(database: Database) -> None:
    catalog = a_catalog(order=ORDER)
    order, default = digest_of(catalog, "order"), digest_of(catalog, "_default")
    with database.reading() as conn:
        lane = catalog.map_again(conn, a_call(event="Order"), order)
        assert lane is not None
        assert (lane.transform, lane.digest) == ("order", order)
        assert catalog.map_again(conn, a_call(event="Other"), order) is None
        assert catalog.map_again(conn, a_call(event="Other"), default) is not None
        assert catalog.map_again(conn, a_call(event="Order", userId=MISSING), order) is None
        assert catalog.map_again(conn, a_call(), a_digest("never")) is None


def test_a_document_is_not_changed_by_being_mapped_again(database: Database) -> None:
    catalog = a_catalog(order=ORDER)
    call = a_call(event="Order")
    with database.reading() as conn:
        assert catalog.map_again(conn, call, digest_of(catalog, "order")) == catalog.map_again(
            conn, call, digest_of(catalog, "order")
        )
    assert call.document == a_document(event="Order")
