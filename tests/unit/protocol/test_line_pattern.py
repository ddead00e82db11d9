"""Regular expressions in lines: the linear engine finds the same as Python's, and other searches are limited."""

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.text import line_pattern
from protocol.text.line_pattern import (
    GIVEN_UP_AFTER,
    MOST_CHARACTERS,
    SEARCHED_CHARACTERS,
    LinePattern,
    use_slow_engine,
)

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
    "(.+)b(.*)c",
    "c.b",
    "[ab]{2,3}$",
    "^.*b",
    r"a\.?b",
)


@given(st.sampled_from(PATTERNS), st.text("ab1 c\u0661\xe9", max_size=30))
def test_both_engines_count_the_same(pattern: str, line: str) -> None:
    expected = sum(1 for _ in re.finditer(pattern, line))
    assert LinePattern(pattern).count(line, 1000) == expected
    found = [[one[0], *one.groups()] for one in re.finditer(pattern, line)]
    assert LinePattern(pattern).matches(line, 1000) == found


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
    monkeypatch.setattr(line_pattern, "_slow_engine", [])
    pattern = LinePattern("e+nd")
    assert pattern.may_be_in(b"anything")
    assert pattern.is_in("x" * (SEARCHED_CHARACTERS - 3) + "end")
    assert not pattern.is_in("x" * SEARCHED_CHARACTERS + "end")


NEEDS_PYTHON = (
    r"^(a+)+$(?!x)",
    r"(?=a)(a|aa)*$",
    r"(?<!x)(.+?): (\d+) ms",
    r"(?=.*b)(.*)(.*)(.*)c",
    r"(a*)*\Z",
)
"""Lookarounds, which RE2 lacks, beside repetitions that may take for ever."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What is asked of the slow engine, which finds that it takes too long."""
    seen: list[tuple[str, int]] = []

    def give_up(pattern: str, line: str, _limit: int) -> None:
        seen.append((pattern, len(line)))

    monkeypatch.setattr(line_pattern, "_slow_engine", [])
    use_slow_engine(give_up)
    return seen


@pytest.mark.parametrize("pattern", NEEDS_PYTHON)
def test_r17_what_may_take_long_is_searched_elsewhere(pattern: str, asked: list[tuple[str, int]]) -> None:
    regex = LinePattern(pattern)
    assert regex.problem == ""
    for _ in range(GIVEN_UP_AFTER + 2):
        assert not regex.matches("a" * 100_000 + "!", 5)
    assert asked == [(pattern, MOST_CHARACTERS)] * GIVEN_UP_AFTER
    assert regex.problem == (
        f'the pattern "{pattern}" takes too long on a line: write it without nested or neighbouring repetitions; '
        "it is searched no more"
    )


@pytest.mark.parametrize("pattern", [r"done(?!x)", r"(?<!x)\d+ ms", r"a{1,4}(?=b)", r"\bv(\d+)(?=;)"])
def test_what_takes_little_time_is_searched_at_once(pattern: str, asked: list[tuple[str, int]]) -> None:
    line = "done 12 ms aab v3; \u2588"
    assert LinePattern(pattern).count(line, 5) == 1
    assert not asked


def test_lines_that_are_not_ascii_take_linear_time_without_classes(
    asked: list[tuple[str, int]],
) -> None:
    assert LinePattern("(.+): (.+) ms").is_in("\u2588" * 50_000 + ": 5 ms")
    assert not asked
    assert not LinePattern(r"(\w+): (\d+) ms").is_in("\u2588" * 50_000 + ": 5 ms")
    assert asked
