"""The controller's side of logs that agents of earlier controllers had left."""

from pathlib import Path

from protocol.ids import AttemptId, RankId
from protocol.messages.packets import LogChunk
from sflow_ctl.plan.log_paths import log_path, rank_log_path
from sflow_ctl.runtime.logs.earlier_logs import EarlierLogs


def rank(attempt: int, number: int = 0) -> RankId:
    return RankId(AttemptId("t", attempt), number)


def logs(directory: Path, notes: list[str], *, is_gang: bool = False) -> EarlierLogs:
    def path_of(one: RankId) -> str:
        return rank_log_path("t", one.rank) if is_gang else log_path("t")

    made = EarlierLogs(directory, {"t": 2}, path_of, {"t": 2} if is_gang else {})
    made.note = notes.append
    return made


def take(earlier: EarlierLogs, one: RankId, offset: int, data: bytes, *, is_end: bool = False) -> int | None:
    chunk = LogChunk(rank=one, offset=offset, is_spool=True, is_end=is_end)
    return earlier.take(chunk, memoryview(data))


def test_r7_only_what_is_new_is_written_and_only_of_earlier_attempts(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t/t.log").write_bytes(b"abc")
    notes: list[str] = []
    earlier = logs(tmp_path, notes)
    assert [earlier.owns(rank(number)) for number in (0, 1, 2, 3)] == [False, True, True, False]
    assert not earlier.owns(RankId(AttemptId("other", 1), 0))
    assert take(earlier, rank(2), 5, b"f") == 3, "a hole: again from where it is"
    assert take(earlier, rank(2), 0, b"abcde") == 5
    assert take(earlier, rank(2), 0, b"abcde") == 5
    assert take(earlier, rank(2), 5, b"f", is_end=True) == 6
    assert (tmp_path / "t/t.log").read_bytes() == b"abcdef"
    assert notes == ["3 bytes of t/t.log had not arrived before the run was resumed; they are there now"]


def test_r7_a_log_is_found_where_the_next_attempt_has_moved_it(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t/t.log").write_bytes(b"abc")
    earlier = logs(tmp_path, [])
    assert take(earlier, rank(2), 3, b"d") == 4
    (tmp_path / "t/t.log").rename(tmp_path / "t/t.attempt-2.log")
    (tmp_path / "t/t.log").write_bytes(b"of the third")
    assert take(earlier, rank(2), 4, b"e", is_end=True) == 5
    again = logs(tmp_path, [])
    assert take(again, rank(2), 5, b"f") == 6
    assert take(again, rank(1), 0, b"first") == 5
    assert (tmp_path / "t/t.attempt-2.log").read_bytes() == b"abcdef"
    assert (tmp_path / "t/t.attempt-1.log").read_bytes() == b"first"
    assert (tmp_path / "t/t.log").read_bytes() == b"of the third"


def test_r7_processes_of_a_gang_have_logs_of_their_own(tmp_path: Path) -> None:
    earlier = logs(tmp_path, [], is_gang=True)
    assert take(earlier, rank(2, 1), 0, b"one") == 3
    assert take(earlier, rank(1, 1), 0, b"old") == 3
    assert (tmp_path / "t/t.rank-1.log").read_bytes() == b"one"
    assert (tmp_path / "t/t.attempt-1.rank-1.log").read_bytes() == b"old"


def test_r7_a_disk_that_refuses_is_said_once_and_nothing_is_acknowledged(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("a file in the way")
    notes: list[str] = []
    earlier = logs(tmp_path, notes)
    assert take(earlier, rank(2), 0, b"x") is None
    assert take(earlier, rank(2), 0, b"x") is None
    assert len(notes) == 1


def test_r7_the_merged_log_of_a_gang_gets_the_late_lines(tmp_path: Path) -> None:
    """A line that was cut is completed where it is; further ones follow."""
    (tmp_path / "t").mkdir()
    (tmp_path / "t/t.rank-0.log").write_bytes(b"a\nb\n")
    (tmp_path / "t/t.rank-1.log").write_bytes(b"x\nhal")
    (tmp_path / "t/t.log").write_bytes(b"0: a\n1: x\n1: hal\n0: b\n")
    earlier = logs(tmp_path, [], is_gang=True)
    assert take(earlier, rank(2, 1), 5, b"f\ny\nz", is_end=True) == 10
    assert (tmp_path / "t/t.log").read_bytes() == b"0: a\n1: x\n1: half\n0: b\n1: y\n1: z\n"
    assert take(earlier, rank(1, 0), 0, b"first\n", is_end=True) == 6
    assert (tmp_path / "t/t.attempt-1.log").read_bytes() == b"0: first\n"
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == [
        "t.attempt-1.log", "t.attempt-1.rank-0.log", "t.log", "t.rank-0.log", "t.rank-1.log"
    ]  # fmt: skip
