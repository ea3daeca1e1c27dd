"""A stand-in for Lotus, for every test."""

from collections.abc import Iterator

import pytest

from app.clock import clock
from app.forward.fake_lotus.server import FakeLotus
from tests.forward.forwarding import KEY, MADE


@pytest.fixture
def lotus() -> FakeLotus:
    """A stand-in for Lotus."""
    return FakeLotus(KEY, clock=clock, slow_seconds=0.02)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Close what workers opened."""
    yield
    while MADE:
        MADE.pop().close()
