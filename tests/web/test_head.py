"""The header lines of a request: taken as they are meant, or refused."""

import io
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web.head import MAX_HEAD_BYTES, MAX_HEADERS, Head, HeadInvalid


def read(*lines: bytes) -> Head:
    return Head(io.BytesIO(b"".join(line + b"\r\n" for line in lines) + b"\r\nthe body"))


def environ(*lines: bytes) -> dict[str, str]:
    return dict(read(*lines).environ())


def test_names_have_no_case_and_values_no_space_around_them() -> None:
    head = read(b"X-Signature: \t abc def \t ", b"HOST:x", b"Content-Type: text/plain", b"Content-Length: 007")
    assert (head.get("x-signature"), head.get("Host"), head.getheader("content-length")) == ("abc def", "x", "007")
    assert (head.typeheader, head.get("nothing"), head.get("nothing", "")) == ("text/plain", None, "")
    assert dict(head.environ()) == {"HTTP_X_SIGNATURE": "abc def", "HTTP_HOST": "x"}


def test_the_body_is_left_to_whoever_reads_it() -> None:
    stream = io.BytesIO(b"Host: x\r\n\r\n\r\nbody")
    Head(stream)
    assert stream.read() == b"\r\nbody"


def test_several_of_one_name_are_joined_in_their_order() -> None:
    assert environ(b"A: 1", b"Cookie: a=1", b"a: 2", b"cookie: b=2") == {"HTTP_A": "1,2", "HTTP_COOKIE": "a=1; b=2"}


def test_values_are_bytes_as_wsgi_hands_them_on() -> None:
    assert environ("A: grün".encode(), b"Empty:") == {"HTTP_A": "grün".encode().decode("latin-1"), "HTTP_EMPTY": ""}


def test_a_name_with_an_underscore_cannot_pass_for_one_with_a_hyphen() -> None:
    assert environ(b"X_Signature: forged", b"X-Other: 1") == {"HTTP_X_OTHER": "1"}
    assert environ(b"X_Signature: forged", b"X-Signature: real") == {"HTTP_X_SIGNATURE": "real"}


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([b"Content-Length: 1", b"content-length: 1"], id="a length twice"),
        pytest.param([b"Content-Length: 1", b"Content-Length: 2"], id="two lengths"),
        pytest.param([b"Content-Length: 1, 1"], id="a list of lengths"),
        *(
            pytest.param([b"Content-Length: " + one], id=f"length {one!r}")
            for one in (b"", b"+1", b"-1", b"1_0", b"0x1", b"1.0", b"1 1", b"\xb2", b"9" * 19)
        ),
        pytest.param([b"Transfer-Encoding: chunked", b"Content-Length: 1"], id="chunks and a length"),
        pytest.param([b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"], id="two codings"),
        *(
            pytest.param([b"Transfer-Encoding: " + one], id=f"coding {one!r}")
            for one in (
                b"",
                b"identity",
                b"gzip, chunked",
                b"chunked, chunked",
                b"chunked;q=1",
                b"xchunked",
                b"\x0bchunked",
            )
        ),
        pytest.param([b"A: 1", b" folded"], id="a folded line"),
        pytest.param([b"A: 1", b"\tfolded"], id="a line folded with a tab"),
        pytest.param([b" A: 1"], id="a space before the name"),
        pytest.param([b"Content-Length : 1"], id="a space behind the name"),
        pytest.param([b": 1"], id="no name"),
        pytest.param([b"no colon"], id="no colon"),
        pytest.param(["Länge: 1".encode()], id="a name that is not ASCII"),
        pytest.param([b"A(b): 1"], id="a name that is no token"),
        pytest.param([b"A: 1\nContent-Length: 5"], id="a line that ends without a return"),
        pytest.param([b"A: 1\rContent-Length: 5"], id="a return within a value"),
        pytest.param([b"A: 1\x00"], id="a NUL"),
        pytest.param([b"A: \x7f"], id="a delete"),
    ],
)
def test_what_is_not_plainly_right_is_refused(lines: list[bytes]) -> None:
    with pytest.raises(HeadInvalid):
        read(b"Host: x", *lines)


@pytest.mark.parametrize("text", [b"", b"Host: x", b"Host: x\r\n", b"Host: x\n\n", b"\n"])
def test_a_head_that_does_not_end_is_refused(text: bytes) -> None:
    with pytest.raises(HeadInvalid):
        Head(io.BytesIO(text))


def test_there_are_limits() -> None:
    read(*[b"A: 1"] * MAX_HEADERS)
    with pytest.raises(HeadInvalid, match="100 headers"):
        read(*[b"A: 1"] * (MAX_HEADERS + 1))
    most = MAX_HEAD_BYTES - len(b"A: \r\n")
    read(b"A: " + b"x" * most)
    with pytest.raises(HeadInvalid, match="65536 bytes"):
        read(b"A: " + b"x" * (most + 1))
    endless = io.BytesIO(b"x" * (1 << 20))
    with pytest.raises(HeadInvalid):
        Head(endless)
    assert endless.tell() == MAX_HEAD_BYTES + 2


def test_it_says_what_is_wrong_and_none_of_the_values() -> None:
    for lines in ([b"Authorization: s3cret", b"s3cret"], [b"Content-Length: s3cret"], [b"Transfer-Encoding: s3cret"]):
        with pytest.raises(HeadInvalid) as refused:
            read(*lines)
        assert "s3cret" not in str(refused.value)


_NAMES = st.text(string.ascii_letters + string.digits + "-", min_size=1, max_size=12)
_VALUES = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=20)


@given(st.dictionaries(_NAMES.map(str.lower), _VALUES, max_size=MAX_HEADERS))
def test_whatever_is_right_comes_through_as_it_was(headers: dict[str, str]) -> None:
    sent = {name: value for name, value in headers.items() if name not in {"content-length", "transfer-encoding"}}
    head = read(*(f"{name}: {value}".encode("latin-1") for name, value in sent.items()))
    assert {name: head.get(name) for name in sent} == {name: value.strip(" \t") for name, value in sent.items()}


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    try:
        Head(io.BytesIO(text))
    except HeadInvalid:
        return
    assert b"\r\n\r\n" in b"\r\n" + text
