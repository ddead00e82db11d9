"""Values out of logs, by the patterns of `outputs`."""

import contextlib
import time
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.text.line_pattern import LinePattern
from sflow_ctl.results.patterns import MAX_LINE, PatternError, match_lines


def parse_outputs(patterns: tuple[str, ...], lines: Iterable[str]) -> dict[str, Any]:
    """Scalars where a name was found once."""
    return {
        name: one[0] if len(one) == 1 else one for name, one in match_lines(patterns, lines).values.items()
    }


def test_one_value_is_a_scalar_and_several_are_a_list_in_order() -> None:
    lines = ["rate = 7.5\n", "noise\n", "rate = 8.0\n", "mode: fast\n"]
    assert parse_outputs(("rate = {rate:f}", "mode: {mode:w}"), lines) == {"rate": [7.5, 8.0], "mode": "fast"}


def test_the_first_pattern_that_matches_a_line_wins() -> None:
    assert parse_outputs(("a {x}", "a {y}"), ["a 1"]) == {"x": "1"}


def test_a_whole_line_is_tried_before_a_part_of_it() -> None:
    assert parse_outputs(("{first} is {second}",), ["0: it is so"]) == {"first": "0: it", "second": "so"}


@pytest.mark.parametrize("line", ["0: rate = 7", "12: rate = 7", "  rate = 7", "step 3: rate = 7 tokens/s"])
def test_labels_and_surrounding_text_are_ignored(line: str) -> None:
    assert parse_outputs(("rate = {rate:d}",), [line]) == {"rate": 7}


def test_escape_sequences_returns_and_trailing_blanks_are_gone() -> None:
    assert parse_outputs(("p {p:d}",), ["\x1b[32mp 1\x1b[0m  \rp 2 \n"]) == {"p": [1, 2]}


def test_case_counts_and_unnamed_fields_are_dropped() -> None:
    assert parse_outputs(("Rate {} {rate:d}",), ["rate x 1", "Rate x 2"]) == {"rate": 2}


def test_zero_or_more_word_characters() -> None:
    assert parse_outputs(("<{tag:w*}>",), ["<>", "<ab>"]) == {"tag": ["", "ab"]}


def test_nothing_found_is_nothing() -> None:
    assert parse_outputs(("rate = {rate:f}",), []) == {}


def test_a_wrong_pattern_is_reported() -> None:
    with pytest.raises(PatternError, match="not a valid pattern"):
        parse_outputs(("{a:nope}",), ["x"])


@pytest.mark.parametrize("pattern", ["{", "{a", "a}", "{a:", "{a}{a:d}", "{:d", "{a:d} {a:d}", "{{{"])
def test_any_text_is_a_pattern_or_refused(pattern: str) -> None:
    with contextlib.suppress(PatternError):
        match_lines((pattern,), ["a 1", "1"])


@pytest.mark.parametrize(
    ("pattern", "line", "value"),
    [
        ("model = {v}", "INFO model = llama-70b", "llama-70b"),
        ("model = {v}", "1: INFO model = llama 70b chat", "llama 70b chat"),
        ("loss = {v:f}", "step 10 loss = 1.5e-05", 1.5e-05),
        ("loss = {v:f}", "loss = 2.5e-05", 2.5e-05),
        ("loss = {v:f}", "step 10 loss = 3 now", 3.0),
        ("loss = {v:.2f}", "step 10 loss = -0.25 now", -0.25),
        ("lr = {v:d}", "step 10 lr = 12, next", 12),
        ("lr = {v:d}", "now lr = 12.", 12),
        ("lr = {v:d}", "now (lr = 12)", 12),
        ("{v:d} tok/s", "speed: 1234 tok/s", 1234),
        ("t = {v:d} ns", "at t = 1795917736798782983 ns", 1795917736798782983),
        ("loss {v:g}", "x loss 1e-7 y", 1e-7),
        ("<{v:w}> tok", "the <abc> tokens", "abc"),
    ],
)
def test_l1_a_value_within_a_line_is_whole(pattern: str, line: str, value: object) -> None:
    found = match_lines((pattern,), [line])
    assert (found.values, found.problems) == ({"v": [value]}, [])


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        ("lr = {v:d}", "step 10 lr = 12.75"),
        ("lr = {v:d}", "step 10 lr = 1e5"),
        ("lr = {v:d}", "step 10 lr = 12_000 x"),
        ("rev = {v:d}", "at rev = 12-7 x"),
        ("throughput = {v:d}", "throughput = 1,234.5 tok/s"),
        ("throughput = {v:f}", "throughput = 1,234.5 tok/s"),
        ("mode = {v:w}", "x mode = llama-70b"),
        ("{v:d} tok/s", "speed: 1,234 tok/s"),
        ("{v:d} tok/s", "speed: x1234 tok/s"),
        ("use = {v:d}", "the use = 87%"),
    ],
)
def test_l1_a_value_that_would_be_cut_is_reported_instead_of_taken(pattern: str, line: str) -> None:
    found = match_lines((pattern,), [line, line])
    assert found.values == {}
    (problem,) = found.problems
    assert pattern in problem
    assert "in 2 lines" in problem
    assert line in problem


def test_l1_a_cut_match_does_not_hide_a_later_one() -> None:
    assert parse_outputs(("a={x:d}",), ["- a=1.5 a=2 b"]) == {"x": 2}


def test_r17_a_long_line_costs_no_more_than_its_first_part() -> None:
    found = match_lines(("{name}: {value:d} ms",), ["x" * 200_000 + ": 7 ms", "fine: 8 ms"])
    assert found.values == {"name": ["fine"], "value": [8]}
    assert f"first {MAX_LINE} only" in found.problems[0]


def test_r17_a_long_line_with_many_fields_takes_little_time() -> None:
    """The engine of the library would try each of 10,000 places for each of four fields."""
    began = time.process_time()
    pattern = "{a} {b} {c} {d}: {value:d} ms"
    assert match_lines([pattern], ["x " * 5_000, "ms " * 3_000 + ": "]).values == {}
    found = match_lines([pattern], ["w " * 3 + "v: 12 ms", "w " * 100 + "v: 13 ms"]).values
    assert found["value"] == [12, 13]
    assert time.process_time() - began < 5


def test_r17_a_short_line_with_many_words_takes_little_time() -> None:
    """The engine of the library would try all ways to cut a word of 110 letters into six."""
    pattern = "{a:w}{b:w}{c:w}{d:w}{e:w}{f:w} end"
    began = time.process_time()
    assert match_lines([pattern], ["a" * 110 + " and"]).values == {}
    assert match_lines([pattern], ["a" * 110 + "  end"]).values == {}
    assert time.process_time() - began < 5


@given(st.lists(st.sampled_from(["ab", " ", "12", ": ", "ms", "3.5", "\u2588"]), min_size=60, max_size=120))
def test_long_lines_give_the_same_values_as_short_ones(words: list[str]) -> None:
    line = "".join(words)
    patterns = ["{name}: {value:d} ms", "ab{n:f}", "{:d} ab"]
    expected = match_lines(patterns, [line]).values
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LinePattern, "quick_characters", 0)
        assert match_lines(patterns, [line]).values == expected
