"""Lines that only Python's engine can search, in the real process: as in this one, and never for long."""

import re
import time
from collections.abc import Iterator

import pytest

from protocol.machine.pattern_process import LIMIT_S, PatternProcess


@pytest.fixture
def process() -> Iterator[PatternProcess]:
    made = PatternProcess()
    yield made
    made.end()


@pytest.mark.parametrize("pattern", [r"(?<!x)a(?=b)", r"(a)\\1", r"\\w+", "\u2588+"])
@pytest.mark.parametrize("line", ["ab aab xab", "\u2588\u2588 \u0661 a", "", 'a "quoted\\line"'])
def test_the_process_counts_as_this_one_does(process: PatternProcess, pattern: str, line: str) -> None:
    expected = [[one[0], *one.groups()] for one in re.finditer(pattern, line)]
    assert process.matches(pattern, line, 1000) == expected
    assert process.matches(pattern, line, 1) == expected[:1]


def test_r17_a_line_that_takes_too_long_costs_the_process_and_no_more(process: PatternProcess) -> None:
    assert process.matches("a", "aaa", 10) == [["a"]] * 3
    began = time.monotonic()
    assert process.matches(r"^(a+)+$(?!x)", "a" * 60_000 + "!", 1) is None
    assert time.monotonic() - began < 5
    assert process.matches("a", "aaa", 10) == [["a"]] * 3, "another one is started"


def test_r17_the_first_line_of_a_new_process_has_no_more_time(process: PatternProcess) -> None:
    began = time.monotonic()
    assert process.matches("a", "a", 1) == [["a"]]
    start_s = time.monotonic() - began
    process.end()
    began = time.monotonic()
    assert process.matches(r"^(a+)+$(?!x)", "a" * 60_000 + "!", 1) is None
    assert time.monotonic() - began < LIMIT_S + max(1.0, 4 * start_s)
