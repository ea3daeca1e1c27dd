import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.json_spans import split_array, split_object
from app.core.signature import Coverage, matches_any, sign, verify
from app.errors import SignatureMismatch

from .examples import JSON_OBJECTS, SECRET, WRITTEN_OVER_BODY, WRITTEN_OVER_FIRST, a_request, often


def is_signed(raw: bytes, header: str, secrets: list[str]) -> bool:
    try:
        verify(raw, header, secrets)
    except SignatureMismatch:
        return False
    return True


@pytest.mark.parametrize("name", WRITTEN_OVER_BODY)
def test_a_captured_single_call_verifies_as_a_whole(name: str) -> None:
    request = a_request(name)
    assert verify(request.body, request.headers["x-signature"], [SECRET]) is Coverage.WHOLE


@pytest.mark.parametrize("name", WRITTEN_OVER_FIRST)
def test_a_captured_array_verifies_on_its_first_call(name: str) -> None:
    request = a_request(name)
    assert verify(request.body, request.headers["x-signature"], [SECRET]) is Coverage.FIRST_CALL


def signed_part(name: str) -> tuple[int, int]:
    """Where the signed bytes of a captured body begin and end."""
    body = a_request(name).body
    signed = body
    if name in WRITTEN_OVER_FIRST:
        first = split_array(body)[0]
        signed = split_object(first).get("json", first)
    return body.index(signed), body.index(signed) + len(signed)


@pytest.mark.parametrize("name", WRITTEN_OVER_FIRST + WRITTEN_OVER_BODY)
def test_every_change_of_one_signed_byte_fails(name: str) -> None:
    body, headers = a_request(name).body, a_request(name).headers
    for position in range(*signed_part(name)):
        for flip in (0x01, 0x20, 0x80):
            changed = bytearray(body)
            changed[position] ^= flip
            assert not is_signed(bytes(changed), headers["x-signature"], [SECRET]), (position, flip)


@pytest.mark.parametrize("name", WRITTEN_OVER_FIRST + WRITTEN_OVER_BODY)
def test_every_byte_left_out_of_the_signed_part_or_put_into_it_fails(name: str) -> None:
    body, headers = a_request(name).body, a_request(name).headers
    for position in range(*signed_part(name)):
        assert not is_signed(body[:position] + body[position + 1 :], headers["x-signature"], [SECRET]), position
        assert not is_signed(body[:position] + b"1" + body[position:], headers["x-signature"], [SECRET]), position


@pytest.mark.parametrize("name", WRITTEN_OVER_FIRST)
def test_later_calls_of_an_array_can_be_changed_and_the_coverage_says_so(name: str) -> None:
    request = a_request(name)
    changed = request.body.replace(b'"user-7"', b'"mallory"').replace(b'"mallory"', b'"user-7"', 1)
    assert changed != request.body
    assert verify(changed, request.headers["x-signature"], [SECRET]) is Coverage.FIRST_CALL


@pytest.mark.parametrize("name", WRITTEN_OVER_FIRST)
def test_a_broken_rest_is_still_from_segment_as_far_as_signed(name: str) -> None:
    request = a_request(name)
    first = split_array(request.body)[0]
    header = request.headers["x-signature"]
    assert verify(b"[" + first + b"," + b"[" * 100_000, header, [SECRET]) is Coverage.FIRST_CALL
    assert verify(b"[" + first + b"]x", header, [SECRET]) is Coverage.FIRST_CALL


@pytest.mark.parametrize("name", WRITTEN_OVER_FIRST)
def test_an_array_of_one_is_wholly_covered(name: str) -> None:
    request = a_request(name)
    first = split_array(request.body)[0]
    header = request.headers["x-signature"]
    assert verify(b" [\n" + first + b" ] ", header, [SECRET]) is Coverage.WHOLE
    assert verify(b"[" + first + b",1]", header, [SECRET]) is Coverage.FIRST_CALL


def test_an_array_signed_as_a_whole_is_wholly_covered() -> None:
    body = a_request("array-batch").body
    assert verify(body, sign(body, SECRET), [SECRET]) is Coverage.WHOLE


def test_only_a_first_key_named_json_is_looked_into() -> None:
    call = a_request("single-track").body
    header = sign(call, SECRET)
    assert is_signed(b'[{ "json" : ' + call + b" } ]", header, [SECRET])
    assert not is_signed(b'[{"other":1,"json":' + call + b"}]", header, [SECRET])
    assert not is_signed(b'[{"json":' + call + b',"other":1}]', header, [SECRET])
    assert not is_signed(b'[1,{"json":' + call + b"}]", header, [SECRET])
    assert not is_signed(b'{"json":' + call + b"}", header, [SECRET])


def test_every_secret_of_a_rotation_is_accepted() -> None:
    body = b"{}"
    assert is_signed(body, sign(body, "new"), ["old", "new"])
    assert is_signed(body, sign(body, "old"), ["old", "new"])
    assert not is_signed(body, sign(body, "other"), ["old", "new"])


def test_without_a_secret_nothing_verifies() -> None:
    assert not is_signed(b"", sign(b"", ""), [])


@pytest.mark.parametrize("body", [b"", b" ", b"[]", b"[null]", b"null", b"\xff"])
def test_any_body_can_be_signed(body: bytes) -> None:
    assert verify(body, sign(body, SECRET), [SECRET]) is Coverage.WHOLE


def test_white_space_and_upper_case_in_the_header_are_taken() -> None:
    assert is_signed(b"{}", f" {sign(b'{}', SECRET).upper()} ", [SECRET])


@pytest.mark.parametrize(
    "header",
    [
        "",
        "0" * 39,
        "0" * 41,
        "g" * 40,
        "sha1=" + "0" * 40,
        "é" * 40,
        "\ud83d" * 40,
        "\u0660" * 40,
        "0 " * 20,
        "\0" * 40,
    ],
)
def test_a_header_that_is_no_hex_is_a_mismatch(header: str) -> None:
    assert not is_signed(b"{}", header, [SECRET])


@often
@given(st.text(), st.binary(), st.lists(st.text(), max_size=2))
def test_nothing_but_a_mismatch_comes_of_nonsense(header: str, body: bytes, secrets: list[str]) -> None:
    assert not is_signed(body, header, secrets)


@often
@given(JSON_OBJECTS, st.lists(JSON_OBJECTS, max_size=2), st.booleans())
def test_whatever_segment_signs_verifies(call: str, others: list[str], wrapped: bool) -> None:
    calls = [call.encode(), *(other.encode() for other in others)]
    elements = [b'{"json":' + one + b"}" for one in calls] if wrapped else calls
    coverage = verify(b"[" + b",".join(elements) + b"]", sign(calls[0], SECRET), [SECRET])
    assert coverage is (Coverage.FIRST_CALL if others else Coverage.WHOLE)


def test_signing_is_hmac_sha1_of_the_utf_8_secret_in_lower_case_hex() -> None:
    assert sign(b"body", "ünï") == hmac.new("ünï".encode(), b"body", hashlib.sha1).hexdigest()


@pytest.mark.parametrize(
    ("given_text", "known", "answer"),
    [
        ("tok-1", ["a", "tok-1"], True),
        ("tok-1", ["tok-1", "a"], True),
        ("tok-1", [], False),
        ("", ["a"], False),
        ("tok", ["tok-1"], False),
        ("ü", ["ü"], True),
        ("\ud83d", ["?"], False),
    ],
)
def test_matches_any_is_membership(given_text: str, known: list[str], answer: bool) -> None:
    assert matches_any(given_text, known) is answer
