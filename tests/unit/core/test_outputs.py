"""Values out of logs, by the patterns of `outputs`."""

from collections.abc import Iterable
from typing import Any

import pytest

from sflow_ctl.results.outputs import PatternError, match_lines


def parse_outputs(patterns: tuple[str, ...], lines: Iterable[str]) -> dict[str, Any]:
    """Scalars where a name was found once."""
    return {name: one[0] if len(one) == 1 else one for name, one in match_lines(patterns, lines).items()}


def test_one_value_is_a_scalar_and_several_are_a_list_in_order() -> None:
    lines = ["rate = 7.5\n", "noise\n", "rate = 8.0\n", "mode: fast\n"]
    assert parse_outputs(("rate = {rate:f}", "mode: {mode:w}"), lines) == {"rate": [7.5, 8.0], "mode": "fast"}


def test_the_first_pattern_that_matches_a_line_wins() -> None:
    assert parse_outputs(("a {x}", "a {y}"), ["a 1"]) == {"x": "1"}


def test_a_whole_line_is_tried_before_a_part_of_it() -> None:
    assert parse_outputs(("{first} is {second}",), ["0: it is so"]) == {"first": "0: it", "second": "so"}


@pytest.mark.parametrize("line", ["0: rate = 7", "12: rate = 7", "  rate = 7", "step 3: rate = 7 tokens/s"])
def test_labels_and_what_stands_around_do_no_harm(line: str) -> None:
    assert parse_outputs(("rate = {rate:d}",), [line]) == {"rate": 7}


def test_escape_sequences_returns_and_trailing_blanks_are_gone() -> None:
    assert parse_outputs(("p {p:d}",), ["\x1b[32mp 1\x1b[0m  \rp 2 \n"]) == {"p": [1, 2]}


def test_case_counts_and_unnamed_fields_are_dropped() -> None:
    assert parse_outputs(("Rate {} {rate:d}",), ["rate x 1", "Rate x 2"]) == {"rate": 2}


def test_zero_or_more_word_characters() -> None:
    assert parse_outputs(("<{tag:w*}>",), ["<>", "<ab>"]) == {"tag": ["", "ab"]}


def test_nothing_found_is_nothing() -> None:
    assert parse_outputs(("rate = {rate:f}",), []) == {}


def test_a_wrong_pattern_is_said() -> None:
    with pytest.raises(PatternError, match="no valid pattern"):
        parse_outputs(("{a:nope}",), ["x"])
