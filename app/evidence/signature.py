"""Signatures of manifests: Ed25519, so that whoever has the public key can check and not make them."""

import base64
import binascii
import re
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from app.errors import BadQuery

ALGORITHM = "Ed25519"
KEY_BYTES = 32
_KEY_FILE_MAX = 4096
_HEX = re.compile(r"[0-9A-Fa-f]{64}")


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The signature of a manifest; bytes are base64."""

    algorithm: str
    public_key: str
    signature: str


def make_private_key() -> bytes:
    """Draw a private key."""
    return Ed25519PrivateKey.generate().private_bytes_raw()


def to_public_key(private_key: bytes) -> bytes:
    """Return the public key of a private one."""
    return Ed25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def to_key_text(public_key: bytes) -> str:
    """Return a public key as text, as it is published."""
    return base64.b64encode(public_key).decode()


def sign(private_key: bytes, manifest: bytes) -> bytes:
    """Return the signature of a manifest as JSON."""
    key = Ed25519PrivateKey.from_private_bytes(private_key)
    made = Signature(
        algorithm=ALGORITHM,
        public_key=to_key_text(key.public_key().public_bytes_raw()),
        signature=base64.b64encode(key.sign(manifest)).decode(),
    )
    return msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n"


def check_signature(public_key: bytes, manifest: bytes, signature: bytes) -> str | None:
    """Return what is wrong with the signature of a manifest, as a sentence; None if this key made it."""
    try:
        made = msgspec.json.decode(signature, type=Signature)
        signed = base64.b64decode(made.signature, validate=True)
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error, ValueError):
        return "signature.json is no signature"
    if made.algorithm != ALGORITHM:
        return f"signature.json is not of {ALGORITHM}"
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signed, manifest)
    except InvalidSignature:
        if made.public_key != to_key_text(public_key):
            return "it is signed with another key than this one"
        return "the signature does not fit the manifest: one of them was changed"
    return None


def read_public_key(text: str) -> bytes:
    """Parse a public key, in base64 or hexadecimal digits, or the file that holds it.

    Raises:
        BadQuery: it is neither.

    """
    key = _parse(text.strip())
    if key is None:
        try:
            with Path(text).open("rb") as file:
                key = _parse(file.read(_KEY_FILE_MAX).decode().strip())
        except (OSError, ValueError):
            key = None
    if key is None:
        raise BadQuery("the key must be a public key as `segment-lotus evidence-keys` prints it, or a file with one")
    return key


def _parse(text: str) -> bytes | None:
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == KEY_BYTES else None
