"""The head of a request: taken as it is meant, or refused."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web.head import MAX_HEAD_BYTES, MAX_HEADERS, Head, HeadInvalid


def read(*lines: bytes, first: bytes = b"GET / HTTP/1.0") -> Head:
    return Head(b"\r\n".join([first, *lines]))


def environ(*lines: bytes) -> dict[str, str]:
    return read(*lines).environ


def test_names_have_no_case_and_values_no_space_around_them() -> None:
    head = read(b"X-Signature: \t abc def \t ", b"HOST:x", b"Content-Type: text/plain", b"Content-Length: 007")
    assert head.environ == {
        "HTTP_X_SIGNATURE": "abc def",
        "HTTP_HOST": "x",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "007",
    }
    assert head.length == 7


def test_the_first_line_is_a_method_what_it_is_about_and_a_version() -> None:
    head = read(b"Host: x", first=b"M-SEARCH /a%20b?c=d&e=%00 HTTP/1.1")
    assert (head.method, head.target, head.version) == ("M-SEARCH", "/a%20b?c=d&e=%00", "HTTP/1.1")


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"GET",
        b"GET /",
        b"GET / ",
        b"GET  / HTTP/1.1",
        b"GET /  HTTP/1.1",
        b"GET\t/ HTTP/1.1",
        b" GET / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET /\x0bx HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"GET /\x85 HTTP/1.1",
        b"GET /\xa0 HTTP/1.1",
        b"GET /\x00 HTTP/1.1",
        b"GET /\r HTTP/1.1",
        b"GET / HTTP/1.1\n",
        b"GET / HTTP/1.1\nHost: x",
        b"GET /# HTTP/1.1",
        "GET /ä HTTP/1.1".encode(),
        b"GET / HTTP/0.9",
        b"GET / HTTP/1.2",
        b"GET / HTTP/2.0",
        b"GET / HTTP/1.10",
        b"GET / http/1.1",
        "GET / HTTP/1.\u0661".encode(),
        b"G(T / HTTP/1.1",
        b"\x16\x03\x01",
    ],
)
def test_any_other_first_line_is_refused(first: bytes) -> None:
    with pytest.raises(HeadInvalid, match="its first line"):
        read(b"Host: x", first=first)


@pytest.mark.parametrize(
    ("lines", "closes"),
    [
        ([b"HTTP/1.1"], False),
        ([b"HTTP/1.1", b"Connection: close"], True),
        ([b"HTTP/1.1", b"Connection: TE, Close"], True),
        ([b"HTTP/1.1", b"Connection: TE", b"Connection: close"], True),
        ([b"HTTP/1.1", b"Connection: upgrade", b"Upgrade: websocket"], False),
        ([b"HTTP/1.0"], True),
        ([b"HTTP/1.0", b"Connection: Keep-Alive"], False),
        ([b"HTTP/1.0", b"Connection: keep-alive, close"], True),
    ],
)
def test_the_version_and_the_header_connection_say_whether_it_ends(lines: list[bytes], closes: bool) -> None:
    assert read(b"Host: x", *lines[1:], first=b"GET / " + lines[0]).closes is closes


def test_a_host_is_there_once_and_is_one() -> None:
    for lines in ([], [b"Host: x", b"Host: x"], [b"Host: x", b"host: y"], *([host] for host in _NO_HOSTS)):
        with pytest.raises(HeadInvalid, match="host"):
            read(*lines, first=b"GET / HTTP/1.1")
    for host in (b"", b"x", b"x.example:8000", b"[::1]:80", b"a_b"):
        assert read(b"Host: " + host, first=b"GET / HTTP/1.1").environ["HTTP_HOST"] == host.decode()
    assert "HTTP_HOST" not in read().environ


_NO_HOSTS = [b"Host: " + host for host in (b"x y", b"x/y", b"x, y", b"u@x", b"x?", b"\xff", b'"x"', b"x\\y")]


def test_http_1_0_has_no_chunks() -> None:
    with pytest.raises(HeadInvalid, match="has no transfer-encoding"):
        read(b"Transfer-Encoding: chunked")
    assert read(b"Host: x", b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.1").chunked


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
        read(b"Host: x", *lines, first=b"POST / HTTP/1.1")


def test_there_are_limits() -> None:
    read(*[b"A: 1"] * MAX_HEADERS)
    with pytest.raises(HeadInvalid, match="100 headers"):
        read(*[b"A: 1"] * (MAX_HEADERS + 1))
    most = MAX_HEAD_BYTES - len(b"\r\nA: ")
    read(b"A: " + b"x" * most)
    with pytest.raises(HeadInvalid, match="65536 bytes"):
        read(b"A: " + b"x" * (most + 1))


def test_it_says_what_is_wrong_and_none_of_the_values() -> None:
    for lines in ([b"Authorization: s3cret", b"s3cret"], [b"Content-Length: s3cret"], [b"Transfer-Encoding: s3cret"]):
        with pytest.raises(HeadInvalid) as refused:
            read(*lines)
        assert "s3cret" not in str(refused.value)


_NAMES = st.text(string.ascii_letters + string.digits + "-", min_size=1, max_size=12)
_VALUES = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=20)


@given(st.dictionaries(_NAMES.map(str.lower), _VALUES, max_size=MAX_HEADERS))
def test_whatever_is_right_comes_through_as_it_was(headers: dict[str, str]) -> None:
    hidden = {"content-length", "content-type", "transfer-encoding", "host"}
    sent = {name: value for name, value in headers.items() if name not in hidden}
    head = read(*(f"{name}: {value}".encode("latin-1") for name, value in sent.items()))
    to_key = {name: "HTTP_" + name.upper().replace("-", "_") for name in sent}
    assert head.environ == {to_key[name]: value.strip(" \t") for name, value in sent.items()}


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    try:
        read(text)
    except HeadInvalid:
        return
    assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", text)
