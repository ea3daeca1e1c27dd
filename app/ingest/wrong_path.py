"""Requests of Segment that reach this service at another path than the webhook's: answered 404 or 405, and recorded.

Without that, a typing error in the URL would end in silence: Segment drops what gets a 404, and nobody would know.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from app.errors import WrongPath
from app.ingest.sender import SEGMENT_AGENTS, WEBHOOK_PATH

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

_METHODS = frozenset({"POST", "PUT", "PATCH"})
_SHOWN_MAX = 100


class _Start:
    """What the application begins its answer with."""

    status = ""
    headers: Sequence[tuple[str, str]] = ()

    def __call__(self, status: str, headers: list[tuple[str, str]], _error: object = None) -> Callable[[bytes], object]:
        self.status, self.headers = status, headers
        return lambda _data: None


def explain_wrong_path(
    application: "WSGIApplication", note: Callable[[WrongPath, dict[str, Any], bytes], None]
) -> "WSGIApplication":
    """Return the application with a clear answer to requests meant for the webhook; `note` gets each of them."""

    def answer(environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
        if not _is_meant_for_webhook(environ):
            return application(environ, start_response)
        start = _Start()
        body = application(environ, start)
        if start.status[:3] not in {"404", "405"}:
            start_response(start.status, list(start.headers))
            return body
        close = getattr(body, "close", None)
        if close is not None:
            close()
        error = WrongPath(
            f"there is no webhook at {_printable_path(environ)}: Segment's requests belong to {WEBHOOK_PATH}"
        )
        note(error, environ, b"")
        code = start.status[4:].lower().replace(" ", "_")
        text = json.dumps({"code": code, "message": error.message}).encode()
        kept = [item for item in start.headers if item[0].lower() not in {"content-length", "content-type"}]
        start_response(start.status, [*kept, ("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
        return [text]

    return answer


def _printable_path(environ: dict[str, Any]) -> str:
    """Return the path of a request, for a sentence."""
    path = str(environ.get("PATH_INFO", "")).encode("latin-1", "replace").decode(errors="replace")
    return "".join(char if char.isprintable() else "?" for char in path[:_SHOWN_MAX]) or "/"


def _is_meant_for_webhook(environ: dict[str, Any]) -> bool:
    return environ["REQUEST_METHOD"] in _METHODS and (
        bool(environ.get("HTTP_X_SIGNATURE")) or environ.get("HTTP_USER_AGENT", "").startswith(SEGMENT_AGENTS)
    )
