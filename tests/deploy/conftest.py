"""One real service for all tests that only ask it something."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.served import Served, served


@pytest.fixture(scope="package")
def service(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A running service behind one proxy."""
    folder = tmp_path_factory.mktemp("deploy")
    shutil.copyfile(sqlite_template, folder / "test.db")
    with served(f"sqlite:///{folder / 'test.db'}", folder, TRUSTED_PROXIES="1", WEB_CONCURRENCY="1") as running:
        yield running
