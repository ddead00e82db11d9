"""Process numbers before lines: what probes, `success` and diagnoses see of logs that have them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.diagnosis.success import Files, PrintedLog, missing
from protocol.messages.checks import LogPattern
from protocol.messages.rank_spec import Success
from protocol.text.line_matcher import LineMatcher
from protocol.text.process_labels import (
    MAX_LINE_BYTES,
    PIECE_BYTES,
    LabelRemover,
    Labels,
    has_label_option,
    without_labels,
)


def as_srun_prints(lines: list[tuple[int, bytes]]) -> list[bytes]:
    """Return labelled lines, cut as Slurm cuts them: a whole line and its newline are in one piece, or the rest is."""
    out = []
    for rank, line in lines:
        pieces = [line[at : at + PIECE_BYTES] for at in range(0, len(line), PIECE_BYTES)] or [b""]
        if len(pieces[-1]) == PIECE_BYTES:
            pieces.append(b"")  # only its newline
        out += [b"%2d: %s" % (rank, piece) for piece in pieces]
    return out


def removed(labels: Labels, raw: list[bytes]) -> list[bytes]:
    remover = LabelRemover(labels)
    lines = [line for one in raw if (line := remover.line(one)) is not None]
    return lines + remover.rest()


lengths = st.one_of(st.integers(0, 30), st.integers(PIECE_BYTES - 2, PIECE_BYTES + 2), st.integers(0, 5000))


@given(sizes=st.lists(st.tuples(st.integers(0, 11), lengths), max_size=12))
def test_p7_every_line_is_whole_again(sizes: list[tuple[int, int]]) -> None:
    lines = [(rank, bytes(b"abcdefghij"[i % 10] for i in range(size))) for rank, size in sizes]
    assert removed("srun", as_srun_prints(lines)) == [line for _, line in lines]


def test_p7_pieces_of_several_processes_may_alternate() -> None:
    first, second = b"a" * PIECE_BYTES, b"b" * PIECE_BYTES
    raw = [b"0: " + first, b"1: " + second, b"0: x", b"srun: error: node1: task 2: Killed", b"1: y"]
    assert removed("srun", raw) == [first + b"x", b"srun: error: node1: task 2: Killed", second + b"y"]


def test_p7_a_merged_log_is_not_cut_and_a_plain_one_has_no_labels() -> None:
    line = b"a" * PIECE_BYTES
    assert removed("merged", [b"00: " + line, b"00: x"]) == [line, b"x"]
    assert removed("none", [b"00: x"]) == [b"00: x"]


def test_a_line_without_an_end_is_not_kept_for_ever() -> None:
    pieces = [b"0: " + b"a" * PIECE_BYTES] * (MAX_LINE_BYTES // PIECE_BYTES)
    remover = LabelRemover("srun")
    assert [line for one in pieces if (line := remover.line(one)) is not None] == [b"a" * MAX_LINE_BYTES]
    assert remover.rest() == []


@pytest.mark.parametrize("cut", [1, 3, 1000, 100_000])
@pytest.mark.parametrize("is_regex", [False, True])
def test_p7_a_pattern_is_found_as_it_was_printed(cut: int, is_regex: bool) -> None:
    raw = as_srun_prints([(0, b"server is starting"), (0, b"x" * 1020 + b" is ready"), (1, b"0: not mine")])
    log = b"".join(line + b"\n" for line in raw)
    for pattern, is_there in (("x is ready", True), ("0: server", False), ("0: not", True)):
        matcher = LineMatcher(LogPattern(pattern=pattern, is_regex=is_regex, labels="srun"))
        found = [matcher.feed(log[at : at + cut]) for at in range(0, len(log), cut)]
        assert any(found) is is_there
    anchored = LineMatcher(LogPattern(pattern="^server is", is_regex=True, labels="srun"))
    assert anchored.feed(log)
    assert anchored.line == "server is starting"


@pytest.mark.parametrize("tail", [b"0: ready", b"0: ready\n", b"0: " + b"x" * (PIECE_BYTES - 5) + b"ready\n"])
def test_p7_the_end_of_a_log_ends_its_last_line(tail: bytes) -> None:
    matcher = LineMatcher(LogPattern(pattern="ready$", is_regex=True, labels="srun"))
    assert matcher.feed(b"0: begin\n" + tail) or matcher.end()
    assert not LineMatcher(LogPattern(pattern="ready", labels="srun")).end()


@pytest.mark.parametrize("labels", ["srun", "merged"])
def test_p7_success_sees_lines_without_their_labels(labels: Labels) -> None:
    def judged(success: Success, log: bytes) -> str:
        files = Files(lambda _: [], lambda _path, _limit: b"", lambda _: iter([log]))
        cause = missing(success, [PrintedLog("/log", labels)], files)
        return "" if cause is None else cause.text

    log = b"0: begin\n1: finished 7\n0: Traceback (most recent call last):\n"
    assert not judged(Success(require=("^finished",)), log)
    assert "Traceback" in judged(Success(forbid=("^Traceback",)), log)
    assert not judged(Success(forbid=("^1: ",)), log)


def test_p7_success_sees_whole_lines() -> None:
    log = b"\n".join(as_srun_prints([(0, b"x" * 1020 + b" is ready")])) + b"\n"
    files = Files(lambda _: [], lambda _path, _limit: b"", lambda _: iter([log]))
    assert missing(Success(require=("x is ready$",)), [PrintedLog("/log", "srun")], files) is None


def test_p7_lines_keep_their_numbers_in_a_diagnosis() -> None:
    assert without_labels(b"0: a\nsrun: b\n12: c", "srun") == b"a\nsrun: b\nc"
    assert without_labels(b"0: a", "none") == b"0: a"


@pytest.mark.parametrize(
    ("options", "is_labelled"),
    [("--label", True), ("-l", True), ("--lab", True), ("--unbuffered", False), ("--l", False), ("", False)],
)
def test_p7_labels_are_asked_for_in_any_spelling(options: str, is_labelled: bool) -> None:
    assert has_label_option(("srun", *options.split(), "bash", "-c", "echo --label -l")) is is_labelled
