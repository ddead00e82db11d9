"""The controller's side of monitors with real files: clocks that are off, messages that come again, peers that send too much."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protocol.ids import AttemptId, RankId
from protocol.messages.facts import Sampled
from protocol.messages.monitor import Mark, RankWindow, Reading
from sflow_ctl.runtime.monitor import recorder as recorder_module
from sflow_ctl.runtime.monitor.recorder import MAX_WAITING, MonitorRecorder
from sflow_ctl.runtime.monitor.reports import MonitorReports
from sflow_ctl.runtime.record import layout
from tests.support import wait_until
from tests.unit.planner.planning import plan_of

WORKFLOW = """backends: {l: {type: local, nodes: 2}}
workflow: {name: w, monitor: {scopes: {cpu: {}}}, tasks: [{name: a, script: [x]}]}
"""
RANK = RankId(AttemptId("a", 1), 0)


@pytest.fixture
def warned() -> list[str]:
    return []


@pytest.fixture
def recorder(tmp_path: Path, warned: list[str]) -> Iterator[MonitorRecorder]:
    (tmp_path / layout.OURS).mkdir()
    made = MonitorRecorder(tmp_path, plan_of(tmp_path, WORKFLOW), warned.append)
    yield made
    if made._thread.is_alive():
        made.close()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def sampled(
    number: int, *, off_ms: int = 0, window: RankWindow | None = None, at_ms: int | None = None
) -> Sampled:
    """A message of a node whose clock is behind by `off_ms`."""
    at = now_ms() - off_ms
    reading = Reading(scope="cpu", at_ms=at if at_ms is None else at_ms, values=(50.0, 1.0, 2.0, 3.0))
    return Sampled(
        number=number, readings=(reading,), windows=(window,) if window else (), sent_at_ms=at, dropped=number
    )


def everyone(_node: int, _rank: RankId) -> bool:
    return True


def stored(recorder: MonitorRecorder, count: int) -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []

    def all_here() -> bool:
        seen.extend(recorder.stored())
        return len(seen) >= count

    wait_until(all_here, "the messages are written")
    return seen


def raw(folder: Path) -> list[str]:
    """The lines of the first node's raw file."""
    (path,) = (folder / "sflow_monitor/raw").glob("cpu_monitor_node_0_*.log")
    return path.read_text().splitlines()


def test_a_message_is_answered_once_it_is_written_and_again_if_it_comes_again(
    recorder: MonitorRecorder, tmp_path: Path
) -> None:
    message = sampled(1)
    recorder.take(0, message, everyone)
    assert stored(recorder, 1) == [(0, 1)]
    assert len(raw(tmp_path)) == 1
    recorder.take(0, message, everyone)
    assert stored(recorder, 1) == [(0, 1)]
    assert len(raw(tmp_path)) == 1


def test_a_clock_that_is_off_is_corrected_in_reports_but_not_in_raw_files(
    recorder: MonitorRecorder, tmp_path: Path, warned: list[str]
) -> None:
    window = RankWindow(rank=RANK, log="x", start=Mark(at_ms=1000, offset=0, line="l"))
    recorder.take(0, sampled(1, off_ms=60_000, window=window), everyone)
    recorder.take(1, sampled(1, off_ms=400), everyone)
    stored(recorder, 2)
    assert 59_000 < recorder.correction_ms(0) < 61_000
    assert recorder.correction_ms(1) == 0
    recorder.close()
    start = recorder.history.windows["a"][1, 0].start
    assert start is not None
    assert 60_000 < start.at_ms < 62_000
    reports = MonitorReports(tmp_path, recorder._plan, recorder, lambda: False)
    reports.write()
    lines = (tmp_path / "sflow_monitor/lifecycle/workflow/timeline.csv").read_text().splitlines()[1:]
    assert {float(line.split(",")[0]) > recorder.history.begin_ms / 1000 - 1 for line in lines} == {True}
    assert float(raw(tmp_path)[0].split(",")[0]) < recorder.history.begin_ms / 1000 - 50
    assert any("1 readings were dropped" in problem for problem in reports.problems)
    assert not warned


def test_a_window_of_another_nodes_rank_does_not_count(recorder: MonitorRecorder) -> None:
    window = RankWindow(rank=RANK, log="x", start=Mark(at_ms=1000, offset=0, line="l"))
    recorder.take(0, sampled(1, window=window), lambda _node, _rank: False)
    recorder.close()
    assert recorder.history.windows == {}


def test_a_peer_that_sends_more_than_it_may_is_refused(
    recorder: MonitorRecorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write = threading.Event()
    append: Callable[..., None] = recorder_module._append

    def late(*arguments: object) -> None:
        may_write.wait(30)
        append(*arguments)

    monkeypatch.setattr(recorder_module, "_append", late)
    for number in range(1, MAX_WAITING + 11):
        recorder.take(0, sampled(number), everyone)
    assert recorder.refused == 10
    may_write.set()
    stored(recorder, MAX_WAITING)
    assert len(raw(tmp_path)) == MAX_WAITING


def test_times_beyond_all_calendars_fail_nothing(recorder: MonitorRecorder, tmp_path: Path) -> None:
    recorder.take(0, sampled(1, at_ms=10**18), everyone)
    recorder.take(0, sampled(2), everyone)
    recorder.close()
    MonitorReports(tmp_path, recorder._plan, recorder, lambda: False).write()
    lines = (tmp_path / "sflow_monitor/lifecycle/workflow/timeline.csv").read_text().splitlines()
    assert len(lines) == 1 + 4


def test_an_end_that_is_hurried_leaves_reports_out_and_says_so(
    recorder: MonitorRecorder, tmp_path: Path
) -> None:
    recorder.take(0, sampled(1), everyone)
    recorder.close()
    reports = MonitorReports(tmp_path, recorder._plan, recorder, lambda: True)
    reports.write()
    assert not (tmp_path / "sflow_monitor/lifecycle/workflow/timeline.csv").exists()
    assert "there was no time left" in (tmp_path / "sflow_monitor.log").read_text()
