"""What all pages share: access, rendering, and security headers.

A page shows the results of the same functions that the JSON API and the command line call. It is read and rendered
through `offload`, so that no page, however large, delays a webhook request.
"""

from collections.abc import Callable, Mapping
from datetime import tzinfo
from functools import cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, request
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from werkzeug.exceptions import HTTPException

from app.catalog.backend import Backend
from app.clock import clock
from app.core.text import counted, short, to_visible
from app.core.times import format_time, localized
from app.errors import SegmentLotusError, Unauthorized
from app.store.differences import delivered_text
from app.store.engine import Connection
from app.web.errors import to_status, to_unavailable
from app.web.offload import Offload
from app.web.parameters import full_address
from app.web.sessions import check_csrf, csrf_token, is_signed_in, require_session
from app.web.sign_in import to_return_path
from app.web.zone import find_chosen_zone, page_zone, showing_in, to_moment
from app.zones import COMMON

Values = dict[str, Any]
Work = Callable[[Backend], Values]

Localize = Callable[[Mapping[str, str]], dict[str, str]]
"""`Pages.localize`."""

FindPause = Callable[[Connection, int], object | None]
"""(connection, now) -> why forwarding to Lotus is paused; None if it is not."""

_HERE = Path(__file__).parent

_TIMES = frozenset({"since", "until", "range", "received_since", "received_until", "set_time_created"})
"""The parameters of pages that are times."""

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

    def __init__(self, offload: Offload, zone: tzinfo, find_pause: FindPause | None = None) -> None:
        """`zone`: of browsers that chose none. `find_pause` returns what the banner of each page shows."""
        self._offload = offload
        self._zone = zone
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

    def zone(self) -> tzinfo:
        """Return the time zone of the pages for the browser of this request."""
        return find_chosen_zone() or self._zone

    def localize(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Return parameters whose times say what they are in UTC: those that were typed without a zone are local."""
        zone = self.zone()
        return {name: localized(text, zone) if name in _TIMES else text for name, text in texts.items()}

    def show(
        self,
        template: str,
        work: Work | None = None,
        status: int = 200,
        *,
        fragment: bool = False,
        zone: tzinfo | None = None,
        **values: Any,
    ) -> Response:
        """Render a page with `values`, and those that `work` reads from the database.

        `fragment`: a part of a page, without the banner. `zone`: the zone that was asked for on this page alone.
        """
        shown_in = zone or self.zone()
        common = {
            "place": request.path,
            "address": full_address(request),
            # Where a form of the frame leads back to: the answer to another form has no address of its own.
            "back": full_address(request) if request.method == "GET" else "/",
            "csrf": csrf_token(),
            "signed_in": is_signed_in(),
            "default_zone": str(self._zone),
            "chosen_zone": str(find_chosen_zone() or ""),
            "pause": None,
        }
        find_pause = None if fragment else self._find_pause

        def fill(more: Values) -> str:
            return _templates().get_template(template).render({**common, **values, **more})

        def read_and_fill(read: Work, backend: Backend) -> str:
            with showing_in(shown_in):
                more = read(backend)
                if find_pause:
                    with backend.database.reading() as conn:
                        more = {**more, "pause": find_pause(conn, clock())}
                return fill(more)

        if work:
            text = self._offload(partial(read_and_fill, work))
        else:
            # No database is read: an error of the database must not prevent its own message.
            with showing_in(shown_in):
                text = fill({})
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
    templates.filters["short"] = short
    templates.globals["zone"] = lambda: str(page_zone())
    templates.globals["common_zones"] = COMMON
    templates.globals["delivered_text"] = delivered_text
    templates.filters["moment"] = to_moment
    templates.filters["rfc3339"] = format_time
    templates.filters["visible"] = to_visible
    return templates


def protect(response: Response) -> Response:
    """Add the security headers of a page."""
    response.headers.update(_HEADERS)
    return response
