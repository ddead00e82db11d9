"""Rows, blocks and messages: what is sent when, and how large a day is."""

import random
from pathlib import Path

import pytest

from protocol.ids import AttemptId, RankId
from protocol.messages.monitor import Mark, RankWindow
from protocol.messages.telemetry import MarkedWindow
from protocol.telemetry.block import GPU_COLUMNS, TASK_COLUMNS, Block, blocks_in
from protocol.telemetry.columns import unpacked
from sflow_agent.telemetry.log_windows import watches
from sflow_agent.telemetry.marks import MAX_WINDOWS, MarkedRank
from sflow_agent.telemetry.outbox import MAX_IN_FLIGHT, MAX_WAITING, Outbox
from sflow_agent.telemetry.rows import WHOLE_ROWS, Key, Rows, Values

RANK = RankId(AttemptId("a", 1), 0)
TASK: Key = ("task", "a#1")


def series(content: bytes) -> dict[str, dict[str, list[int | None]]]:
    (block,) = blocks_in(content)
    return {
        part.name: {column.name: unpacked(column, part.rows) for column in part.columns}
        for part in block.series
    }


def test_newest_rows_are_returned_once_and_the_whole_block_has_all() -> None:
    rows = Rows()
    rows.add(1000, {TASK: {"cpu_ms": 1, "pss_kib": None}})
    assert series(rows.newest()) == {"a#1": {"cpu_ms": [1]}}
    assert rows.newest() == b""
    rows.add(2000, {TASK: {"cpu_ms": 2, "pss_kib": 9}, ("task", "b#1"): {"cpu_ms": 5}})
    rows.add(3000, {("task", "b#1"): {"cpu_ms": 6}})
    newest, whole = rows.newest(), rows.whole()
    assert series(newest) == {"a#1": {"cpu_ms": [2], "pss_kib": [9]}, "b#1": {"cpu_ms": [5, 6]}}
    assert series(whole) == {"a#1": {"cpu_ms": [1, 2], "pss_kib": [None, 9]}, "b#1": {"cpu_ms": [5, 6]}}
    (block,) = blocks_in(whole)
    assert block.times_ms() == [1000, 2000, 3000]
    assert [(part.first, part.rows) for part in block.series] == [(0, 2), (1, 2)]
    assert rows.whole() == b""


def test_a_series_with_a_gap_keeps_its_rows_in_place() -> None:
    rows = Rows()
    for at in range(4):
        rows.add(at, {TASK: {"cpu_ms": at}} if at != 2 else {("node", "n"): {"cost_us": 1}})
    assert series(rows.whole())["a#1"] == {"cpu_ms": [0, 1, None, 3]}


def test_times_grow_although_the_clock_is_set_back() -> None:
    rows = Rows()
    for at in (5000, 1000, 6000):
        rows.add(at, {TASK: {"cpu_ms": 1}})
    (block,) = blocks_in(rows.whole())
    assert block.times_ms() == [5000, 5001, 6000]


def test_labels_of_a_gpu_are_in_each_block() -> None:
    rows = Rows()
    gpu: Key = ("gpu", "GPU-1")
    for _ in range(2):
        rows.add(1, {gpu: {"percent": 1}}, {gpu: {"index": "0"}})
        (block,) = blocks_in(rows.whole())
        assert block.series[0].labels == {"index": "0"}


def test_few_messages_are_on_their_way_and_the_oldest_blocks_are_dropped() -> None:
    box = Outbox()
    for number in range(MAX_IN_FLIGHT):
        box.add_whole(bytes([number]))
    sent = box.take()
    assert [one.number for one in sent] == [1, 2, 3, 4]
    assert not box.is_free
    for number in range(MAX_WAITING + 3):
        box.add_whole(bytes([number]))
    assert box.take() == []
    assert box.dropped == 3
    box.note_taken(3)
    assert [(one.number, one.frames, one.dropped) for one in box.take()] == [
        (5, b"\3", 3), (6, b"\4", 3), (7, b"\5", 3),
    ]  # fmt: skip
    box.note_taken(99)
    assert box.taken == 7
    assert len(box.take(is_last=True)) == MAX_WAITING - 3


def test_windows_travel_with_the_next_message_or_alone() -> None:
    box, window = Outbox(), MarkedWindow(rank=RANK, name="w", begin_ms=1, end_ms=2)
    box.add_windows([window])
    (message,) = box.take(b"rows")
    assert (message.frames, message.windows, message.is_whole) == (b"rows", (window,), False)
    box.add_windows([window])
    assert [one.windows for one in box.take()] == [(window,)]
    assert box.take() == []


# ---------------------------------------------------------------------- marks


def test_marks_begin_and_end_windows_in_whatever_pieces_they_come() -> None:
    marked = MarkedRank(RANK, "")
    assert marked.feed(b"1000000000 begin warm up\n2000000000 be") == []
    (first,) = marked.feed(b"gin b\n3000000000 end warm up\n")
    assert first == MarkedWindow(rank=RANK, name="warm up", begin_ms=1000, end_ms=3000)
    (again,) = marked.feed(b"4000000000 begin b\n")
    assert (again.name, again.begin_ms, again.end_ms) == ("b", 2000, 4000)
    (left,) = marked.end()
    assert left == MarkedWindow(rank=RANK, name="b", begin_ms=4000)
    assert marked.problem == ""


@pytest.mark.parametrize(
    "line", [b"now begin x", b"12 start x", b"12 begin", b"\xff", b"", b"9" * 30 + b" end x"]
)
def test_a_wrong_line_is_named(line: bytes) -> None:
    marked = MarkedRank(RANK, "")
    assert marked.feed(line + b"\n5000000 end never-begun\n") == []
    assert "is not `<ns since 1970> begin|end NAME`" in marked.problem


def test_a_task_that_marks_without_end_is_limited() -> None:
    marked = MarkedRank(RANK, "")
    found = marked.feed(b"".join(b"%d begin x\n" % (n * 10**6) for n in range(MAX_WINDOWS + 5)))
    assert len(found) == MAX_WINDOWS
    assert "only its first 1000 windows are kept" in marked.problem


def test_lines_of_a_log_make_windows_with_names() -> None:
    from protocol.messages.checks import LogPattern
    from protocol.messages.monitor import LogWindow, MarkPatterns

    found: list[MarkedWindow] = []
    side = MarkPatterns(patterns=(LogPattern(pattern="x"),))
    (watch,) = watches((LogWindow(tasks=("a",), start=side, end=side, name="w"),), found.append, print)
    mark = Mark(at_ms=5, offset=0, line="x")
    for start, end in ((mark, mark), (mark, None), (None, None)):
        watch._found(RankWindow(rank=RANK, log="", start=start, end=end))
    assert found == [
        MarkedWindow(rank=RANK, name="w", begin_ms=5, end_ms=5),
        MarkedWindow(rank=RANK, name="w", begin_ms=5),
    ]


# ---------------------------------------------------------------------- size


def test_a_day_of_50_busy_tasks_and_8_gpus_is_below_50_mb() -> None:
    """Every value changes at each measurement, as no real day has it; 5 minutes stand for a day."""
    chance, minutes = random.Random(1), 5
    state: dict[Key, dict[str, int]] = {
        **{("task", f"task_{number}#1"): dict.fromkeys(TASK_COLUMNS, 10_000) for number in range(50)},
        **{("gpu", f"GPU-{number:036}"): dict.fromkeys(GPU_COLUMNS, 500) for number in range(8)},
    }
    rows, size = Rows(), 0
    for at in range(minutes * WHOLE_ROWS):
        values: dict[Key, Values] = {}
        for key, columns in state.items():
            for name in columns:
                columns[name] = _next(name, columns[name], chance)
            sampled = dict(columns)
            values[key] = {**sampled, "pss_kib": None, "descriptors": None} if at % 30 else sampled
        rows.add(at * 1000 + chance.randrange(3), values)
        if rows.is_full:
            size += len(rows.whole())
    assert size * 24 * 60 / minutes < 50e6


def _next(name: str, value: int, chance: random.Random) -> int:
    if name in ("cpu_ms", "gpu_busy_ms"):
        return value + 10 * chance.randrange(90, 100)
    if name == "energy_mj":
        return value + chance.randrange(600_000, 700_000)
    if name in ("read_kib", "written_kib", "nvlink_rx_kib", "nvlink_tx_kib"):
        return value + chance.randrange(200)
    if name in ("rss_kib", "memory_mib", "sm_mhz", "percent", "power_mw", "memory_percent"):
        return max(0, value + chance.randrange(-20, 21))
    if name in ("threads", "temperature_c"):
        return max(0, value + (chance.random() < 0.1))
    return value


def test_the_last_block_of_damaged_bytes_is_left_out() -> None:
    rows = Rows()
    rows.add(1, {TASK: {"cpu_ms": 1}})
    whole = rows.whole()
    found: list[Block] = list(blocks_in(whole + whole[:10]))
    assert len(found) == 1


def test_the_end_reads_all_marks_and_a_last_line_without_an_end(tmp_path: Path) -> None:
    file = tmp_path / "marks"
    note = "x" * 1000
    lines = [f"{number}000000 {kind} {note}" for number in range(200) for kind in ("begin", "end")]
    file.write_text("\n".join(lines))  # more than one read
    marked = MarkedRank(RANK, str(file))
    found = marked.end()
    assert len(found) == 200
    assert found[-1].end_ms == 199
    assert marked.problem == ""
