"""What is said of series: windows, OpenMetrics; and files that are made smaller."""

from pathlib import Path

import pytest

from protocol.ids import AttemptId, RankId
from protocol.messages.telemetry import MarkedWindow
from protocol.telemetry.block import frame, make_block, make_part
from sflow_ctl.report.telemetry.openmetrics import openmetrics_text
from sflow_ctl.report.telemetry.series import Series, Telemetry
from sflow_ctl.report.telemetry.use import WindowUse
from sflow_ctl.report.telemetry.windows import window_uses
from sflow_ctl.runtime.telemetry.files import WHOLE, folder, node_file
from sflow_ctl.runtime.telemetry.reader import read_telemetry
from sflow_ctl.runtime.telemetry.thinning import thinned_file

RANK = RankId(AttemptId("a", 2), 1)


def _series(node: int, name: str = "a#2", kind: str = "task", **columns: list[int | None]) -> Series:
    times = [1000, 2000, 3000]
    return Series(node, f"n{node}", kind, name, {"index": "4"}, times, columns=columns)  # type: ignore[arg-type]


def test_a_window_adds_up_the_nodes_of_its_attempt() -> None:
    telemetry = Telemetry(
        (
            _series(
                0,
                cpu_ms=[1000, 2000, 3000],
                rss_kib=[1, 8, 2],
                energy_mj=[0, 5000, 9000],
                gpus=[3, 3, 3],
                gpu_busy_ms=[0, 1000, 2000],
            ),
            _series(1, cpu_ms=[0, 500, 1000], rss_kib=[4, 4, 4]),
            _series(0, "a#1", cpu_ms=[9, 9, 9]),
        )
    )
    window = MarkedWindow(rank=RANK, name="w", begin_ms=1500, end_ms=2500)
    assert window_uses([window], telemetry) == {
        "a": [
            WindowUse(
                name="w", attempt=2, rank=1, begin_ms=1500, end_ms=2500, duration_s=1.0, cpu_s=1.5,
                max_rss_bytes=12 * 1024, gpu_busy_s=1.0, gpu_percent=50.0, gpu_energy_j=4.5,
            )
        ]
    }  # fmt: skip


def test_an_open_window_ends_with_the_last_row_and_an_unmeasured_one_has_no_values() -> None:
    telemetry = Telemetry((_series(0, cpu_ms=[1000, 2000, 3000]),))
    windows = [
        MarkedWindow(rank=RANK, name="late", begin_ms=2000),
        MarkedWindow(rank=RankId(AttemptId("b", 1), 0), name="x", begin_ms=5, end_ms=9),
        MarkedWindow(rank=RANK, name="first", begin_ms=0, end_ms=1000),
    ]
    uses = window_uses(windows, telemetry)
    assert [(one.name, one.is_open, one.end_ms, one.cpu_s) for one in uses["a"]] == [
        ("first", False, 1000, 1.0),
        ("late", True, 3000, 1.0),
    ]
    (unknown,) = uses["b"]
    assert (unknown.cpu_s, unknown.max_rss_bytes, unknown.gpu_percent) == (None, None, None)


def test_openmetrics_has_the_newest_values_with_units_and_labels() -> None:
    text = openmetrics_text(
        [
            _series(0, 'a"b#2', cpu_ms=[0, 1, 1500], rss_kib=[1, 2, None]),
            _series(0, "GPU-7", "gpu", percent=[0, 0, 85]),
            _series(0, "n0", "node", cpu_busy_ms=[5, None, None]),
        ]
    )
    assert text.splitlines() == [
        "# TYPE sflow_task_cpu_seconds counter",
        "# HELP sflow_task_cpu_seconds CPU time of a task's processes",
        'sflow_task_cpu_seconds_total{node="n0",task="a\\"b",attempt="2"} 1.5',
        "# TYPE sflow_task_resident_memory_bytes gauge",
        "# HELP sflow_task_resident_memory_bytes Memory of a task's processes",
        'sflow_task_resident_memory_bytes{node="n0",task="a\\"b",attempt="2"} 2048',
        "# TYPE sflow_gpu_utilization_ratio gauge",
        "# HELP sflow_gpu_utilization_ratio Share of the time in which it computed",
        'sflow_gpu_utilization_ratio{node="n0",gpu="4",uuid="GPU-7"} 0.85',
        "# TYPE sflow_node_cpu_busy_seconds counter",
        "# HELP sflow_node_cpu_busy_seconds Time that all CPUs together were busy",
        'sflow_node_cpu_busy_seconds_total{node="n0"} 0.005',
        "# EOF",
    ]
    assert openmetrics_text([]) == "# EOF\n"


@pytest.fixture
def blocks(tmp_path: Path) -> Path:
    folder(tmp_path).mkdir(parents=True)
    return Path(f"{node_file(tmp_path, 0, 'n').stem}{WHOLE}")


def _block(minute: int) -> bytes:
    times = [(minute * 60 + second) * 1000 for second in range(60)]
    cpu: list[int | None] = [minute * 60 + second for second in range(60)]
    rss: list[int | None] = [second * 7 % 13 for second in range(60)]
    return frame(make_block(times, [make_part("task", "a#1", 0, {"cpu_ms": cpu, "rss_kib": rss})]))


def test_a_file_beyond_its_limit_loses_resolution_from_its_oldest_rows_on(
    tmp_path: Path, blocks: Path
) -> None:
    content = b"".join(_block(minute) for minute in range(100))
    blocks.write_bytes(content)
    assert not thinned_file(blocks, len(content))
    limit = len(content) - 1
    assert thinned_file(blocks, limit)
    assert blocks.stat().st_size < limit
    (one,) = read_telemetry(tmp_path).series
    assert one.last("cpu_ms") == 5999
    assert one.peak("rss_kib") == 12
    assert one.times_ms == sorted(set(one.times_ms))
    steps = [later - earlier for earlier, later in zip(one.times_ms, one.times_ms[1:], strict=False)]
    assert steps[0] == 10_000
    assert steps[-1] == 1000


def test_a_file_that_grows_for_ever_stays_within_its_limit(tmp_path: Path, blocks: Path) -> None:
    limit, largest = 20 * len(_block(0)), 0
    for minute in range(1500):
        with blocks.open("ab") as file:
            file.write(_block(minute))
        thinned_file(blocks, limit)
        largest = max(largest, blocks.stat().st_size)
    assert largest <= limit
    (one,) = read_telemetry(tmp_path).series
    assert one.times_ms == sorted(set(one.times_ms))
    assert one.last("cpu_ms") == 1500 * 60 - 1


def test_a_file_of_something_else_is_emptied(blocks: Path) -> None:
    blocks.write_bytes(b"x" * 1000)
    assert thinned_file(blocks, 10)
    assert blocks.stat().st_size == 0
