"""Matches of a pattern in a log, however its bytes arrive."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.messages.checks import LogPattern
from protocol.text.line_matcher import MAX_LINE_BYTES, LineMatcher


def feed(matcher: LineMatcher, *chunks: bytes) -> list[bool]:
    return [matcher.feed(chunk) for chunk in chunks]


def test_f27_a_literal_is_seen_across_chunks_and_without_a_line_end() -> None:
    matcher = LineMatcher(LogPattern(pattern="ready"))
    assert feed(matcher, b"server re", b"ad", b"y") == [False, False, True]
    assert matcher.line == "server ready"


def test_a_literal_counts_every_occurrence_once() -> None:
    matcher = LineMatcher(LogPattern(pattern="a", count=4))
    assert feed(matcher, b"a", b" a\na", b"", b"a\n") == [False, False, False, True]


def test_f27_an_expression_needs_the_whole_line() -> None:
    matcher = LineMatcher(LogPattern(pattern=r"^up$", is_regex=True))
    assert feed(matcher, b"up", b" and away\n", b"up", b"\r\n") == [False, False, False, True]
    assert matcher.line == "up"


def test_an_expression_may_match_several_times_in_a_line() -> None:
    matcher = LineMatcher(LogPattern(pattern=r"\d+", is_regex=True, count=3))
    assert feed(matcher, b"1 2\nnone\n", b"3\n") == [False, True]


def test_f27_returns_end_lines() -> None:
    matcher = LineMatcher(LogPattern(pattern=r"^100%$", is_regex=True))
    assert feed(matcher, b"10%\r100%\r", b"done") == [False, True]


def test_f27_escape_sequences_are_not_text() -> None:
    matcher = LineMatcher(LogPattern(pattern="ready"))
    assert feed(matcher, b"\x1b[1;32mre\x1b[0", b"mady\x1b]0;title\x07") == [False, True]
    assert feed(LineMatcher(LogPattern(pattern="32")), b"\x1b[1;32", b"mgreen\n") == [False, False]


def test_bad_utf8_is_replaced_and_survived() -> None:
    matcher = LineMatcher(LogPattern(pattern="r.ady", is_regex=True))
    assert feed(matcher, b"r\xffady\n") == [True]
    assert matcher.line == "r\ufffdady"


def test_a_line_without_end_is_matched_in_pieces_and_memory_stays_bounded() -> None:
    matcher = LineMatcher(LogPattern(pattern="needle"))
    for _ in range(12):
        assert not matcher.feed(b"x" * 256 * 1024)
    assert len(matcher._partial) <= MAX_LINE_BYTES
    assert matcher.feed(b"needle")


def test_an_empty_literal_matches_nothing() -> None:
    assert not LineMatcher(LogPattern(pattern="")).feed(b"anything\n")


def test_the_line_shown_is_bounded() -> None:
    matcher = LineMatcher(LogPattern(pattern="ready"))
    assert matcher.feed(b"ready" + b"!" * 5000 + b"\n")
    assert len(matcher.line) == 500


PIECES = (b"ready", b"re", b"ady", b"\n", b"\r", b"\r\n", b"\xff", b" x")
ESCAPES = (b"\x1b", b"[", b"]", b"P", b"(B", b"32m", b"0;t", b"\x07", b"\\")
"""Of whole escape sequences and torn ones."""
TEXT = st.lists(st.sampled_from([*PIECES, *ESCAPES]), max_size=30).map(b"".join)


@given(TEXT, st.lists(st.integers(0, 200), max_size=8), st.integers(1, 3), st.booleans())
def test_f27_how_bytes_come_in_chunks_makes_no_difference(
    text: bytes, cuts: list[int], count: int, is_regex: bool
) -> None:
    pattern = LogPattern(pattern="^.?ready$" if is_regex else "ready", is_regex=is_regex, count=count)
    whole = LineMatcher(pattern).feed(text)
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    chunked = LineMatcher(pattern)
    results = feed(chunked, *(text[a:b] for a, b in pairwise(edges)))
    assert any(results) == whole
    one_by_one = LineMatcher(pattern)
    assert any(feed(one_by_one, *(text[i : i + 1] for i in range(len(text))))) == whole


def test_an_unterminated_escape_hides_no_line() -> None:
    text = b"\x1b]0;title\nServer ready\nnext \x07\n"
    for is_regex in (False, True):
        pattern = LogPattern(pattern="Server ready", is_regex=is_regex)
        assert LineMatcher(pattern).feed(text)
        assert feed(LineMatcher(pattern), text[:5], text[5:]) == [False, True]


@pytest.mark.parametrize("filler", ["x", "\u0663"])
def test_r17_a_long_line_costs_a_backtracking_expression_little(filler: str) -> None:
    """Counted, not timed: Python's engine gets only the beginning of a line that RE2 cannot search."""
    pattern = LogPattern(pattern=r"(.+?): (\d+) ms", is_regex=True)
    line = (filler * 60_000).encode()
    matcher = LineMatcher(pattern)
    assert not matcher.feed(line + b"\n")
    assert matcher.feed(b"x: 5 ms\n")


def test_r17_a_match_at_the_end_of_a_long_line_is_found() -> None:
    assert LineMatcher(LogPattern(pattern=r"(.+?): (\d+) ms$", is_regex=True)).feed(
        b"x" * 120_000 + b": 7 ms\n"
    )
