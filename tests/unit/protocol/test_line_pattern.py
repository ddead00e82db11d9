"""Regular expressions in lines: the linear engine finds the same as Python's, and other searches are limited."""

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.text.line_pattern import SEARCHED_CHARACTERS, LinePattern

PATTERNS = (
    "a+b",
    "^ab?$",
    r"\bab\b",
    r"(?i)AB",
    r"a\d+|b",
    r"[^a]b",
    r"(a|b)*c",
    r"\Aab",
    r"a{,2}b",
    r"a(?=b)",
    "b*",
)


@given(st.sampled_from(PATTERNS), st.text("ab1 c\u0661\xe9", max_size=30))
def test_both_engines_count_the_same(pattern: str, line: str) -> None:
    expected = sum(1 for _ in re.finditer(pattern, line))
    assert LinePattern(pattern).count(line, 1000) == expected


@given(st.sampled_from(PATTERNS), st.lists(st.text("ab1 c", max_size=8), max_size=6))
def test_a_block_is_ruled_out_only_if_no_line_matches(pattern: str, lines: list[str]) -> None:
    if not LinePattern(pattern).may_be_in("\n".join(lines).encode()):
        assert not any(re.search(pattern, line) for line in lines)


def test_counting_stops_at_the_limit() -> None:
    assert LinePattern("a").count("a" * 100, 3) == 3


def test_without_the_linear_engine_the_beginning_of_a_line_is_searched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    pattern = LinePattern("end")
    assert pattern.may_be_in(b"anything")
    assert pattern.is_in("x" * (SEARCHED_CHARACTERS - 3) + "end")
    assert not pattern.is_in("x" * SEARCHED_CHARACTERS + "end")


def test_r17_an_exponential_expression_ends() -> None:
    assert not LinePattern(r"^(a+)+$").is_in("a" * 5000 + "!")
