"""Requests as bytes, answers from bytes, and their verdicts."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.messages.checks import HttpCheck
from protocol.text.urls import split_url
from sflow_agent.probes.http.exchange import (
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    MAX_INTERIM,
    Answer,
    BadAnswerError,
    redirect,
    request_bytes,
)
from sflow_agent.probes.http.verdict import verdict

GET = HttpCheck(method="GET", url="http://n0:8000/health")
JSON = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"count": [1,2]}'


def answer(data: bytes, *, is_ended: bool = False) -> Answer:
    got = Answer()
    got.feed(data)
    if is_ended:
        got.end()
    return got


# ---------------------------------------------------------------------- requests


def test_a_get_has_no_body_and_its_own_headers_win() -> None:
    check = HttpCheck(
        method="GET", url="", headers=(("accept", "text/html"), ("Host", "other")), body="ignored"
    )
    assert request_bytes(check, split_url("http://n0/a?b=c"), "GET") == (
        b"GET /a?b=c HTTP/1.1\r\nUser-Agent: sflow-agent\r\nAccept-Encoding: identity\r\n"
        b"accept: text/html\r\nHost: other\r\nConnection: close\r\n\r\n"
    )


def test_a_post_has_a_type_and_a_length() -> None:
    plain = request_bytes(HttpCheck(method="POST", url="", body="é"), split_url("https://[::1]:8443"), "POST")
    assert b"POST / HTTP/1.1\r\nHost: [::1]:8443\r\n" in plain
    assert b"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n" in plain
    assert plain.endswith(b"\r\n\r\n\xc3\xa9")
    typed = HttpCheck(method="POST", url="", headers=(("content-type", "application/json"),))
    assert request_bytes(typed, split_url("http://n0"), "POST").lower().count(b"content-type") == 1
    assert b"Content-Length: 0" in request_bytes(typed, split_url("http://n0"), "POST")


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://n0", ("http", "n0", 80, "/", "n0")),
        ("https://n0:443/x", ("https", "n0", 443, "/x", "n0")),
        (
            "http://N0:8000/v1/models?a=%20&b=é#part",
            ("http", "n0", 8000, "/v1/models?a=%20&b=%C3%A9", "n0:8000"),
        ),
        ("http://[::1]:80/", ("http", "::1", 80, "/", "[::1]")),
    ],
)
def test_the_parts_of_a_url(url: str, parts: tuple[str, str, int, str, str]) -> None:
    split = split_url(url)
    assert (*split, split.host_header) == parts


@pytest.mark.parametrize(
    "url",
    [
        "n0:8000",
        "ftp://n0",
        "http://",
        "http://n0:x/",
        "http://n0:0",
        "http://n0/a b",
        "http://a:b@n0",
        "",
        "http://n0/\r\nX: y",
    ],
)
def test_invalid_urls(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        split_url(url)


# ---------------------------------------------------------------------- answers


ANSWERS = {
    "with a length": JSON,
    "in chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'6;ext=1\r\n{"coun\r\n0A\r\nt": [1,2]}\r\n0\r\nTrailer: x\r\n\r\n'
    ),
    "after an interim one": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + JSON,
    "with small faults": (
        b'http/1.1 200\r\nX A: b\r\nno header\r\nContent-Length : 16\r\nX: \x01\x7f\r\n\r\n{"count": [1,2]}'
    ),
    "with a folded header": b'HTTP/1.1 200 OK\r\nX: a\r\n\tb: c\r\nContent-Length: 16\r\n\r\n{"count": [1,2]}',
    "to the end": b'HTTP/1.0 200 OK\r\n\r\n{"count": [1,2]}',
}


ANSWERS |= {f"{kind}, bare line feeds": raw.replace(b"\r\n", b"\n") for kind, raw in ANSWERS.items()}
"""Public 23: curl reads them."""


@pytest.mark.parametrize("kind", ANSWERS)
@given(cuts=st.lists(st.integers(0, 200), max_size=8))
def test_public_23_line_ends_and_the_pieces_an_answer_comes_in_make_no_difference(
    kind: str, cuts: list[int]
) -> None:
    raw = ANSWERS[kind]
    got = Answer()
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    for start, end in itertools.pairwise(edges):
        got.feed(raw[start:end])
    got.end()
    assert (got.status, bytes(got.body), got.is_complete) == (200, b'{"count": [1,2]}', True)


@given(st.binary(max_size=300), st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", ANSWERS["in chunks"][:60]]))
def test_garbage_is_an_answer_or_an_error(data: bytes, start: bytes) -> None:
    got = Answer()
    refusal = None
    try:
        got.feed(start + data)
        got.end()
    except BadAnswerError as error:
        refusal = error
    assert str(refusal) if refusal is not None else got.is_over and got.has_head


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "without an answer"),
        (b"HTTP/1.1 200", "without an answer"),
        (b"SSH-2.0-OpenSSH_9\r\n", "not an HTTP answer: 'SSH-2.0"),
        (b"HTTP/2 banana\r\n\r\n", "the head of its answer cannot be read"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEAD_BYTES, "longer than"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_INTERIM + 1), "interim answers"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "the head of its answer cannot be read"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "the head of its answer cannot be read: bad Content-Length",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "body of its answer .* illegal chunk header",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 5000,
            "body of its answer .* illegal chunk header",
        ),
    ],
)
def test_invalid_answers(data: bytes, why: str) -> None:
    with pytest.raises(BadAnswerError, match=why):
        answer(data, is_ended=True)


def test_a_body_is_kept_up_to_a_limit() -> None:
    for head in (b"", b"Content-Length: 9999999999\r\n", b"Transfer-Encoding: chunked\r\n"):
        got = answer(
            b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + (b"ffffffff\r\n" if b"chunked" in head else b"")
        )
        for _ in range(40):
            got.feed(b"x" * 65536)
        assert got.is_cut
        assert len(got.body) == MAX_BODY_BYTES


def test_a_connection_lost_in_the_body_is_an_incomplete_answer() -> None:
    assert answer(JSON[:-5], is_ended=True).is_cut
    assert answer(ANSWERS["in chunks"][:-30], is_ended=True).is_cut


def test_some_answers_have_no_body() -> None:
    for head in (
        b"204 No Content\r\n",
        b"304 Not Modified\r\nContent-Length: 7\r\n",
        b"200 OK\r\nContent-Length: 0\r\n",
    ):
        assert answer(b"HTTP/1.1 " + head + b"\r\n").is_complete


# ---------------------------------------------------------------------- redirects


@pytest.mark.parametrize(
    ("status", "location", "expected"),
    [
        (302, "/other", ("http://n0:8000/other", "GET")),
        (301, "https://n1/x", ("https://n1/x", "GET")),
        (303, "x", ("http://n0:8000/x", "GET")),
        (307, "/other", ("http://n0:8000/other", "POST")),
        (308, "//n1/", ("http://n1/", "POST")),
        (300, "/other", None),
        (302, None, None),
    ],
)
def test_where_a_redirect_leads(status: int, location: str | None, expected: tuple[str, str] | None) -> None:
    head = f"HTTP/1.1 {status} Moved\r\n" + (f"Location: {location}\r\n" if location else "")
    assert redirect(GET, answer(f"{head}\r\n".encode()), GET.url, "POST") == expected


def test_an_expected_redirect_is_the_answer() -> None:
    check = HttpCheck(method="GET", url=GET.url, status=(302,))
    got = answer(b"HTTP/1.1 302 ExplainingLine\r\nLocation: /x\r\n\r\n")
    assert redirect(check, got, check.url, "GET") is None
    assert verdict(check, got) == (True, "HTTP 302 ExplainingLine")


# ---------------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("status", "holds"),
    [(200, True), (204, True), (304, True), (399, True), (400, False), (404, False), (503, False)],
)
def test_the_format_takes_200_to_399(status: int, holds: bool) -> None:
    got = answer(f"HTTP/1.1 {status} Word\r\nContent-Length: 5\r\n\r\n".encode())
    assert verdict(GET, got) == (holds, f"HTTP {status} Word")


def test_a_head_is_enough_when_nothing_is_asked_of_the_body() -> None:
    assert verdict(GET, answer(b"HTTP/1.1 200 OK\r\n")) is None
    assert verdict(GET, answer(b"HTTP/1.1 200 OK\r\n\r\n")) == (True, "HTTP 200 OK")


@pytest.mark.parametrize(
    ("check", "holds", "why"),
    [
        (HttpCheck(method="GET", url="", status=(201,)), False, "HTTP 200 OK"),
        (HttpCheck(method="GET", url="", header=(("content-TYPE", "json"),)), True, "HTTP 200 OK"),
        (
            HttpCheck(method="GET", url="", header=(("Content-Type", "xml"),)),
            False,
            "HTTP 200 OK, but its header Content-Type is 'application/json'",
        ),
        (
            HttpCheck(method="GET", url="", header=(("X", ""),)),
            False,
            "HTTP 200 OK, but its header X is missing",
        ),
        (HttpCheck(method="GET", url="", body_contains="count"), True, "HTTP 200 OK"),
        (
            HttpCheck(method="GET", url="", body_contains="zzz"),
            False,
            "HTTP 200 OK, but its body has no 'zzz'",
        ),
        (HttpCheck(method="GET", url="", json="len(count) == 2"), True, "HTTP 200 OK, len(count) == 2"),
        (
            HttpCheck(method="GET", url="", json="len(count) >= 6"),
            False,
            "HTTP 200 OK, but len(count) is 2 (len(count) >= 6)",
        ),
    ],
)
def test_everything_that_is_given_must_hold(check: HttpCheck, holds: bool, why: str) -> None:
    assert verdict(check, answer(JSON)) == (holds, why)


def test_text_is_found_before_the_body_ends_and_missed_only_at_its_end() -> None:
    check = HttpCheck(method="GET", url="", body_contains="needle")
    got = answer(b"HTTP/1.1 200 OK\r\n\r\nhay nee")
    assert verdict(check, got) is None
    got.feed(b"dle")
    assert verdict(check, got) == (True, "HTTP 200 OK")
    full = answer(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_BODY_BYTES + 1))
    assert verdict(check, full) == (
        False,
        "HTTP 200 OK, but the first 1048576 bytes of its body has no 'needle'",
    )


def test_json_needs_the_whole_body() -> None:
    check = HttpCheck(method="GET", url="", json="count")
    assert verdict(check, answer(JSON[:-5])) is None
    assert verdict(check, answer(JSON[:-5], is_ended=True)) == (
        False,
        "HTTP 200 OK, but its body ended too early",
    )
    for body in (b"<html>", b"\xff", b"[" * 100_000):
        got = answer(b"HTTP/1.1 200 OK\r\n\r\n" + body, is_ended=True)
        assert verdict(check, got) == (False, "HTTP 200 OK, but its body is not JSON")


@pytest.mark.parametrize("body", [b'\xef\xbb\xbf{"count": 2}', b'{"count": 2, "load": NaN}'])
def test_public_14_and_15_an_answer_is_read_as_programs_write_it(body: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    check = HttpCheck(method="GET", url="", json="count == 2")
    assert verdict(check, answer(head + body)) == (True, "HTTP 200 OK, count == 2")
