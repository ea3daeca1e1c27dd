"""The endpoints that accept calls: the limits, refusals and answers that they share.

Each is a Flask route with a shortcut in front of Flask. Flask's own part of a request (contexts, routing, the response
object) takes 115 of 300 us, as much as all the work on a call. So these requests, on which bills depend, are answered
in front of it, by the same function.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from flask import Blueprint, Response, request

from app.errors import RequestRefused, SegmentLotusError, Unavailable
from app.ingest.ingest import Ingest
from app.ingest.refused_requests import RefusedRequests
from app.ingest.submission import Submission
from app.store.record import Record
from app.store.writer import isolated
from app.web.application import body_limit
from app.web.body import Limit, read_beginning, read_body
from app.web.drain import Drain
from app.web.errors import to_response, to_unavailable
from app.web.in_flight import InFlight

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

JSON = "application/json"


_Look = tuple[str | None, str | None, bool, int | None]
"""What tells senders apart, as cheaply as possible: User-Agent, address, whether a proxy passed it on, and secret."""

_LOOKS_MAX = 500
_NOTE_PAUSE_SECONDS = 60.0

Answer = tuple[str, bytes]
"""The answer to an accepted request: the status line, and JSON."""


class Intake:
    """Accepts the requests of this process."""

    def __init__(
        self,
        ingest: Ingest,
        limit: Limit,
        refused: RefusedRequests,
        in_flight: InFlight,
        drain: Drain,
        *,
        time_request: Callable[[float], None],
        count_refused: Callable[[str], None],
        note_arrival: Callable[[dict[str, Any], int | None], None],
    ) -> None:
        """`limit` of any body. `time_request` gets the seconds of each accepted request, `count_refused` each code.

        `note_arrival` gets the environment of accepted requests, and which shared secret signed them: for senders that
        look alike, one request a minute.
        """
        self.ingest = ingest
        self.drain = drain
        self.limit = limit
        self._in_flight = in_flight
        # A metric that cannot be recorded must not change an answer.
        self._time_request = isolated(time_request)
        self._count_refused = isolated(count_refused)
        self._keep_refused = isolated(refused.note)
        self._note_arrival = isolated(note_arrival)
        self._noted: dict[_Look, float] = {}

    def lower(self, limit: Limit) -> Limit:
        """Return the lower of `limit` and MAX_BODY_BYTES."""
        return min(limit, self.limit)

    def take(self, environ: dict[str, Any], limit: Limit, admit: Callable[[], Submission]) -> list[Record]:
        """Process one request: check its head, read its body, and store its calls; returns after the commit.

        `admit` checks the head. If it refuses the request, the body is read only as far as needed for the sender to get
        the answer.

        Raises:
            RequestRefused: it is not accepted; it is counted and stored among the refused requests.
            Unavailable: likewise, and it should be sent again.

        """
        return self._take(environ, limit, admit, self.ingest.take)

    def forget(self, environ: dict[str, Any], limit: Limit, admit: Callable[[], Submission]) -> None:
        """Read one request and discard it, so that its connection can be reused. Raises what `take` does."""
        self._take(environ, limit, admit, lambda _submission, _body, _note_verified: [])

    def _take(
        self,
        environ: dict[str, Any],
        limit: Limit,
        admit: Callable[[], Submission],
        store: Callable[[Submission, bytes, Callable[[], None]], list[Record]],
    ) -> list[Record]:
        began = time.perf_counter()
        body = b""
        reservation = self._in_flight.reserve(environ["wsgi.input"])
        try:
            if self.drain.started:
                self.drain.refuse()
            try:
                submission = admit()
            except RequestRefused:
                body = read_beginning(environ, reservation)
                raise
            if submission.auth is not None:
                reservation.mark_verified()
            body = read_body(environ, limit, reservation)
            records = store(submission, body, reservation.mark_verified)
        except (RequestRefused, Unavailable) as error:
            self.note_refused(error, environ, body, authentic=reservation.verified)
            raise
        except Exception as fault:
            unavailable = to_unavailable(fault)
            self.note_refused(unavailable, environ, body, authentic=reservation.verified)
            raise unavailable from fault
        finally:
            reservation.close()
        ended = time.perf_counter()
        self._time_request(ended - began)
        look = (
            environ.get("HTTP_USER_AGENT"),
            environ.get("REMOTE_ADDR"),
            "HTTP_X_FORWARDED_FOR" in environ,
            submission.secret,
        )
        if ended >= self._noted.get(look, 0.0):
            self._note(look, ended, environ)
        return records

    def _note(self, look: "_Look", now: float, environ: dict[str, Any]) -> None:
        if len(self._noted) >= _LOOKS_MAX:
            self._noted.clear()
        self._noted[look] = now + _NOTE_PAUSE_SECONDS
        self._note_arrival(environ, look[-1])

    def note_refused(
        self, error: RequestRefused | Unavailable, environ: dict[str, Any], body: bytes, *, authentic: bool = False
    ) -> None:
        """Count a refused request, and store it among the refused requests. Never raises."""
        self._count_refused(error.code)
        self._keep_refused(error, environ, body, authentic=authentic)


class Endpoint(ABC):
    """Routes that accept the calls of one kind of sender."""

    name: ClassVar[str]
    paths: ClassVar[Sequence[str]]
    """Each is matched with and without a trailing slash: a redirect would turn a POST into an empty GET."""
    methods: ClassVar[frozenset[str]]
    headers: ClassVar[tuple[tuple[str, str], ...]] = ()
    """The headers of every answer."""
    answers_options: ClassVar[bool] = False
    """Whether it has its own route for OPTIONS, in place of Flask's."""

    @abstractmethod
    def answer(self, environ: dict[str, Any]) -> Answer:
        """Process one request. Raises what `Intake.take` does."""

    def error_response(self, error: SegmentLotusError) -> Response:
        """Return the response to a request that was not accepted."""
        response = to_response(error)
        response.headers.extend(self.headers)
        return response

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        blueprint = Blueprint(self.name, __name__)
        blueprint.register_error_handler(SegmentLotusError, self.error_response)

        # It reads the body itself, so that Flask and the shortcut read it in the same way.
        @body_limit(None)
        def receive() -> Response:
            status, body = self.answer(request.environ)
            return Response(body, status, [*self.headers], content_type=JSON)

        for path in self.paths:
            blueprint.add_url_rule(
                path,
                f"receive{path}",
                receive,
                methods=sorted(self.methods),
                strict_slashes=False,
                provide_automatic_options=not self.answers_options,
            )
        return blueprint


def shortcut(
    flask: "WSGIApplication",
    endpoints: Iterable[Endpoint],
    drain: Drain,
    note_forwarded: Callable[[], None] | None = None,
) -> "WSGIApplication":
    """Return an application that answers requests to the endpoints as their routes do, and passes on all others.

    `note_forwarded` is called for each request that came with X-Forwarded-For.
    """
    by_path = {spelling: endpoint for endpoint in endpoints for path in endpoint.paths for spelling in _spellings(path)}

    def answer(environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
        if note_forwarded is not None and "HTTP_X_FORWARDED_FOR" in environ:
            note_forwarded()
        endpoint = by_path.get(environ["PATH_INFO"])
        if endpoint is None or environ["REQUEST_METHOD"] not in endpoint.methods:
            return flask(environ, start_response)
        try:
            status, body = endpoint.answer(environ)
        except Exception as error:  # noqa: BLE001  as Flask answers unknown errors
            response = endpoint.error_response(error if isinstance(error, SegmentLotusError) else to_unavailable(error))
            drain.hang_up(response, environ)
            return response(environ, start_response)
        headers = [("Content-Type", JSON), ("Content-Length", str(len(body))), *endpoint.headers]
        if drain.started:
            headers.append(("Connection", "close"))
        start_response(status, headers)
        return [body]

    return answer


def _spellings(path: str) -> tuple[str, str]:
    bare = path.rstrip("/")
    return bare, f"{bare}/"
