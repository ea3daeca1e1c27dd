"""What is packed by hand arrives as it was."""

from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from app.store.arrays import packer
from app.store.engine import RowRefused, connect, plain_errors

_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
KINDS: dict[str, tuple[sa.types.TypeEngine[Any], st.SearchStrategy[Any]]] = {
    "smallint": (sa.SmallInteger(), st.integers(-(2**15), 2**15 - 1)),
    "integer": (sa.Integer(), st.integers(-(2**31), 2**31 - 1)),
    "bigint": (sa.BigInteger(), st.integers(-(2**63), 2**63 - 1)),
    "text": (sa.Text(), _TEXTS),
    "bytea": (sa.LargeBinary(), st.binary()),
}


@pytest.fixture(scope="module")
def server(postgres_url: str) -> Any:
    database = connect(postgres_url)
    yield database.engine
    database.close()


def _there_and_back(server: sa.Engine, name: str, values: list[Any]) -> list[Any]:
    with server.connect() as conn, plain_errors():
        driver: psycopg.Connection[Any] = conn.connection.driver_connection  # type: ignore[assignment]
        query = f"SELECT array_agg(v ORDER BY n) FROM unnest(%b::{name}[]) WITH ORDINALITY AS t (v, n)"  # noqa: S608
        row = driver.execute(query, [packer(KINDS[name][0])(values)], binary=True).fetchone()
    assert row is not None
    return list(row[0])


@pytest.mark.parametrize("name", KINDS)
def test_values_and_nulls_arrive_as_they_were(server: sa.Engine, name: str) -> None:
    @given(st.lists(KINDS[name][1] | st.none(), min_size=1, max_size=40))
    def check(values: list[Any]) -> None:
        assert _there_and_back(server, name, values) == values

    check()


@pytest.mark.parametrize(
    ("name", "value"),
    [("smallint", 2**15), ("integer", -(2**31) - 1), ("bigint", 2**63), ("text", "\ud83d"), ("text", "a\0b")],
)
def test_a_value_that_does_not_fit_is_refused_as_a_value(server: sa.Engine, name: str, value: Any) -> None:
    for beside in ([value], [None, value]):
        with pytest.raises(RowRefused):
            _there_and_back(server, name, beside)
