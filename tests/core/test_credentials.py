"""Who may send: one valid credential is enough; what is missing, wrong or unknown is told apart."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.credentials import Auth, Credentials
from app.core.signature import sign
from app.errors import RequestRefused, SignatureMismatch, SignatureMissing, Unauthorized

BODY = b'{"type":"track"}'
BATCH = b'[{"type":"track"},{"type":"page"}]'

CREDENTIALS = Credentials(
    shared_secrets=("old secret", "new secret"),
    bearer_tokens=("token-1", "token-2", "tökén"),
    basic_auth=("user:pass:word", "write-key:"),
)


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


@pytest.mark.parametrize("secret", CREDENTIALS.shared_secrets)
def test_a_signature_by_any_secret_vouches_for_the_body(secret: str) -> None:
    assert CREDENTIALS.authenticate(BODY, sign(BODY, secret), None) is Auth.SIGNATURE


def test_a_signature_over_the_first_call_of_a_batch_is_told_apart() -> None:
    first = sign(b'{"type":"track"}', "old secret")
    assert CREDENTIALS.authenticate(BATCH, first, None) is Auth.FIRST_CALL
    assert CREDENTIALS.authenticate(BATCH, sign(BATCH, "old secret"), None) is Auth.SIGNATURE


@pytest.mark.parametrize("header", ["Bearer token-1", "bearer token-2", "BEARER  token-1 ", "Bearer tökén"])
def test_a_known_bearer_token_vouches_for_the_request(header: str) -> None:
    assert CREDENTIALS.authenticate(BODY, None, header) is Auth.BEARER


@pytest.mark.parametrize("header", [basic("user:pass:word"), basic("write-key:").replace("Basic", "basic")])
def test_known_basic_credentials_vouch_for_the_request(header: str) -> None:
    assert CREDENTIALS.authenticate(BODY, None, header) is Auth.BASIC


def test_one_valid_credential_is_enough_beside_a_wrong_one() -> None:
    right = sign(BODY, "old secret")
    wrong = sign(BODY, "a wrong secret")
    assert CREDENTIALS.authenticate(BODY, wrong, "Bearer token-1") is Auth.BEARER
    assert CREDENTIALS.authenticate(BODY, "no hex", basic("user:pass:word")) is Auth.BASIC
    assert CREDENTIALS.authenticate(BODY, right, "Bearer wrong") is Auth.SIGNATURE
    assert CREDENTIALS.authenticate(BODY, right, basic("wrong:wrong")) is Auth.SIGNATURE


def test_a_full_authentication_goes_before_a_signature_over_the_first_call() -> None:
    first = sign(b'{"type":"track"}', "old secret")
    assert CREDENTIALS.authenticate(BATCH, first, "Bearer token-1") is Auth.BEARER


@pytest.mark.parametrize(("signature", "authorization"), [(None, None), ("", None), (None, ""), ("", "")])
def test_no_credential_at_all_is_missing(signature: str | None, authorization: str | None) -> None:
    with pytest.raises(SignatureMissing):
        CREDENTIALS.authenticate(BODY, signature, authorization)


@pytest.mark.parametrize(
    "signature", ["x", "0" * 40, sign(BODY, "a wrong secret"), sign(BODY + b" ", "old secret"), "é"]
)
@pytest.mark.parametrize("authorization", [None, "Bearer wrong", basic("wrong:wrong")])
def test_a_wrong_signature_is_a_mismatch_whatever_else_is_wrong(signature: str, authorization: str | None) -> None:
    with pytest.raises(SignatureMismatch):
        CREDENTIALS.authenticate(BODY, signature, authorization)


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer",
        "Bearer ",
        "Bearer token",
        "Bearer token-1x",
        "Bearer token-1 token-2",
        "token-1",
        "Basic",
        "Basic user:pass:word",
        "Basic !!!!",
        "Basic /w==",
        basic("user"),
        basic("user:pass"),
        basic(":"),
        "Basic ",
        "Digest token-1",
        "Basic token-1",
        basic("user:pass:word").replace("Basic", "Bearer"),
        "Bearer \ud83d",
        "\0",
    ],
)
def test_a_header_that_is_not_known_here_is_unauthorized(authorization: str) -> None:
    with pytest.raises(Unauthorized):
        CREDENTIALS.authenticate(BODY, None, authorization)


@pytest.mark.parametrize("authorization", ["Bearer ", "Bearer", basic(""), basic(":"), "Bearer None"])
def test_where_nothing_is_configured_nothing_vouches(authorization: str) -> None:
    nothing = Credentials()
    with pytest.raises(Unauthorized):
        nothing.authenticate(BODY, None, authorization)
    with pytest.raises(SignatureMismatch):
        nothing.authenticate(BODY, sign(BODY, ""), None)


def test_credentials_do_not_show_their_secrets() -> None:
    shown = repr(CREDENTIALS)
    for secret in (*CREDENTIALS.shared_secrets, *CREDENTIALS.bearer_tokens, *CREDENTIALS.basic_auth):
        assert secret not in shown


any_text = st.text(st.characters(exclude_categories=()), max_size=60)


@given(
    body=st.binary(max_size=60),
    signature=st.none() | any_text,
    authorization=st.none() | any_text | any_text.map("Basic {}".format) | any_text.map("Bearer {}".format),
)
def test_whatever_a_stranger_sends_is_refused_and_never_crashes(
    body: bytes, signature: str | None, authorization: str | None
) -> None:
    with pytest.raises(RequestRefused):
        CREDENTIALS.authenticate(body, signature, authorization)
