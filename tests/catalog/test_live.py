"""Versions by digest: what an event names, what maps it again."""

import sqlalchemy as sa

from app.catalog.live import Catalog
from app.core.transform.transform import TransformSet
from app.store import schema
from app.store.engine import Database
from tests.builders import DEFAULT_TEXT, MISSING, NOW, a_call, a_digest, a_document, published, rows_of, some_transforms

ORDER = "match: {event: Order}\nevent: {properties: {total: properties.total}}\n"


def a_catalog(**texts: str) -> Catalog:
    return Catalog(some_transforms(**texts))


def digest_of(catalog: Catalog, name: str) -> bytes:
    return next(one.digest for one in catalog.active.transforms if one.name == name)


def test_publishing_keeps_every_active_version_once(database: Database) -> None:
    published(database, some_transforms(order=ORDER))
    published(database, some_transforms(order=ORDER))
    columns = schema.versions.c
    assert sorted(rows_of(database, schema.versions, columns.name, columns.kind, columns.text, columns.seen_at)) == [
        ("_default", "transform", DEFAULT_TEXT, NOW),
        ("order", "transform", ORDER, NOW),
    ]


def test_pseudonyms_are_made_with_the_key_of_this_process(database: Database) -> None:
    text = "match: {event: Order}\nevent: {properties: {who: sha256(userId)}}\n"
    made = set()
    for key in (b"one key", b"another key"):
        transforms = [Catalog(pseudonym_key=key).parse("_default", DEFAULT_TEXT, None)]
        transforms.append(Catalog(pseudonym_key=key).parse("order", text, transforms[0]))
        published(database, TransformSet(transforms))
        catalog = Catalog(pseudonym_key=key)
        catalog.refresh(database)
        order = catalog.active.choose(a_call(event="Order")).main
        assert order is not None
        made.add(order.apply(a_call(event="Order"), NOW)[0].properties)
    assert len(made) == 2


def test_a_version_is_found_by_digest_also_after_a_restart(database: Database) -> None:
    before = published(database, some_transforms(order=ORDER))
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
        [event] = order.apply(a_call(event="Order", properties={"total": 5, "other": 1}), NOW)
    assert (event.event_name, event.properties) == ("Order", '{"total":5}')


def test_nothing_active_still_finds_every_version(database: Database) -> None:
    before = published(database, some_transforms(order=ORDER))
    with database.reading() as conn:
        assert Catalog().find_transform(conn, digest_of(before, "order")) is not None


def test_a_version_that_was_never_seen_is_not_found(database: Database) -> None:
    with database.reading() as conn:
        assert a_catalog().find_transform(conn, a_digest("never")) is None


def test_a_version_of_another_engine_is_not_found(database: Database) -> None:
    """Its text may mean something else today; what it made then cannot be made again."""
    before = published(database, some_transforms(order=ORDER))
    digest = digest_of(before, "order")
    with database.writing() as conn:
        conn.execute(
            sa.update(schema.versions).where(schema.versions.c.digest == digest).values(digest=a_digest("older engine"))
        )
    with database.reading() as conn:
        assert a_catalog().find_transform(conn, a_digest("older engine")) is None


def test_a_version_whose_text_cannot_be_read_any_more_is_not_found(database: Database) -> None:
    before = published(database, some_transforms(order=ORDER))
    digest = digest_of(before, "order")
    with database.writing() as conn:
        conn.execute(sa.update(schema.versions).where(schema.versions.c.digest == digest).values(text="event: {x: y}"))
    with database.reading() as conn:
        assert a_catalog().find_transform(conn, digest) is None


def test_a_call_is_mapped_again_only_by_a_version_that_takes_it_and_can_map_it(database: Database) -> None:
    catalog = a_catalog(order=ORDER)
    order, default = digest_of(catalog, "order"), digest_of(catalog, "_default")
    with database.reading() as conn:
        lane = catalog.map_again(conn, a_call(event="Order"), order, NOW)
        assert lane is not None
        assert (lane.transform, lane.digest) == ("order", order)
        assert catalog.map_again(conn, a_call(event="Other"), order, NOW) is None
        assert catalog.map_again(conn, a_call(event="Other"), default, NOW) is not None
        assert catalog.map_again(conn, a_call(event="Order", userId=MISSING), order, NOW) is None
        assert catalog.map_again(conn, a_call(), a_digest("never"), NOW) is None


def test_a_document_is_not_changed_by_being_mapped_again(database: Database) -> None:
    catalog = a_catalog(order=ORDER)
    call = a_call(event="Order")
    with database.reading() as conn:
        digest = digest_of(catalog, "order")
        assert catalog.map_again(conn, call, digest, NOW) == catalog.map_again(conn, call, digest, NOW)
    assert call.document == a_document(event="Order")
