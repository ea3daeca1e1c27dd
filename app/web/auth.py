"""The admin token: one guard for every route that shows what is kept."""

from collections.abc import Callable
from typing import Any

from flask import request

from app.core.signature import matches_any
from app.errors import Unauthorized


def authorization(environ: dict[str, Any]) -> str | None:
    """Return the Authorization header as text: WSGI hands its bytes over as Latin-1, and a token may be UTF-8."""
    given: str | None = environ.get("HTTP_AUTHORIZATION")
    return given.encode("latin-1", "replace").decode(errors="replace") if given else given


def require_admin(token: str) -> Callable[[], None]:
    """Return a guard that raises Unauthorized unless the request carries `Authorization: Bearer <ADMIN_TOKEN>`."""

    def guard() -> None:
        scheme, _, given = (authorization(request.environ) or "").partition(" ")
        if scheme.lower() != "bearer" or not matches_any(given.strip(), (token,) if token else ()):
            raise Unauthorized("this needs the header Authorization: Bearer <ADMIN_TOKEN>")

    return guard
