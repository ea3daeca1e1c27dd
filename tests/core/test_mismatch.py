"""What is said about a signature that does not match: the cause, by name, and never a secret."""

import json
import re
from collections.abc import Callable

import pytest

from app.core.json_spans import split_array
from app.core.mismatch import MAX_BYTES, explain_mismatch
from app.core.signature import sign

from .examples import WRITTEN_OVER_BODY, WRITTEN_OVER_FIRST, a_request

ACCEPTED = ("the-first-secret", "the-second-secret")
OTHERS = [("ADMIN_TOKEN", "the-admin-token"), ("SEGMENT_BEARER_TOKENS", "a-bearer-token")]
BODY = '{"type":"track","event":"Füße","properties":{"n":1.5,"whole":2,"path":"a/b"}}'.encode()
BATCH = b'[{"json":' + BODY + b'},{"json":{"type":"page"}}]'


def explain(body: bytes, signature: str) -> str:
    sentence = explain_mismatch(body, signature, ACCEPTED, OTHERS) or ""
    for secret in (*ACCEPTED, *(secret for _, secret in OTHERS)):
        assert secret not in sentence
    return sentence


SECRETS = {
    "the-first-secret\n": "shared secret 1 and a line break after it",
    "the-second-secret\r\n": "shared secret 2 and a line break of Windows after it",
    " the-first-secret": "a space before it",
    '"the-second-secret"': "shared secret 2 and double quotes around it",
    "'the-first-secret'": "single quotes around it",
    "SEGMENT_SHARED_SECRETS=the-first-secret": "the name of the setting before it",
    "the-first-secret,the-second-secret": "all of SEGMENT_SHARED_SECRETS as one secret",
    "the-admin-token": "a value of ADMIN_TOKEN. Paste the shared secret",
    "the-admin-token\n": "The admin token has left this service",
    "a-bearer-token": "a value of SEGMENT_BEARER_TOKENS",
    "something-else": "",
    "": "",
}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("batch", [False, True])
def test_the_secret_that_signed_is_told_by_its_name_and_by_what_is_around_it(secret: str, batch: bool) -> None:
    sentence = explain(BATCH if batch else BODY, sign(BODY, secret))
    assert SECRETS[secret] in sentence
    assert bool(sentence) is bool(SECRETS[secret])


def test_quotes_around_the_secret_here_are_told() -> None:
    sentence = explain_mismatch(BODY, sign(BODY, "bare"), ('"bare"',), ())
    assert "without the quotes that are around it here" in (sentence or "")


def indented(body: bytes) -> bytes:
    return re.sub(rb'("(?:[^"\\]|\\.)*")|([{,:])', lambda match: match[1] or match[2] + b"\n  ", body)


CHANGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "indented": (indented, "white space"),
    "a byte order mark": (lambda body: b"\xef\xbb\xbf" + body, "white space"),
    "a line break": (lambda body: body + b"\r\n", "white space"),
    "escapes": (lambda body: json.dumps(json.loads(body)).encode(), "written in another way"),
    "floats": (lambda body: body.replace(b'"whole":2', b'"whole":2.0'), "written in another way"),
    "slashes": (lambda body: body.replace(b"/", b"\\/"), "written in another way"),
    "another encoding": (lambda body: body.decode("latin-1").encode(), "Latin-1"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("batch", [False, True])
def test_a_body_that_was_changed_on_the_way_is_told_with_how(change: str, batch: bool) -> None:
    spoil, how = CHANGES[change]
    body = BATCH if batch else BODY
    assert spoil(body) != body
    sentence = explain(spoil(body), sign(BODY, ACCEPTED[1]))
    assert sentence.startswith("The secret is right, and the body was changed on the way")
    assert how in sentence


@pytest.mark.parametrize("name", WRITTEN_OVER_BODY + WRITTEN_OVER_FIRST)
def test_what_segment_sent_is_recognised_after_a_proxy_has_indented_it(name: str) -> None:
    request = a_request(name)
    signed = request.body if name in WRITTEN_OVER_BODY else split_array(request.body)[0]
    texts = {explain(indented(request.body), sign(signed, secret)) for secret in ACCEPTED}
    assert all("changed on the way" in text for text in texts)


@pytest.mark.parametrize(
    ("body", "signature", "words"),
    [
        (BODY, "0" * 64, "SHA-256"),
        (BODY, "not hex", ""),
        (BODY, "0" * 40, ""),
        (b"", "0" * 40, ""),
        (b"{", "0" * 40, ""),
        (b'["\\ud83d", 1e400, NaN]', "0" * 40, ""),
        (b'"' + b'\\"' * 30_000, "0" * 40, ""),
        (b"[" * 60_000, "0" * 40, ""),
        (b" " * (MAX_BYTES + 1), sign(b" " * (MAX_BYTES + 1), "the-admin-token"), ""),
    ],
    ids=lambda value: str(value)[:20],
)
def test_whatever_comes_is_examined_in_bounds(body: bytes, signature: str, words: str) -> None:
    assert (words in explain(body, signature)) is True
    assert bool(explain(body, signature)) is bool(words)


def test_without_a_shared_secret_that_is_what_is_told() -> None:
    assert "SEGMENT_SHARED_SECRETS is not set" in (explain_mismatch(BODY, "0" * 40, (), OTHERS) or "")


def test_others_run_between_two_guesses() -> None:
    steps: list[None] = []
    explain_mismatch(BODY, "0" * 40, ACCEPTED, OTHERS, lambda: steps.append(None))
    assert len(steps) > 40
