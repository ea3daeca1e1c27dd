import os
import re
from pathlib import Path

import pytest

from app.service.first_env import write_first_env
from app.settings import Settings, load_for_serving


def test_the_first_env_is_enough_to_serve(tmp_path: Path) -> None:
    assert write_first_env(tmp_path / ".env")
    settings = load_for_serving({}, tmp_path / ".env")
    assert settings.database_url == Settings().database_url
    assert len(settings.segment_shared_secrets) == 1
    assert len(settings.segment_shared_secrets[0]) > 40
    assert len(settings.admin_token) > 40


def test_no_two_first_envs_share_a_secret(tmp_path: Path) -> None:
    write_first_env(tmp_path / "a")
    write_first_env(tmp_path / "b")
    a, b = (set(re.findall(r"=(\S{43})$", (tmp_path / name).read_text(), re.MULTILINE)) for name in "ab")
    assert len(a) == len(b) == 2
    assert not a & b


def test_the_first_env_is_for_its_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        write_first_env(tmp_path / ".env")
    finally:
        os.umask(umask)
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


def test_an_env_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=1\n")
    assert not write_first_env(tmp_path / ".env")
    assert (tmp_path / ".env").read_text() == "PORT=1\n"


def test_a_link_to_nowhere_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / ".env").symlink_to(tmp_path / "elsewhere")
    assert not write_first_env(tmp_path / ".env")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_leaves_no_half_env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fdopen

    def on_a_full_disk(descriptor: int, mode: str, *, encoding: str) -> object:
        os.close(descriptor)
        return real(os.open("/dev/full", os.O_WRONLY), mode, encoding=encoding)

    monkeypatch.setattr("os.fdopen", on_a_full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_first_env(tmp_path / ".env")
    assert not (tmp_path / ".env").exists()
