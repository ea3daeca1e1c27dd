"""The application over a real service on a SQLite file of the test's own, and somebody who sends to it."""

import dataclasses
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.core.credentials import Credentials
from app.ingest.ingest import Ingest
from app.service.build import Service, build
from app.service.flask_app import create_app
from app.settings import Settings
from app.store.engine import connect
from app.store.migrate import migrate
from app.store.refusals import KEPT, Refusal, list_refusals
from app.store.writer import Writer
from app.transforms.sandboxes import SANDBOXES
from tests.builders import DEFAULT_TEXT, SECRET, rows_of
from tests.forked import FORKED
from tests.forward.forwarding import KEY
from tests.served import ADMIN_TOKEN, WEBHOOK, signed, wait_until

SEGMENT_ADDRESS = "198.51.100.7"
"""An address of documentation, for Segment."""

RECEIPT = ("received", "stored", "duplicate", "conflict", "ignored", "rejected")
"""The members of a receipt, in order."""


class Site:
    """An application and the service below it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.app: Flask = create_app(service)
        self.client: FlaskClient = self.app.test_client()

    def send(
        self, body: bytes, headers: Mapping[str, str] | None = None, *, method: str = "POST", path: str = WEBHOOK
    ) -> TestResponse:
        """Send a body to the webhook, signed unless `headers` are given."""
        given = signed(body) if headers is None else headers
        return self.client.open(path, method=method, data=body, headers=dict(given))

    def segment(self, body: bytes, headers: Mapping[str, str] | None = None, **more: str) -> TestResponse:
        """Send a body as Segment does, from its address, signed unless `headers` are given."""
        given = {"User-Agent": "Segment.io/1.0", **(signed(body) if headers is None else headers)}
        return self.client.open(
            more.get("path", WEBHOOK),
            method=more.get("method", "POST"),
            data=body,
            headers=given,
            environ_overrides={"REMOTE_ADDR": more.get("address", SEGMENT_ADDRESS)},
        )

    def ask(self, path: str, token: str | None = None) -> TestResponse:
        """Get a path, with a bearer token where one is given."""
        return self.client.get(path, headers={"Authorization": f"Bearer {token}"} if token else {})

    def rows(self, table: sa.Table, *columns: sa.Column[Any]) -> list[tuple[Any, ...]]:
        """Return the rows of a table."""
        return rows_of(self.service.database, table, *columns)

    def refusals(self, count: int) -> list[Refusal]:
        """Return the refused requests that are kept, newest first, once there are `count` of them."""
        wait_until(lambda: len(self._refusals()) >= count)
        return self._refusals()

    def _refusals(self) -> list[Refusal]:
        with self.service.database.reading() as conn:
            return list_refusals(conn, KEPT + 1)


def counts(answer: TestResponse) -> dict[str, int]:
    """Return the receipt of an answer without its zeros."""
    assert answer.status_code == 200, answer.get_data()
    assert answer.content_type == "application/json"
    receipt = answer.get_json()
    assert tuple(receipt) == RECEIPT
    assert receipt["received"] == sum(receipt[name] for name in RECEIPT[1:])
    return {name: count for name, count in receipt.items() if count}


def with_writer(site: Site, writer: Writer) -> Site:
    """Return an application over the same service, but with another writer."""
    service = site.service
    ingest = Ingest(
        credentials=Credentials(shared_secrets=(SECRET,)),
        require_full_auth=False,
        catalog=service.catalog,
        writer=writer,
        ids=service.ids,
        clock=lambda: 1,
    )
    return Site(dataclasses.replace(service, ingest=ingest))


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file that nobody has open."""
    file = tmp_path_factory.mktemp("migrated") / "template.db"
    database = connect(f"sqlite:///{file}")
    migrate(database)
    database.close()
    return file


def wait_for_refusals() -> None:
    """Wait until what was refused is written down: without its database, a thread would try for ever."""
    for thread in threading.enumerate():
        if thread.name == "refused":
            thread.join(10)


@pytest.fixture
def forked_sandboxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sandboxes are forked: to start one takes a second otherwise."""
    monkeypatch.setattr("app.transforms.sandbox.client.subprocess", FORKED)


@pytest.fixture
def make_site(migrated_file: Path, tmp_path: Path, forked_sandboxes: None) -> Iterator[Callable[..., Site]]:
    """Makes the application, with any settings of the test's choice."""
    shutil.copyfile(migrated_file, tmp_path / "test.db")
    folder = tmp_path / "transforms"
    folder.mkdir()
    (folder / "_default.yaml").write_text(DEFAULT_TEXT)
    made: list[Site] = []

    def make(**settings: Any) -> Site:
        values = {
            "database_url": f"sqlite:///{tmp_path / 'test.db'}",
            "segment_shared_secrets": (SECRET,),
            "admin_token": ADMIN_TOKEN,
            "transforms_dir": folder,
            **settings,
        }
        made.append(Site(build(Settings(**values))))
        return made[-1]

    yield make
    wait_for_refusals()
    for site in made:
        site.app.extensions[SANDBOXES].close()
        site.service.database.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """The application with the settings of a first start."""
    return make_site()


@pytest.fixture
def visited(site: Site) -> Site:
    """The application, with somebody signed in."""
    assert site.client.post("/sign-in", data={"token": ADMIN_TOKEN}).status_code == 303
    return site


@pytest.fixture
def forwarding(make_site: Callable[..., Site], address: str) -> Site:
    """The application, forwarding there."""
    return make_site(lotus_host=address, lotus_api_key=KEY)
