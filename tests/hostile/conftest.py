"""A service for whoever means it no good."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.hostile.proxies import proxy
from tests.hostile.slow import Slow, send_with_pauses
from tests.programs import find_program
from tests.served import ROOT, Served, served


def serving(folder: Path) -> AbstractContextManager[Served]:
    # Public numbers: a proxy that denies them must not be deceived.
    url, metrics = f"sqlite:///{folder / 'test.db'}", str(ROOT / "metrics")
    return served(url, folder, WEB_CONCURRENCY="1", METRICS_PUBLIC="1", METRICS_DIR=metrics)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service of the module's own with one worker: whoever holds it up holds everybody up."""
    with serving(tmp_path_factory.mktemp("hostile")) as running:
        yield running


@pytest.fixture(scope="session")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slow]:
    """Clients that take half a minute, at a service of their own. Who asks for them only lets them begin."""
    with serving(tmp_path_factory.mktemp("slow")) as running:
        yield Slow(running)


@pytest.fixture(scope="session")
def paused(slow: Slow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[list[int]] | None]:
    """The statuses of calls that came through nginx, with pauses, to the same service; None where there is no nginx."""
    if find_program("nginx") is None:
        yield None
        return
    with proxy("nginx", slow.service.port, tmp_path_factory.mktemp("paused")) as port, ThreadPoolExecutor(1) as threads:
        yield threads.submit(send_with_pauses, port, clients=4, pause_seconds=20)
