"""Stores the last refused requests in the database, with a bounded rate of writes however many come."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import structlog

from app.core.json_text import encode
from app.core.mismatch import MAX_BYTES
from app.core.tracking import hide_write_keys
from app.errors import SegmentLotusError, SignatureMismatch, Unavailable
from app.ingest.sender import find_sender
from app.store.engine import Database, DuplicateKey
from app.store.ids import Ids
from app.store.refusals import BODY_START_BYTES, KEPT, Refusal, Sender, append_refusals
from app.web.peer import find_client

# The least time between two writes, however many requests are refused.
_PAUSE_SECONDS = 0.25
# If the database has a problem, calls take precedence.
_PAUSE_IN_TROUBLE_SECONDS = 2
_VALUE_MAX = 300
_DIAGNOSIS_PAUSE_SECONDS = 1.0

# Stored whole; of every other header only the name is stored, since its value may be a credential.
_SHOWN = {
    "HOST",
    "USER_AGENT",
    "ACCEPT",
    "ACCEPT_ENCODING",
    "CONTENT_ENCODING",
    "TRANSFER_ENCODING",
    "X_FORWARDED_FOR",
    "X_FORWARDED_PROTO",
    "X_REQUEST_ID",
}

# The part of an Authorization header that is shown. One without a scheme is the credential itself.
_SCHEMES = {"bearer", "basic", "digest", "token", "apikey"}

_LOG = structlog.get_logger("refused")


Diagnose = Callable[[bytes, str], str | None]
"""(body, X-Signature) -> why the signature does not match, for people; None if nobody knows."""


class Suspect(NamedTuple):
    """A request whose signature does not match, to be examined."""

    refusal: Refusal
    body: bytes
    signature: str


class RefusedRequests:
    """Collects refused requests, and writes them in the background."""

    def __init__(
        self,
        database: Database,
        ids: Ids,
        clock: Callable[[], int],
        *,
        trusted_proxies: int = 0,
        diagnose: Diagnose = lambda _body, _signature: None,
    ) -> None:
        """`diagnose` is called in the background, at most once a second, and never delays an answer."""
        self._trusted_proxies = trusted_proxies
        self._diagnose = diagnose
        self._suspect: Suspect | None = None
        self._diagnosed_at = float("-inf")
        self._database = database
        self._ids = ids
        self._clock = clock
        self._waiting: deque[Refusal] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        self._writing = False

    def note(self, error: SegmentLotusError, environ: dict[str, Any], body: bytes, *, authentic: bool = False) -> None:
        """Record one refused request. Returns at once. `authentic`: it had a valid credential."""
        now = self._clock()
        refusal = Refusal(
            self._ids.next(now),
            now,
            error.code,
            error.message,
            environ["REQUEST_METHOD"],
            environ.get("PATH_INFO", "")[:_VALUE_MAX],
            encode(shown_headers(environ)).decode(),
            # SDKs put the write key into the body, too.
            hide_write_keys(body[:BODY_START_BYTES]),
            find_client(environ, self._trusted_proxies),
            find_sender(environ, authentic=authentic),
        )
        if isinstance(error, SignatureMismatch):
            self._keep_suspect(Suspect(refusal, body, environ.get("HTTP_X_SIGNATURE", "")))
        _LOG.warning("request refused", code=error.code, message=error.message)
        self._waiting.append(refusal)
        with self._lock:
            start, self._writing = not self._writing, True
        if start:
            threading.Thread(target=self._write, name="refused", daemon=True).start()

    def _keep_suspect(self, suspect: Suspect) -> None:
        """Keep it to be examined, if it is the first since the last one was; Segment's goes before a stranger's."""
        if time.monotonic() < self._diagnosed_at + _DIAGNOSIS_PAUSE_SECONDS or len(suspect.body) > MAX_BYTES:
            return
        if self._suspect is None or (
            suspect.refusal.sender is Sender.SEGMENT and self._suspect.refusal.sender is not Sender.SEGMENT
        ):
            self._suspect = suspect

    def _examine(self) -> None:
        suspect, self._suspect = self._suspect, None
        if suspect is not None:
            self._diagnosed_at = time.monotonic()
            suspect.refusal.diagnosis = self._diagnose(suspect.body, suspect.signature)

    def _write(self) -> None:
        pause = _PAUSE_SECONDS
        while True:
            time.sleep(pause)
            pause = _PAUSE_SECONDS
            batch: list[Refusal] = []
            try:
                self._examine()
                batch += [self._waiting.popleft() for _ in range(len(self._waiting))]
                with self._database.writing() as conn:
                    append_refusals(conn, batch)
            except Unavailable:
                # Keep them until the database is back; if there are too many, drop the oldest.
                room = KEPT - len(self._waiting)
                self._waiting.extendleft(reversed(batch[max(0, len(batch) - room) :]))
                pause = _PAUSE_IN_TROUBLE_SECONDS
            except DuplicateKey:
                # Another process has our tag, and made an id in the same microsecond.
                self._ids.renew()
                for refusal in batch:
                    refusal.id = self._ids.next(refusal.received_at)
                self._waiting.extendleft(reversed(batch))
            except Exception:  # noqa: BLE001
                # Whatever the error, later requests must still be stored.
                _LOG.exception("refused requests could not be stored", count=len(batch))
            with self._lock:
                if not self._waiting:
                    self._writing = False
                    return


def shown_headers(environ: dict[str, Any]) -> dict[str, str]:
    """Return the request's headers, with every value that may be a credential replaced by a description of it."""
    shown = {}
    for key, value in environ.items():
        name = key.removeprefix("HTTP_")
        if name in {"CONTENT_TYPE", "CONTENT_LENGTH"} or (key.startswith("HTTP_") and name in _SHOWN):
            text = str(value)[:_VALUE_MAX]
        elif key == "HTTP_AUTHORIZATION":
            scheme, _, credential = str(value).partition(" ")
            text = f"{scheme} (hidden)" if credential and scheme.lower() in _SCHEMES else "(hidden)"
        elif key == "HTTP_X_SIGNATURE":
            text = f"{len(str(value))} characters (hidden)"
        elif key.startswith("HTTP_"):
            text = "(hidden)"
        else:
            continue
        shown[name.replace("_", "-").lower()] = text.encode(errors="replace").decode().replace("\0", "")
    return shown
