"""Who may send: to the webhook with a signature, a Bearer token or Basic credentials; to the tracking APIs with a key.

One valid credential is enough.
"""

import base64
import binascii
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b

from app.core.signature import Coverage, matches_any, prove
from app.core.tracking import find_write_key, list_write_keys
from app.errors import SignatureMismatch, SignatureMissing, Unauthorized


class Auth(StrEnum):
    """How a request was authenticated."""

    SIGNATURE = "signature"
    FIRST_CALL = "first_call"
    """A signature that covers only the first call of a batch, as Segment signs batches."""
    BEARER = "bearer"
    BASIC = "basic"
    WRITE_KEY = "write_key"
    """Of Segment's tracking API."""
    API_KEY = "api_key"
    """Of Lotus's track API."""
    BACKFILL = "backfill"
    """No request: a person with the database at hand loaded it from a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The credentials that are accepted."""

    shared_secrets: tuple[str, ...] = field(default=(), repr=False)
    bearer_tokens: tuple[str, ...] = field(default=(), repr=False)
    basic_auth: tuple[str, ...] = field(default=(), repr=False)
    """Pairs `user:password`."""
    write_keys: tuple[str, ...] = field(default=(), repr=False)
    ingest_keys: tuple[str, ...] = field(default=(), repr=False)

    def authenticate(self, body: bytes, signature: str | None, authorization: str | None) -> Auth:
        """Authenticate a body. `signature` is X-Signature, `authorization` the header of that name.

        Raises:
            SignatureMissing: the request has no credential at all.
            SignatureMismatch: X-Signature matches none of the secrets (and no other credential is valid).
            Unauthorized: there is only an Authorization header, and it is not valid.

        """
        return self.check_head(signature, authorization) or self.check_signature(body, signature or "")[0]

    def check_head(self, signature: str | None, authorization: str | None) -> Auth | None:
        """Authenticate a request before its body is read; None if the signature has to be checked with the body.

        Raises what `authenticate` does if no body could make the request valid.
        """
        if authorization:
            scheme, _, credential = authorization.partition(" ")
            if scheme.lower() == "bearer" and matches_any(credential.strip(), self.bearer_tokens):
                return Auth.BEARER
            if scheme.lower() == "basic" and matches_any(_decode_basic(credential), self.basic_auth):
                return Auth.BASIC
        if signature:
            if not self.shared_secrets:
                raise SignatureMismatch
            return None
        if authorization:
            raise Unauthorized
        raise SignatureMissing

    def check_signature(self, body: bytes, signature: str) -> tuple[Auth, int]:
        """Return how much of a body its signature covers, and which of the secrets made it, from 0.

        Raises SignatureMismatch.
        """
        coverage, secret = prove(body, signature, self.shared_secrets)
        return Auth.SIGNATURE if coverage is Coverage.WHOLE else Auth.FIRST_CALL, secret

    def accepts_write_key(self, authorization: str | None) -> bool:
        """Tell whether the Authorization header holds a write key: `Basic base64(key:)`, colon optional, or Bearer.

        Raises Unauthorized as `require_write_keys` does.
        """
        self.require_write_keys()
        scheme, _, credential = (authorization or "").partition(" ")
        if scheme.lower() == "bearer":
            return matches_any(credential.strip(), self.write_keys)
        return scheme.lower() == "basic" and matches_any(_decode_basic(credential).removesuffix(":"), self.write_keys)

    def require_write_keys(self) -> None:
        """Raise Unauthorized if no write keys are configured, so that none could be valid."""
        if not self.write_keys:
            raise Unauthorized("SEGMENT_WRITE_KEYS is not set, so the tracking API is off")

    def check_write_key(self, body: bytes, authorization: str | None) -> None:
        """Check the write key in a body, if the header had no valid one. Raises Unauthorized."""
        # Search as text first, and parse only a body that contains a valid key: half a kilobyte of gzip, deeply nested,
        # costs 66 ms.
        keys = list_write_keys(body)
        if any(matches_any(key, self.write_keys) for key in keys) and matches_any(
            find_write_key(body) or "", self.write_keys
        ):
            return
        if not keys and not authorization:
            raise Unauthorized("there is no write key: neither in the Authorization header nor as writeKey in the body")
        raise Unauthorized("the write key is none of SEGMENT_WRITE_KEYS")

    def check_ingest_key(self, key: str | None) -> None:
        """Check the X-API-KEY of a request to the track API. Raises Unauthorized."""
        if not self.ingest_keys:
            raise Unauthorized("LOTUS_INGEST_KEYS is not set, so the track API is off")
        if not key:
            raise Unauthorized("No API key found in request: the header X-API-KEY is missing")
        if not matches_any(key, self.ingest_keys):
            raise Unauthorized("Invalid API key: it is none of LOTUS_INGEST_KEYS")


def fingerprint(secret: str, key: str) -> str:
    """Return eight digits by which people tell secrets apart. Without `key`, the admin token, nobody can guess by them.

    So they may be stored and shown, and a secret of a few characters is as safe as before.
    """
    salt = blake2b(key.encode(errors="surrogatepass"), person=b"fingerprint").digest()
    return blake2b(secret.encode(errors="surrogatepass"), key=salt, digest_size=4).hexdigest()


def _decode_basic(encoded: str) -> str:
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
