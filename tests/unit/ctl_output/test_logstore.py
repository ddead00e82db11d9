"""Exactly once in any order of arrival; cursors that lose nothing or report the skipped bytes."""

import functools
import os
from pathlib import Path

import pytest

from protocol.ids import AttemptId, RankId
from sflow_ctl.runtime.logs.cursor import (
    COUNT_BYTES,
    KEEP_BYTES,
    SKIP_BEYOND_BYTES,
    Cursor,
)
from sflow_ctl.runtime.logs.line_index import BLOCK_BYTES, LineIndex
from sflow_ctl.runtime.logs.store import RankLog, SpoolFiles, current_path, log_file, new_part

pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st

RANK = RankId(AttemptId("t", 1), 0)
PREAD = os.pread


@given(
    data=st.binary(min_size=1, max_size=200),
    pieces=st.lists(st.tuples(st.integers(0, 199), st.integers(0, 80)), max_size=30),
)
def test_any_order_of_chunks_gives_a_prefix_and_the_rest_completes_it(
    data: bytes, pieces: list[tuple[int, int]]
) -> None:
    file = bytearray()
    for offset, size in [*pieces, *((at, 7) for at in range(0, len(data), 5))]:
        body = data[offset : offset + size]
        cut = new_part(len(file), offset, len(body))
        if cut is not None:
            file += body[cut:]
        assert data.startswith(bytes(file))
    assert bytes(file) == data


def test_a_hole_is_refused_and_a_repetition_is_nothing_new() -> None:
    assert new_part(10, 11, 5) is None
    assert new_part(10, 10, 5) == 0
    assert new_part(10, 8, 5) == 2
    assert new_part(10, 2, 5) == 5


def test_spooled_bytes_follow_a_file_that_is_moved_aside(tmp_path: Path) -> None:
    spool = SpoolFiles()
    log = RankLog(RANK, tmp_path / "t" / "t.log")
    spool.append(log, memoryview(b"first "))
    earlier = tmp_path / "t" / "t.attempt-1.log"
    assert spool.rotate(RANK, log.path, earlier)
    log.path = earlier
    spool.append(log, memoryview(b"and late"))
    spool.close()
    assert earlier.read_bytes() == b"first and late"
    assert not (tmp_path / "t" / "t.log").exists()


def test_a_log_outside_the_run_directory_is_none(tmp_path: Path) -> None:
    for relative in ("/etc/passwd", "../x", "t/../../x", "t//x", "t/\0"):
        assert log_file(tmp_path, relative) is None
    assert log_file(tmp_path, "t/t.log") == tmp_path / "t/t.log"


def test_an_earlier_attempt_is_where_it_was_moved() -> None:
    assert current_path("t/t.log", RANK, 1) == "t/t.log"
    assert current_path("t/t.log", RANK, 2) == "t/t.attempt-1.log"


@given(text=st.binary(max_size=60), count=st.integers(0, 8))
def test_the_last_lines_are_the_last_lines(
    text: bytes, count: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = text.replace(b"\x00", b"\n")
    path = tmp_path_factory.mktemp("tail") / "log"
    path.write_bytes(text)
    cursor = Cursor(RankLog(RANK, path, position=len(text)))
    cursor.seek_to_last_lines(count)
    lines = text.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    expected = len(lines) - count
    start = sum(len(line) + 1 for line in lines[: max(expected, 0)])
    assert cursor.offset == min(start, len(text))
    cursor.close()


def test_a_cursor_may_take_a_chunk_or_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"0123456789")
    cursor = Cursor(RankLog(RANK, path, position=10))
    first = cursor.take(0, memoryview(b"012"))
    assert first is not None
    assert bytes(first) == b"012"
    assert cursor.take(5, memoryview(b"56")) is None, "it has not seen 3 and 4"
    piece = cursor.read(4)
    assert piece is not None
    assert (piece.offset, piece.data) == (3, b"3456")
    overlap = cursor.take(5, memoryview(b"56789"))
    assert overlap is not None
    assert bytes(overlap) == b"789"
    assert cursor.is_at_end


def test_slow_readers_of_one_log_count_its_lines_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    lines = [b"%07d\n" % number for number in range(5 * SKIP_BEYOND_BYTES // 8)]
    path.write_bytes(b"".join(lines))
    log = RankLog(RANK, path, position=path.stat().st_size)
    read: list[int] = []

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        read.append(size)
        return PREAD(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    for begin in (0, 8, 3 * COUNT_BYTES + 80):
        read.clear()
        cursor = Cursor(log, offset=begin, may_skip=True)
        pieces = list(iter(functools.partial(cursor.read, 64 * 1024), None))
        skipped = sum(piece.skipped_lines for piece in pieces if piece is not None)
        shown = b"".join(piece.data for piece in pieces if piece is not None)
        assert begin // 8 + skipped + len(shown) // 8 == len(lines)
        assert (sum(read) < 4 * BLOCK_BYTES) == (begin > 0), sum(read)


def test_what_a_reader_skips_costs_no_more_with_many_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers that begin before, within and after what is counted get the same numbers of lines."""
    path = tmp_path / "log"
    lines = 3 * SKIP_BEYOND_BYTES // 8
    path.write_bytes(b"".join(b"%07d\n" % number for number in range(lines)))
    log = RankLog(RANK, path, position=path.stat().st_size)
    counts: list[int] = []
    count = Cursor._count

    def counted(self: Cursor, offset: int, size: int) -> int | None:
        counts.append(offset)
        return count(self, offset, size)

    monkeypatch.setattr(Cursor, "_count", counted)
    for begin in (SKIP_BEYOND_BYTES + 16, 0, *(BLOCK_BYTES * number for number in range(20))):
        cursor = Cursor(log, offset=begin, may_skip=True)
        skipped = 0
        while not cursor.is_at_end:
            piece = cursor.read(64 * 1024)
            assert piece is not None
            skipped += piece.skipped_lines + len(piece.data) // 8
        assert skipped == lines - begin // 8
    blocks = path.stat().st_size // BLOCK_BYTES
    own = SKIP_BEYOND_BYTES // BLOCK_BYTES + 1
    assert len(counts) <= blocks + 20 * own


def test_a_line_index_forgets_what_is_far_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sflow_ctl.runtime.logs.line_index.MAX_BLOCKS", 8)
    index = LineIndex()
    index.begin_at(5)
    for lines in range(20):
        index.add(lines)
    assert (index.end, index.first > 15) == (25, True)
    assert index.between(22, 25) == 17 + 18 + 19
    index.begin_at(23)
    assert index.end == 25
    index.begin_at(30)
    assert (index.first, index.end) == (30, 30)
    index.begin_at(2)
    assert (index.first, index.end) == (2, 2)


def test_a_slow_reader_learns_how_many_lines_it_missed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = [b"%07d" % number + b"x" * 91 + b"\n" for number in range(2 * SKIP_BEYOND_BYTES // 99)]
    path.write_bytes(b"".join(lines))
    cursor = Cursor(RankLog(RANK, path, position=path.stat().st_size), may_skip=True)
    shown, skipped = b"", 0
    while (piece := cursor.read(64 * 1024)) is not None:
        shown += piece.data
        skipped += piece.skipped_lines
    assert skipped > 0
    assert shown == b"".join(lines[skipped:])
    assert len(shown) <= 2 * KEEP_BYTES
