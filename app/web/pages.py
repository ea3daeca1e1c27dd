"""What all pages share: access, rendering, and security headers.

A page shows the results of the same functions that the JSON API and the command line call. It is read and rendered
through `offload`, so that no page, however large, delays a webhook request.
"""

from collections.abc import Callable
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, request
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from werkzeug.exceptions import HTTPException

from app.catalog.backend import Backend
from app.clock import clock
from app.core.text import counted, to_visible
from app.core.times import format_time
from app.errors import SegmentLotusError, Unauthorized
from app.store.engine import Connection
from app.web.errors import to_status, to_unavailable
from app.web.offload import Offload
from app.web.parameters import full_address
from app.web.sessions import check_csrf, csrf_token, is_signed_in, require_session
from app.web.sign_in import to_return_path

Values = dict[str, Any]
Work = Callable[[Backend], Values]

FindPause = Callable[[Connection, int], object | None]
"""(connection, now) -> why forwarding to Lotus is paused; None if it is not."""

_HERE = Path(__file__).parent

_HEADERS = {
    # Scripts, styles and pictures are our own files: no content of a call can ever run.
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Pages show customers' data.
    "Cache-Control": "no-store",
}


class Pages:
    """Renders pages. One per application."""

    def __init__(self, offload: Offload, find_pause: FindPause | None = None) -> None:
        """`find_pause` returns what the banner of each page shows."""
        self._offload = offload
        self._find_pause = find_pause

    def blueprint(self, name: str) -> Blueprint:
        """Return a blueprint of pages: they need a session and CSRF tokens, and show errors as pages."""
        blueprint = Blueprint(name, __name__)
        blueprint.before_request(self._guard)
        blueprint.register_error_handler(Exception, self.show_error)
        blueprint.after_request(protect)
        return blueprint

    def read(self, work: Callable[[Backend], Any]) -> Any:
        """Run a read of the database off the event loop. It may not use Flask's request."""
        return self._offload(work)

    def show(
        self, template: str, work: Work | None = None, status: int = 200, *, fragment: bool = False, **values: Any
    ) -> Response:
        """Render a page with `values`, and those that `work` reads from the database.

        `fragment`: a part of a page, without the banner.
        """
        common = {
            "place": request.path,
            "address": full_address(request),
            "csrf": csrf_token(),
            "signed_in": is_signed_in(),
            "pause": None,
        }
        find_pause = None if fragment else self._find_pause

        def render(backend: Backend) -> str:
            more = work(backend) if work else {}
            if find_pause:
                with backend.database.reading() as conn:
                    more = {**more, "pause": find_pause(conn, clock())}
            return _templates().get_template(template).render({**common, **values, **more})

        # Without `work` no database is read: an error of the database must not prevent its own message.
        text = self._offload(render) if work else _templates().get_template(template).render({**common, **values})
        # Half of a surrogate pair that a template did not handle is shown as JSON writes it.
        return Response(text.encode(errors="backslashreplace"), status, content_type=_HTML)

    def show_error(self, error: Exception) -> Response:
        """Return the page of an error; without a session, the sign-in form instead."""
        if isinstance(error, Unauthorized):
            place = to_return_path(full_address(request))
            return self.show("sign_in.html", status=401, next=place, wrong=None)
        if isinstance(error, HTTPException):
            status, code, message = error.code or 500, error.name, error.description or error.name
        else:
            problem = error if isinstance(error, SegmentLotusError) else to_unavailable(error)
            status = to_status(problem) or 503
            code, message = problem.code, problem.message
        return self.show("error.html", status=status, code=code.replace("_", " "), message=message)

    def _guard(self) -> None:
        require_session()
        check_csrf(request)


_HTML = "text/html; charset=utf-8"


@cache
def _templates() -> Environment:
    """Return the templates; they are compiled once per process, even if it makes several applications."""
    templates = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # The address of a file changes with its content, so that browsers can cache it.
    version = blake2b(b"".join(file.read_bytes() for file in sorted((_HERE / "static").iterdir())), digest_size=6)
    templates.globals["static"] = lambda name: f"/static/{name}?v={version.hexdigest()}"
    templates.filters["counted"] = counted
    templates.filters["moment"] = to_moment
    templates.filters["visible"] = to_visible
    return templates


def protect(response: Response) -> Response:
    """Add the security headers of a page."""
    response.headers.update(_HEADERS)
    return response


def to_moment(micros: int) -> str:
    """Format a time for people: `2026-11-23 17:30:12.345`, in UTC."""
    text = format_time(micros)
    return f"{text[:10]} {text[11:23]}"
