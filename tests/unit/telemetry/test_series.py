"""Columns, blocks and files of telemetry, and what reports compute from series."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.ids import AttemptId
from protocol.telemetry.block import Block, blocks_in, frame, make_block, make_part
from protocol.telemetry.columns import Column, packed, unpacked
from sflow_ctl.report.telemetry.series import (
    Series,
    counted_between,
    last_rate,
    peak_between,
    rates,
    thinned,
)
from sflow_ctl.runtime.telemetry.files import TAIL, WHOLE, folder, node_file
from sflow_ctl.runtime.telemetry.reader import read_newest, read_telemetry

VALUES = st.lists(st.none() | st.integers(-(2**61), 2**61), max_size=40)


@given(VALUES)
def test_a_column_comes_back_as_it_was(values: list[int | None]) -> None:
    column = packed("x", values)
    if all(value is None for value in values):
        assert column is None
    else:
        assert column is not None
        assert unpacked(column, len(values)) == values


def test_small_steps_take_a_byte_each() -> None:
    column = packed("cpu_ms", [100, 110, 120, 120])
    assert column == Column("cpu_ms", "b", bytes([100, 10, 10, 0]))


def test_values_beyond_64_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        packed("x", [2**64])


@pytest.mark.parametrize(
    "column",
    [
        Column("x", "z", b"\0"),
        Column("x", "b", b"\0\0"),
        Column("x", "b", b"\0", known=b"\3"),
        Column("x", "b", b"\0", known=b"\x80"),
        Column("x", "h", b"\0"),
    ],
)
def test_a_column_of_another_maker_is_an_error(column: Column) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpacked(column, 1)


def _block(times: list[int], cpu: list[int | None], first: int = 0, name: str = "a#1") -> Block:
    return make_block(times, [make_part("task", name, first, {"cpu_ms": cpu})])


def test_reading_ends_before_a_damaged_frame() -> None:
    one, two = frame(_block([1000], [5])), frame(_block([2000], [6]))
    assert len(list(blocks_in(one + two))) == 2
    assert len(list(blocks_in(one + two[:-1]))) == 1
    damaged = bytearray(two)
    damaged[-1] ^= 1
    assert len(list(blocks_in(one + damaged))) == 1
    assert list(blocks_in(b"\xff" * 20)) == []


def _write(run: Path, whole: list[Block], tail: list[Block]) -> None:
    folder(run).mkdir(parents=True, exist_ok=True)
    stem = node_file(run, 3, "n/03").stem
    Path(f"{stem}{WHOLE}").write_bytes(b"".join(map(frame, whole)))
    Path(f"{stem}{TAIL}").write_bytes(b"".join(map(frame, tail)))


def test_rows_of_the_tail_that_the_last_block_has_count_once(tmp_path: Path) -> None:
    whole = [_block([1000, 2000], [10, 20]), _block([3000, 4000], [30], first=1)]
    _write(tmp_path, whole, [_block([4000], [30]), _block([5000], [50]), _block([6000], [9], name="b#1")])
    one, other = read_telemetry(tmp_path).series
    assert (one.node, one.node_name, one.kind) == (3, "n_03", "task")
    assert one.attempt == AttemptId("a", 1)
    assert (one.times_ms, one.columns) == ([1000, 2000, 4000, 5000], {"cpu_ms": [10, 20, 30, 50]})
    assert other.points("cpu_ms") == [(6000, 9)]
    newest = read_newest(tmp_path)
    assert [series.name for series in newest.tasks()] == ["a#1", "b#1"]
    assert newest.of_task("a")[0].last("cpu_ms") == 50
    assert newest.of_task("a", 2) == []


def test_a_part_of_the_time_is_read_alone(tmp_path: Path) -> None:
    _write(tmp_path, [_block([1000, 2000, 3000], [10, 20, 30])], [])
    (one,) = read_telemetry(tmp_path, begin_ms=1500, end_ms=2500).series
    assert one.points("cpu_ms") == [(2000, 20)]


def test_columns_that_begin_or_end_later_have_gaps(tmp_path: Path) -> None:
    late = make_block([2000], [make_part("gpu", "GPU-1", 0, {"power_mw": [7]}, {"index": "2"})])
    early = make_block([1000], [make_part("gpu", "GPU-1", 0, {"percent": [9]}, {"index": "2"})])
    _write(tmp_path, [early, late], [])
    (gpu,) = read_telemetry(tmp_path).gpus()
    assert gpu.columns == {"percent": [9, None], "power_mw": [None, 7]}
    assert (gpu.attempt, gpu.last("percent"), gpu.peak("power_mw")) == (None, 9, 7)


def test_no_files_are_no_series(tmp_path: Path) -> None:
    assert read_telemetry(tmp_path).series == ()
    _write(tmp_path, [], [])
    (folder(tmp_path) / "notes.txt").write_text("x")
    assert read_newest(tmp_path).series == ()


def _series(times: list[int], cpu: list[int | None]) -> Series:
    return Series(
        0,
        "n",
        "task",
        "a#1",
        {},
        times,
        columns={"cpu_ms": cpu, "rss_kib": cpu, "gpus": [5] * len(times)},
    )


def test_rates_are_per_second_and_never_negative() -> None:
    one = _series([0, 1000, 3000, 4000], [0, 500, 2500, 100])
    assert rates(one, "cpu_ms") == [(1000, 500.0), (3000, 1000.0), (4000, 0.0)]
    assert last_rate(one, "cpu_ms") == 0.0
    assert last_rate(_series([0], [1]), "cpu_ms") is None


def test_a_counter_is_interpolated_within_a_window() -> None:
    one = _series([0, 1000, 2000], [0, 1000, 1000])
    assert counted_between(one, "cpu_ms", 500, 1500) == 500.0
    assert counted_between(one, "cpu_ms", -5000, 5000) == 1000.0
    assert counted_between(one, "cpu_ms", 3000, 4000) is None
    assert counted_between(one, "energy_mj", 0, 1000) is None


def test_values_of_a_window_shorter_than_the_interval_are_those_of_the_next_row() -> None:
    one = _series([0, 1000, 2000], [10, 30, 20])
    assert peak_between(one, "rss_kib", 900, 2100) == 30
    assert peak_between(one, "rss_kib", 1100, 1200) == 20
    assert peak_between(one, "pss_kib", 0, 9000) is None


def test_a_thinned_series_keeps_counters_and_peaks() -> None:
    one = thinned(_series([0, 500, 1000, 1500], [1, 3, 2, None]), 1000)
    assert one.times_ms == [500, 1500]
    assert one.columns == {"cpu_ms": [3, 2], "rss_kib": [3, 2], "gpus": [5, 5]}
    assert one.held_gpus() == (0, 2)
    assert thinned(one, 0) is one


def test_gpus_of_a_series_without_any_are_none() -> None:
    assert Series(0, "n", "task", "a#1", {}).held_gpus() == ()
