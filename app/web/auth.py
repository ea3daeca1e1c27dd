"""The admin token: one guard for every route that shows what is kept."""

from collections.abc import Callable

from flask import request

from app.core.signature import same
from app.errors import Unauthorized


def require_admin(token: str) -> Callable[[], None]:
    """Return a guard that raises Unauthorized unless the request carries `Authorization: Bearer <ADMIN_TOKEN>`."""

    def guard() -> None:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not same(given.strip(), (token,) if token else ()):
            raise Unauthorized("this needs the header Authorization: Bearer <ADMIN_TOKEN>")

    return guard
