"""The real application in this process, over a real database: what the fuzzers send to and look at."""

import contextlib
import io
import json
import os
import re
import traceback
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import sqlalchemy as sa
from flask import Flask

from app.cli.log_output import configure
from app.clock import clock
from app.metrics.fold import BucketBuilder
from app.service.build import Service, build
from app.service.flask_app import create_app
from app.settings import Settings
from app.store.engine import Database, connect
from app.store.migrate import migrate
from app.transforms.sandboxes import SANDBOXES
from tests.builders import SECRET
from tests.served import ADMIN_TOKEN
from tools.fuzz.requests import BASIC, BEARER, INGEST_KEY, WRITE_KEY, Request

HERE = Path(__file__).parent
TRANSFORMS, METRICS = HERE / "transforms", HERE / "metrics"

# What a log line says where something happened that nobody expected.
_ALARMS = ("Traceback", "unexpected error", '"level": "error"', '"level":"error"', "events not aggregated")
FORM = "application/x-www-form-urlencoded"
_STATM = "/proc/self/statm"


class Fault(Exception):
    """Something that must not be. The text says what, and is one kind of fault up to its first colon."""

    @property
    def kind(self) -> str:
        """What all faults of its kind have in common."""
        return str(self).partition(": ")[0]


class Answer(NamedTuple):
    """What the application answered."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def text(self) -> str:
        """The body, as far as it is text."""
        return self.body.decode(errors="replace")


class Target:
    """An application and the service below it, with a log that can be read."""

    def __init__(self, database_url: str, folder: Path, **settings: Any) -> None:
        """Migrate the database and put the service together. `folder`: for its log.

        Raises:
            Unavailable: the database cannot be reached.

        """
        self.database_url = database_url
        database = connect(database_url)
        migrate(database)
        database.close()
        self._log = (folder / "service.log").open("a+", encoding="utf-8")
        values: dict[str, Any] = {
            "database_url": database_url,
            "segment_shared_secrets": (SECRET,),
            "segment_bearer_tokens": (BEARER,),
            "segment_basic_auth": (BASIC,),
            "segment_write_keys": (WRITE_KEY,),
            "lotus_ingest_keys": (INGEST_KEY,),
            "admin_token": ADMIN_TOKEN,
            "transforms_dir": TRANSFORMS,
            "metrics_dir": METRICS,
            "log_properties": True,
            **settings,
        }
        # The log of calls and that of all else keep the stream that was standard output when they were made.
        with contextlib.redirect_stdout(self._log):
            configure("info")
            self.service: Service = build(Settings(**values))
            self.app: Flask = create_app(self.service)
        self._judge = _connect(database_url)
        self.cookie = self._sign_in()
        self.folder = BucketBuilder(self.service.database, self.service.ids.tag, clock)

    @property
    def database(self) -> Database:
        """What everything is stored in."""
        return self.service.database

    def send(self, request: Request, *, by_flask: bool = False) -> Answer:
        """Send one request, by the shortcut or by the route behind it. Raises Fault for what no sender may see."""
        application = Flask.wsgi_app if by_flask else None
        environ = self.environ(request)
        return self._answer(environ, application)

    def get(self, path: str, **query: str) -> Answer:
        """Get a page as somebody who is signed in, or a document with the admin token. Raises Fault."""
        headers = (("Authorization", f"Bearer {ADMIN_TOKEN}"), ("Cookie", self.cookie))
        request = Request("GET", path, headers, b"")
        return self._answer({**self.environ(request), "QUERY_STRING": urlencode(query, errors="surrogatepass")})

    def _sign_in(self) -> str:
        body = urlencode({"token": ADMIN_TOKEN}).encode()
        answer = self.send(Request("POST", "/sign-in", (("Content-Type", FORM),), body))
        return answer.headers["set-cookie"].partition(";")[0]

    def ask(self, environ: dict[str, Any]) -> Answer:
        """Answer a WSGI request. Raises Fault."""
        return self._answer(environ)

    @staticmethod
    def environ(request: Request) -> dict[str, Any]:
        """Return a request as a WSGI server hands it on."""
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method,
            "PATH_INFO": request.path,
            "QUERY_STRING": "",
            "SCRIPT_NAME": "",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_LENGTH": str(len(request.body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(request.body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in request.headers:
            key = name.upper().replace("-", "_")
            environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
        return environ

    def _answer(self, environ: dict[str, Any], application: Any = None) -> Answer:
        said: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], _error: object = None) -> Any:
            said[:] = [int(status[:3]), {name.lower(): value for name, value in headers}]

        name = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']!a}"
        try:
            parts = application(self.app, environ, start_response) if application else self.app(environ, start_response)
            body = b"".join(parts)
            if hasattr(parts, "close"):
                parts.close()
        except Exception as error:
            lines = "".join(traceback.format_exception(error)[-3:])
            raise Fault(f"exception {type(error).__name__}: {name}\n{lines}") from error
        answer = Answer(said[0], said[1], body)
        if answer.status >= 500:
            where = re.sub("[0-9]+", "#", environ["PATH_INFO"])[:40]
            kind = f"status {answer.status} {environ['REQUEST_METHOD']} {where!a}"
            # The answer itself says of an unexpected error no more than that there was one.
            causes = "".join(f"\n{alarm}" for alarm in self.read_log())
            raise Fault(f"{kind}: {name} {environ['QUERY_STRING']!a} {_text_of(answer)[:300]}{causes}")
        if 300 <= answer.status < 400 and environ["REQUEST_METHOD"] != "GET" and _is_ingest(environ["PATH_INFO"]):
            raise Fault(f"redirect: {name}")
        return answer

    def read_log(self) -> list[Fault]:
        """Read what was logged since the last look; return each alarm, and each line that is no JSON."""
        self._log.flush()
        self._log.seek(0)
        # Not by any other sign that ends a line somewhere: in JSON they stand as they are.
        lines = self._log.read().split("\n")
        self._log.seek(0)
        self._log.truncate()
        faults = []
        for line in lines:
            alarm = next((alarm for alarm in _ALARMS if alarm in line), None)
            try:
                document = json.loads(line) if line else {}
            except ValueError:
                faults.append(Fault(f"log no JSON: {line[:1000]!a}"))
                continue
            if alarm is not None:
                trace = str(document.get("exception", "")).splitlines()
                place = next((text.strip() for text in reversed(trace) if "/app/" in text), "")
                end = trace[-1][:200] if trace else str(document)[:500]
                faults.append(Fault(f"log {alarm} {end.partition(':')[0]} {place}: {end}"))
        return faults

    def execute(self, statement: str, **values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a SQL query of the judge's own, over a connection of its own."""
        return [tuple(row) for row in self._judge.execute(_text(statement), values)]

    def fold(self) -> int:
        """Add up all events in buckets; return in how many steps. Raises Fault."""
        steps = 0
        try:
            while self.folder.step():
                steps += 1
        except Exception as error:
            lines = "".join(traceback.format_exception(error)[-4:])
            raise Fault(f"fold {type(error).__name__}: {lines}") from error
        return steps

    def close(self) -> None:
        """Close what is open."""
        self.app.extensions[SANDBOXES].close()
        self._judge.engine.dispose()
        self.database.close()
        self._log.close()


def _connect(database_url: str) -> sa.Connection:
    # No transaction that begins and ends with each query: there are some for every request.
    return sa.create_engine(database_url, isolation_level="AUTOCOMMIT", poolclass=sa.StaticPool).connect()


@cache
def _text(statement: str) -> sa.TextClause:
    return sa.text(statement)


def _text_of(answer: Answer) -> str:
    """Return what an answer says, without the head of a page."""
    return re.sub(r"\s*<[^>]*>\s*", " ", answer.text.partition("<main")[2] or answer.text)


def _is_ingest(path: str) -> bool:
    return path.startswith(("/webhooks/", "/v1/", "/api/track"))


def resident_bytes() -> int:
    """Return the memory that this process holds."""
    pages = int(Path(_STATM).read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
