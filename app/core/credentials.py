"""Who may send to the webhook: a signature over the body, a Bearer token, or Basic credentials; one valid is enough."""

import base64
import binascii
from dataclasses import dataclass, field
from enum import StrEnum

from app.core.signature import Coverage, same, verify
from app.errors import SignatureMissing, Unauthorized


class Auth(StrEnum):
    """What vouched for a request."""

    SIGNATURE = "signature"
    FIRST_CALL = "first_call"
    """A signature that covers only the first call of a batch, as Segment signs batches."""
    BEARER = "bearer"
    BASIC = "basic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What the webhook accepts."""

    shared_secrets: tuple[str, ...] = field(default=(), repr=False)
    bearer_tokens: tuple[str, ...] = field(default=(), repr=False)
    basic_auth: tuple[str, ...] = field(default=(), repr=False)
    """Pairs `user:password`."""

    def authenticate(self, body: bytes, signature: str | None, authorization: str | None) -> Auth:
        """Say what vouches for this body. `signature` is X-Signature, `authorization` the header of that name.

        Raises:
            SignatureMissing: there is no credential at all.
            SignatureMismatch: X-Signature is not by a secret we know (and no other credential is valid).
            Unauthorized: only an Authorization header came, and it is not known here.

        """
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() == "bearer" and same(given.strip(), self.bearer_tokens):
            return Auth.BEARER
        if scheme.lower() == "basic" and same(_basic(given), self.basic_auth):
            return Auth.BASIC
        if signature:
            return Auth.SIGNATURE if verify(body, signature, self.shared_secrets) is Coverage.WHOLE else Auth.FIRST_CALL
        if authorization:
            raise Unauthorized
        raise SignatureMissing


def _basic(given: str) -> str:
    try:
        return base64.b64decode(given.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
