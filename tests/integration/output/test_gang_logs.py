"""The merged log of a task with several processes, when bytes come late: each line in the log of its attempt, once."""

import errno
import os
from pathlib import Path

import pytest

from protocol.ids import AttemptId, RankId
from sflow_ctl.runtime.logs.consumers.gang import GangLogs
from sflow_ctl.runtime.logs.late_lines import add_late_lines, rank_prefix
from sflow_ctl.runtime.logs.store import RankLog

NOW = 1.0


class Gang:
    """Two ranks of task `t`, merged as the intake of logs does it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "t"
        self.directory.mkdir()
        self.notes: list[str] = []
        self.logs = GangLogs(directory, {"t": 2}, self.notes.append)

    def log(self, attempt: int, rank: int, name: str = "", position: int = 0) -> RankLog:
        """Open the log of a rank; `name` is that of its file."""
        path = self.directory / (name or f"t.rank-{rank}.log")
        made = RankLog(RankId(AttemptId("t", attempt), rank), path, position=position)
        self.logs.open(made, position)
        return made

    def write(self, log: RankLog, data: bytes, *, is_end: bool = False) -> None:
        """Take a chunk."""
        offset = log.position
        with log.path.open("ab") as file:
            file.write(data)
        log.position += len(data)
        if is_end:
            log.final_bytes = log.position
        self.logs.offer(log, offset, memoryview(data), NOW)
        self.logs.work(NOW, 1_000_000)

    def merged(self, attempt: int | None = None) -> bytes:
        name = "t.log" if attempt is None else f"t.attempt-{attempt}.log"
        return (self.directory / name).read_bytes()


def test_lines_of_an_earlier_attempt_do_not_reach_the_log_of_the_next(tmp_path: Path) -> None:
    """Its node was silent, the task runs elsewhere, and then the node is back."""
    gang = Gang(tmp_path)
    first = gang.log(1, 0)
    gang.write(first, b"one\n")
    first.path = first.path.rename(gang.directory / "t.attempt-1.rank-0.log")
    second = gang.log(2, 0)
    gang.write(second, b"again\n")
    gang.write(first, b"late\n", is_end=True)
    other = gang.log(1, 1, "t.attempt-1.rank-1.log")
    gang.write(other, b"later still\n", is_end=True)
    assert gang.merged() == b"0: again\n"
    assert gang.merged(1) == b"0: one\n0: late\n1: later still\n"
    gang.logs.close()
    assert not gang.notes


def test_bytes_after_the_end_of_a_log_are_merged_too(tmp_path: Path) -> None:
    """The rank was given up with its node, and its agent hands the rest over when the node is back."""
    gang = Gang(tmp_path)
    log, other = gang.log(1, 0), gang.log(1, 1)
    gang.write(log, b"a\nhal", is_end=True)
    gang.write(other, b"x\n")
    gang.logs.forget(log)
    late = gang.log(1, 0, position=log.position)
    assert not gang.logs.has_all(late)
    gang.write(late, b"f\n")
    assert gang.merged() == b"0: a\n0: hal\n1: x\n"
    assert gang.logs.wake_at(NOW) is None
    gang.write(late, b"b\n", is_end=True)
    assert gang.logs.has_all(late)
    assert gang.merged() == b"0: a\n0: half\n1: x\n0: b\n"
    gang.write(other, b"y\n", is_end=True)
    assert gang.merged().endswith(b"0: b\n1: y\n")
    gang.logs.forget(other)
    gang.logs.close()


def test_what_has_come_late_is_merged_at_the_end_of_the_run_at_the_latest(tmp_path: Path) -> None:
    gang = Gang(tmp_path)
    log = gang.log(1, 1)
    gang.write(log, b"a\n", is_end=True)
    gang.logs.forget(log)
    late = gang.log(1, 1, position=log.position)
    gang.write(late, b"b\nc")
    gang.logs.close()
    assert gang.merged() == b"1: a\n1: b\n1: c\n"


def test_a_merged_log_that_has_everything_stays_as_it_is(tmp_path: Path) -> None:
    rank, merged = tmp_path / "rank", tmp_path / "merged"
    rank.write_bytes(b"a\nb")
    assert add_late_lines(merged, rank, rank_prefix(3, 12)) == 2
    before = merged.stat()
    assert merged.read_bytes() == b"03: a\n03: b\n"
    assert add_late_lines(merged, rank, rank_prefix(3, 12)) == 0
    after = merged.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_a_line_that_a_full_disk_has_cut_is_continued_before_another_rank_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by chaos: the disk took half of a line, and the next rank's lines came in its middle."""
    gang = Gang(tmp_path)
    first, second = gang.log(1, 0), gang.log(1, 1)
    gang.write(first, b"one\n")
    room, write = [5], os.write

    def limited(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(descriptor, data[: room[0]])
        room[0] -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", limited)
        gang.write(first, b"two\nthree\n")
        room[0] = 1_000_000
        gang.write(second, b"other\n", is_end=True)
        assert gang.merged() == b"0: one\n0: tw", "the first rank's line is not whole"
        gang.write(first, b"", is_end=True)
        gang.logs.work(NOW + 1.0, 1_000_000)
        gang.logs.work(NOW + 2.0, 1_000_000)
    assert gang.merged() == b"0: one\n0: two\n0: three\n1: other\n"
    assert gang.notes == ["cannot write the merged log of t: No space left on device"]
