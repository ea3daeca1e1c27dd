"""The admin token: one guard for every route that shows stored data."""

from collections.abc import Callable
from typing import Any

from flask import request

from app.core.signature import matches_any
from app.errors import Unauthorized


def authorization(environ: dict[str, Any]) -> str | None:
    """Return the Authorization header as text: WSGI decodes headers as Latin-1, and a token may be UTF-8."""
    header: str | None = environ.get("HTTP_AUTHORIZATION")
    return header.encode("latin-1", "replace").decode(errors="replace") if header else header


def require_admin(token: str) -> Callable[[], None]:
    """Return a guard that raises Unauthorized unless the request carries `Authorization: Bearer <ADMIN_TOKEN>`."""

    def guard() -> None:
        scheme, _, token_sent = (authorization(request.environ) or "").partition(" ")
        if scheme.lower() != "bearer" or not matches_any(token_sent.strip(), (token,) if token else ()):
            raise Unauthorized("this needs the header Authorization: Bearer <ADMIN_TOKEN>")

    return guard
