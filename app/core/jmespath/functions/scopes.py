"""The Scope: what an expression sees besides its input, and the functions that read it.

Nothing is read from a clock or from outside: the caller passes everything in, so that a replay can pass it again.
"""

import hmac
from collections.abc import Mapping
from typing import Any

import msgspec

from app.core.jmespath.call import Function, wrong_type
from app.core.jmespath.functions.arguments import function, to_text
from app.core.times import format_time
from app.errors import ExpressionFailed

_NO_TABLES: Mapping[str, Mapping[str, Any]] = {}


class Scope(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The second argument of `Expression.search_in`, beside the document."""

    document: Any
    """The whole call, for `root()`."""

    received_at: int | None = None
    """When the call was received, in microseconds since 1970, UTC; for `received_at()`."""

    lookups: Mapping[str, Mapping[str, Any]] = _NO_TABLES
    """The tables beside the transform, for `lookup()`: name, key, value."""

    secret: bytes | None = None
    """The key with which `sha256()` makes pseudonyms."""

    def __repr__(self) -> str:
        # Neither personal data nor the key belongs in a log.
        return f"Scope(received_at={self.received_at}, lookups={sorted(self.lookups)})"


def _root(scope: Any) -> Any:
    # `search` without a scope gives the document in its place.
    return scope.document if scope.__class__ is Scope else scope


def _received_at(scope: Any) -> str:
    if scope.__class__ is not Scope or scope.received_at is None:
        raise ExpressionFailed("received_at() is not known here: nothing says when the call was received")
    return format_time(scope.received_at)


def _lookup(scope: Any, table: Any, key: Any, default: Any = None) -> Any:
    tables = scope.lookups if scope.__class__ is Scope else _NO_TABLES
    if table.__class__ is not str:
        raise wrong_type("lookup", 1, "the name of a table", table)
    rows = tables.get(table)
    if rows is None:
        names = ", ".join(sorted(tables)) or "none"
        raise ExpressionFailed(f"lookup() takes the name of a table as argument 1 that stands in `lookup`: {names}")
    return default if key is None else rows.get(to_text("lookup", 2, key), default)


def _sha256(scope: Any, value: Any) -> str | None:
    if value is None:
        return None
    secret = scope.secret if scope.__class__ is Scope else None
    if not secret:
        raise ExpressionFailed(
            "sha256() has no key to make pseudonyms with: set PSEUDONYM_KEY to a long random text, and keep it"
        )
    text = to_text("sha256", 1, value).encode("utf-8", "surrogatepass")
    return hmac.digest(secret, text, "sha256").hex()


SCOPE: tuple[Function, ...] = (
    # The size of their results does not depend on their arguments.
    function(_root, 0, growth=None, scoped=True, takes_null=True),
    function(_lookup, 2, 3, growth=None, scoped=True, takes_null=True),
    function(_received_at, 0, growth=2, scoped=True, takes_null=True),
    function(_sha256, 1, growth=5, scoped=True, takes_null=True),
)
