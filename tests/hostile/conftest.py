"""A service for whoever means it no good."""

from collections.abc import Iterator

import pytest

from tests.served import ROOT, Served, served


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service of the module's own with one worker: whoever holds it up holds everybody up."""
    folder = tmp_path_factory.mktemp("hostile")
    # Public numbers: a proxy that denies them must not be deceived.
    url, metrics = f"sqlite:///{folder / 'test.db'}", str(ROOT / "metrics")
    with served(url, folder, WEB_CONCURRENCY="1", METRICS_PUBLIC="1", METRICS_DIR=metrics) as running:
        yield running
