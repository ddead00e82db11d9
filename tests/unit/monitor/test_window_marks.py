"""The lines at which a window starts and ends, in a log that grows."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.messages.monitor import LogWindow, Mark
from protocol.text import line_pattern
from protocol.text.process_labels import Labels
from sflow_agent.monitor.window_marks import MarkFinder
from sflow_ctl.plan.monitors import mark_patterns

LINES = ("S", "E", "noise", "S E", "xS", "E\x1b[0m", "")


def window(start: str = "S", end: str = "E", *, starts: str = "first", ends: str = "last") -> LogWindow:
    return LogWindow(
        tasks=("t",),
        start=mark_patterns([start], is_last=starts == "last"),
        end=mark_patterns([end], is_last=ends == "last"),
    )


def found(finder: MarkFinder) -> tuple[int | None, int | None]:
    """The offsets of both marks."""
    return tuple(None if one is None else one.offset for one in (finder.start, finder.end))  # type: ignore[return-value]


def search(text: str, of: LogWindow, labels: Labels = "none") -> MarkFinder:
    finder = MarkFinder(of, labels)
    finder.feed(text.encode(), 1000)
    finder.finish(2000)
    return finder


def test_the_default_is_the_first_start_and_the_last_end_after_it() -> None:
    assert found(search("E\nS\nS\nE\nE\n", window())) == (2, 8)


@pytest.mark.parametrize(
    ("starts", "ends", "offsets"),
    [
        ("first", "first", (2, 6)),
        ("last", "last", (4, 8)),
        ("last", "first", (4, 6)),
        ("first", "last", (2, 8)),
    ],
)
def test_first_and_last_are_chosen_for_each_end(starts: str, ends: str, offsets: tuple[int, int]) -> None:
    assert found(search("E\nS\nS\nE\nE\n", window(starts=starts, ends=ends))) == offsets


def test_an_end_before_the_last_start_does_not_count() -> None:
    assert found(search("S\nE\nS\n", window(starts="last"))) == (4, None)


def test_a_line_that_matches_both_is_a_start_only() -> None:
    assert found(search("S E\n", window())) == (0, None)


def test_a_mark_says_what_was_seen_and_when() -> None:
    finder = MarkFinder(window("re:^BEG", "re:END (?=now)"), "none")
    finder.feed(b"x\n\x1b[1mBEGIN\x1b[0m of it\n", 1500)
    finder.feed(b"END now\nEND now\n", 2500)
    assert finder.start == Mark(at_ms=1500, offset=2, line="BEGIN of it", patterns=("re:^BEG",), count=1)
    assert finder.end is not None
    assert (finder.end.at_ms, finder.end.offset, finder.end.count) == (2500, 30, 2)


def test_the_last_line_needs_no_end() -> None:
    finder = MarkFinder(window(), "none")
    finder.feed(b"S\nE", 1)
    assert found(finder) == (0, None)
    finder.finish(2)
    assert found(finder) == (0, 2)


def test_labels_of_srun_are_no_part_of_a_line_and_pieces_are_joined() -> None:
    text = f"1: S\n0: {'x' * 1024}\n0: E\n"
    finder = search(text, window("re:^S$", "re:^x+E$"), "srun")
    assert (finder.start is not None, finder.end is not None) == (True, True)


def test_a_log_that_is_truncated_is_searched_from_its_beginning() -> None:
    finder = MarkFinder(window(), "none")
    finder.feed(b"S\nmore", 1)
    finder.restart()
    finder.feed(b"E\n", 2)
    assert found(finder) == (0, 0)


def test_only_a_first_end_settles_a_window() -> None:
    assert search("S\nE\n", window(ends="first")).is_settled
    assert not search("S\nE\n", window()).is_settled
    assert not search("S\n", window(ends="first")).is_settled


def test_a_long_line_is_cut_in_the_mark_only() -> None:
    finder = search("S" + "x" * 600 + "\nE\n", window())
    assert finder.start is not None
    assert (len(finder.start.line), finder.start.is_cut) == (500, True)


def naive(lines: list[str], starts: str, ends: str) -> tuple[int | None, int | None]:
    """The same by looking at the whole log."""
    offsets = [sum(len(line) + 1 for line in lines[:index]) for index in range(len(lines))]
    chosen = [index for index, line in enumerate(lines) if "S" in line]
    if not chosen:
        return None, None
    start = chosen[0 if starts == "first" else -1]
    after = [
        index
        for index, line in enumerate(lines)
        if index > start and "E" in line and (starts == "last" or index != start)
    ]
    if not after:
        return offsets[start], None
    return offsets[start], offsets[after[0 if ends == "first" else -1]]


@given(
    lines=st.lists(st.sampled_from(LINES), max_size=12),
    starts=st.sampled_from(["first", "last"]),
    ends=st.sampled_from(["first", "last"]),
    cuts=st.lists(st.integers(0, 60), max_size=6),
)
def test_however_a_log_is_cut_the_window_is_that_of_the_whole(
    lines: list[str], starts: str, ends: str, cuts: list[int]
) -> None:
    data = "".join(f"{line}\n" for line in lines).encode()
    finder = MarkFinder(window(starts=starts, ends=ends), "none")
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for begin, end in itertools.pairwise(places):
        finder.feed(data[begin:end], 1)
    finder.finish(2)
    assert found(finder) == naive(lines, starts, ends)


def short_only(pattern: str, line: str, _limit: int) -> list[list[str | None]] | None:
    """As the process does it, with a smaller limit."""
    return None if len(line) > 90 else [[one[0]] for one in re.finditer(pattern, line)]


def test_r17_a_pattern_of_a_window_that_takes_for_ever_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_pattern, "_slow_engine", [short_only])
    finder = search("a" * 5000 + "!\nS\nE\n", window(start="re:^(a+)+$(?!x)|S"))
    assert finder.problems == [
        'the pattern "^(a+)+$(?!x)|S" takes too long on a line: write it without nested or neighbouring repetitions'
    ]
    assert found(finder) == (5002, 5004)
