"""PostgreSQL connections, of three kinds: they differ in how long they wait for a silent server.

A server whose processes are stopped, or whose network drops packets, keeps its connections open, and its kernel keeps
acknowledging what is sent. Only a timeout of our own detects that. It is in `Connection.wait`, through which all waits
of psycopg go, with and without gevent.
"""

import re
import socket
import time
from collections import deque
from enum import Enum
from typing import Any, NamedTuple, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg.abc import PQGen

from app.errors import SettingInvalid, Unavailable

# A node that vanishes during a commit holds its locks this long. Its own timeout for each answer is a third of that.
VANISHED_SECONDS = 9
# After 3 s of silence the server sends three probes, 2 s apart.
_KEEPALIVES_IDLE = "3"

_TRANSACTION_TIMEOUT_SINCE = 170_000
"""The first server version that has `transaction_timeout`, in libpq's notation."""

# How long after a timeout new requests fail at once: those queued behind it need not wait for a timeout of their own.
_PAUSE_SECONDS = 1.0

SILENT = "the database does not answer"
AWAY = "the database cannot be reached"

_INTERVAL_SECONDS = 0.1
"""psycopg's default: how often a wait checks for signals."""


_Kind = TypeVar("_Kind", bound=psycopg.Connection[Any])


class Patience(Enum):
    """What to do about a server that was silent for `wait_seconds`."""

    ENDLESS = "wait"
    """For long work that nobody waits for: replays, migrations, commands. It continues when the server does."""
    WATCHFUL = "wait while the server still accepts connections"
    """For the other work of a serving process: a report may take long, but must not wait for a hung server."""
    SHORT = "give up"
    """For the group commit."""


class LockRelease(NamedTuple):
    """How the server releases the locks of a node that vanishes during a commit."""

    version: str
    """As the server reports it."""
    has_timeout: bool
    """By `transaction_timeout`."""
    has_keepalives: bool
    """By TCP keepalives. Also true if the server is on this machine: then a node cannot vanish without it."""


def find_lock_release(conn: sa.Connection) -> LockRelease:
    """Ask the server. `conn` is a connection of the group commit."""
    rows = conn.execute(
        sa.text(
            "SELECT current_setting('server_version'), current_setting('transaction_timeout', true),"
            " inet_client_addr() IS NULL OR current_setting('tcp_keepalives_idle') = :idle"
        ),
        {"idle": _KEEPALIVES_IDLE},
    )
    version, timeout, has_keepalives = rows.one()
    return LockRelease(version, timeout == f"{VANISHED_SECONDS}s", has_keepalives)


class Silence:
    """Remembers for a moment that the server is silent. Shared by all connections to it."""

    def __init__(self) -> None:
        self._until = 0.0

    def begin(self) -> None:
        """Record that no answer came."""
        self._until = time.monotonic() + _PAUSE_SECONDS

    def refuse(self) -> None:
        """Raise Unavailable if the server was silent a moment ago."""
        if time.monotonic() < self._until:
            raise Unavailable(SILENT)


class ServerSilent(psycopg.OperationalError):
    """The server did not answer in time. The connection is closed; the outcome of the transaction is unknown."""


class PostgresConnection(psycopg.Connection[Any]):
    """Waits for answers as long as its engine's Patience allows. Made by `create_engine`."""

    dialer: "_Dialer"
    _is_silent = False

    def wait(self, gen: PQGen[Any], interval: float = _INTERVAL_SECONDS, timeout: float | None = None) -> Any:
        """Wait for an answer. Raises ServerSilent."""
        dialer = self.dialer
        if dialer.patience is Patience.ENDLESS or timeout is not None:
            return super().wait(gen, interval, timeout)
        while not self._is_silent:
            try:
                return super().wait(gen, interval, dialer.wait_seconds)
            except psycopg.errors._WaitTimeout:  # noqa: SLF001  documented in `wait`, and exported nowhere
                if dialer.patience is Patience.WATCHFUL and dialer.server_answers():
                    continue
                # Do not tell the server: a cancellation request would hang in the same way.
                self.close()
                self._is_silent = True
                dialer.silence.begin()
        message = f"the server did not answer for {dialer.wait_seconds:g} s"
        raise ServerSilent(message)

    def is_open(self) -> bool:
        """Tell whether the server has not closed the connection. Costs a microsecond and no round trip."""
        try:
            # The first call reads the server's last message, the second the end of the stream.
            self.pgconn.consume_input()
            self.pgconn.consume_input()
        except psycopg.OperationalError:
            return False
        return True


class _Dialer:
    """Makes the connections of one engine, and remembers which addresses are silent."""

    def __init__(self, silence: Silence, patience: Patience, wait_seconds: float) -> None:
        self.silence = silence
        self.patience = patience
        self.wait_seconds = wait_seconds
        self._parameters: dict[str, Any] = {}
        self._silent_addresses = 0

    def connect(
        self, _dialect: object, _record: object, _arguments: object, parameters: dict[str, Any]
    ) -> PostgresConnection:
        """Connect; SQLAlchemy's `do_connect`.

        Raises Unavailable if there is no connection, SettingInvalid if the database is not UTF-8.
        """
        self.silence.refuse()
        self._parameters = parameters
        try:
            connection = self._dial(PostgresConnection)
        except psycopg.errors.ConnectionTimeout as error:
            raise Unavailable(SILENT, detail=_describe(parameters, "no answer in time")) from error
        except psycopg.OperationalError as error:
            raise Unavailable(AWAY, detail=_describe(parameters, _reason_of(error))) from error
        connection.dialer = self
        _check_encoding(connection)
        if self.patience is Patience.SHORT and connection.info.server_version >= _TRANSACTION_TIMEOUT_SINCE:
            # Not in the connection options: an older server would refuse the connection.
            connection.autocommit = True
            connection.execute(f"SET transaction_timeout = '{VANISHED_SECONDS}s'")
            connection.autocommit = False
        return connection

    def check_out(self, connection: PostgresConnection, _record: object, _proxy: object) -> None:
        """Refuse to hand out a dead connection; SQLAlchemy's `checkout`."""
        self.silence.refuse()
        if not connection.is_open():
            # The server probably restarted: then all of them are dead.
            raise sa.exc.InvalidatePoolError

    def server_answers(self) -> bool:
        """Tell whether the server answers a new connection, even if with an error."""
        try:
            self._dial(psycopg.Connection).close()
        except psycopg.errors.ConnectionTimeout:
            return False
        except psycopg.OperationalError:
            return True
        return True

    def _dial(self, kind: type[_Kind]) -> _Kind:
        """Connect to the first address of the host that answers.

        psycopg would give each address the whole timeout, and `localhost` has two. Here a silent address ends the
        attempt, and the next attempt begins with the address after it.
        """
        addresses = deque(_resolve(self._parameters))
        addresses.rotate(-self._silent_addresses)
        while True:
            address = addresses.popleft()
            try:
                return kind.connect(**self._parameters, **address)
            except psycopg.errors.ConnectionTimeout:
                self._silent_addresses += 1
                self.silence.begin()
                raise
            except psycopg.OperationalError:
                if not addresses:
                    raise


def _check_encoding(connection: psycopg.Connection[Any]) -> None:
    """Raise SettingInvalid for a database that cannot store all of Unicode. The server reports it on connecting."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in {"UTF8", None}:
        name = connection.info.dbname
        connection.close()
        raise SettingInvalid(
            f"the database {name!r} in DATABASE_URL has the encoding {encoding}, which does not hold every text; make"
            " one with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0, and move what is there with pg_dump"
        )


def create_engine(url: sa.URL, silence: Silence, patience: Patience, wait_seconds: float) -> sa.Engine:
    """Return an engine that opens nothing yet.

    `silence` is shared by all engines of one server. `wait_seconds` limits the wait for a connection, for a lock, and,
    depending on `patience`, for an answer.
    """
    options = {"synchronous_commit": "on", "timezone": "UTC"}
    if patience is Patience.SHORT:
        # Less than the timeout for an answer: a held lock does not mean that the server hangs.
        options["lock_timeout"] = f"{int(wait_seconds * 1000) - 500}ms"
        # The server detects a vanished node. Not by transaction_timeout alone, which is new in 17.
        options |= {
            "tcp_keepalives_idle": _KEEPALIVES_IDLE,
            "tcp_keepalives_interval": "2",
            "tcp_keepalives_count": "3",
            "tcp_user_timeout": f"{VANISHED_SECONDS}s",
        }
    else:
        options["lock_timeout"] = f"{int(wait_seconds * 1000)}ms"
    engine = sa.create_engine(
        url,
        # Only one group commit runs at a time; the other connection is for /readyz. Last in, first out: the connection
        # used last has the statements prepared.
        pool_size=2 if patience is Patience.SHORT else 5,
        pool_use_lifo=True,
        pool_timeout=wait_seconds,
        connect_args={
            "connect_timeout": int(wait_seconds),
            # The drivers send UTF-8, whatever PGCLIENTENCODING or the URL says.
            "client_encoding": "utf8",
            # If the machine of the server is gone, nothing resets the connection.
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 2,
            "tcp_user_timeout": 10_000,
            "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
        },
    )
    dialer = _Dialer(silence, patience, wait_seconds)
    sa.event.listen(engine, "do_connect", dialer.connect)
    # Instead of SQLAlchemy's pool_pre_ping, which costs a round trip for every commit.
    sa.event.listen(engine, "checkout", dialer.check_out)
    return engine


def _describe(parameters: dict[str, Any], reason: str) -> str:
    """Return where a connection was tried, and why there is none; never the password."""
    host = parameters.get("host") or "the local socket"
    place = host if str(host).startswith("/") else f"{host}:{parameters.get('port', 5432)}"
    return f"PostgreSQL at {place} (DATABASE_URL): {reason}"


def _reason_of(error: psycopg.OperationalError) -> str:
    """Return the last clause of libpq's first line: `connection to server at ... failed: Connection refused`."""
    line = str(error).strip().split("\n", 1)[0]
    reason = re.split(r"failed: |FATAL: |\[Errno -?\d+\] ", line)[-1].strip()
    return reason.rstrip(".") or type(error).__name__


def _resolve(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Return connection parameters for each address of the host; one without an address if psycopg must resolve it."""
    host = parameters.get("host", "")
    if not host or host.startswith("/") or "," in host or "hostaddr" in parameters:
        return [{}]
    try:
        answers = socket.getaddrinfo(
            host, parameters.get("port", 5432), proto=socket.IPPROTO_TCP, type=socket.SOCK_STREAM
        )
    except OSError:
        return [{}]
    return [{"hostaddr": answer[4][0]} for answer in answers]
