import pytest

from app.errors import NotFound
from app.store.engine import Database
from app.store.versions import Version, append_versions, get_version
from tests.builders import NOW, a_digest


def a_version(name: str = "1", text: str = "event: {}") -> Version:
    return Version(a_digest(name), "transform", name, text, a_digest("parent"), NOW)


def test_a_version_comes_back_as_it_was_kept(database: Database) -> None:
    version = a_version(text="# é \N{GRINNING FACE}\n\tevent: 'x'\r\n")
    orphan = Version(a_digest("2"), "transform", "2", "", None, NOW)
    with database.writing() as conn:
        append_versions(conn, [version, orphan])
    with database.reading() as conn:
        assert get_version(conn, version.digest) == version
        assert get_version(conn, orphan.digest) == orphan


def test_a_version_is_kept_once_and_the_first_sight_of_it_stays(database: Database) -> None:
    with database.writing() as conn:
        assert append_versions(conn, [a_version("1"), a_version("2"), a_version("1")]) == 2
        later = Version(a_digest("1"), "transform", "1", "event: {}", a_digest("parent"), NOW + 1)
        assert append_versions(conn, [later, a_version("3")]) == 1
        assert append_versions(conn, []) == 0
        assert get_version(conn, a_digest("1")).seen_at == NOW


def test_a_digest_that_was_never_seen_is_not_found(database: Database) -> None:
    with database.reading() as conn, pytest.raises(NotFound, match=a_digest("9").hex()):
        get_version(conn, a_digest("9"))
