"""A text is stored as it came, whatever the environment of the program or the encoding of the server's database."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from app.core.outcome import Outcome
from app.errors import SettingInvalid
from app.service.commands import main
from app.settings import SETTINGS
from app.store.engine import connect
from app.store.migrate import migrate
from app.store.schema import calls, events
from tests.builders import SECRET, a_document, an_ingest, outcomes_of, post, rows_of, to_raw


@pytest.fixture(params=["LATIN1", "SQL_ASCII"])
def other_url(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[str]:
    """The URL of a PostgreSQL database that is not UTF-8."""
    name = f"test_{uuid.uuid4().hex}"
    engine = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    locale = "LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    with engine.connect() as conn:
        conn.exec_driver_sql(f"CREATE DATABASE \"{name}\" ENCODING '{request.param}' {locale}")
        yield sa.make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
        conn.exec_driver_sql(f'DROP DATABASE "{name}" WITH (FORCE)')
    engine.dispose()


def test_a_database_that_is_not_utf_8_is_refused_at_start_and_by_the_doctor(
    other_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = connect(other_url)
    with pytest.raises(SettingInvalid, match="which does not hold every text; make one with CREATE DATABASE"):
        migrate(database)
    database.close()
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)
    for name, value in {"DATABASE_URL": other_url, "SEGMENT_SHARED_SECRETS": SECRET, "ADMIN_TOKEN": "a" * 20}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    for command in ("serve", "migrate", "doctor", "log"):
        result = CliRunner().invoke(main, [command])
        assert result.exit_code == 1, command
        assert "has the encoding" in result.output, command
        assert "Traceback" not in result.output


@pytest.mark.parametrize("way", ["environment", "URL"])
def test_texts_are_utf_8_whatever_the_environment_asks_for(
    migrated_postgres_url: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    url = migrated_postgres_url
    if way == "environment":
        monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    else:
        url = sa.make_url(url).update_query_dict({"client_encoding": "latin1"}).render_as_string(hide_password=False)
    for serving in (True, False):
        database = connect(url, serving=serving)
        body = to_raw(a_document(messageId=f"mü-日本-{serving}", userId="Müller", properties={"city": "Zürich"}))
        ingest = an_ingest(database)
        assert outcomes_of(post(ingest, body)) == [Outcome.STORED]
        assert outcomes_of(post(ingest, body)) == [Outcome.DUPLICATE]
        [*_, (customer, properties)] = rows_of(database, events, events.c.customer_id, events.c.properties)
        assert (customer, properties) == ("Müller", '{"city":"Zürich"}')
        assert rows_of(database, calls, calls.c.message_id)[-1] == (f"mü-日本-{serving}",)
        database.close()
