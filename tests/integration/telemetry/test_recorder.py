"""The controller's side with real files: agents that start again, messages that come twice, full disks, publishing."""

import os
import socket
import urllib.request
from pathlib import Path

import pytest

from protocol.ids import AttemptId, RankId
from protocol.messages.facts import Measured
from protocol.messages.telemetry import MarkedWindow
from protocol.telemetry.block import frame, make_block, make_part
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.telemetry import recorder as recorder_module
from sflow_ctl.runtime.telemetry.files import folder
from sflow_ctl.runtime.telemetry.reader import read_newest, read_telemetry
from sflow_ctl.runtime.telemetry.recorder import TelemetryRecorder
from sflow_ctl.runtime.telemetry.windows import read_windows, uses_of_windows
from tests.support import wait_until

RANK = RankId(AttemptId("a", 1), 0)


def rows(*at: int) -> bytes:
    values: list[int | None] = list(at)
    return frame(make_block(at, [make_part("task", "a#1", 0, {"cpu_ms": values})]))


def measured(number: int, *at: int, whole: bool = False, agent: int = 1, window: bool = False) -> Measured:
    windows = (MarkedWindow(rank=RANK, name="w", begin_ms=1000, end_ms=3000),) if window else ()
    frames = rows(*at) if at else b""
    return Measured(number=number, agent_incarnation=agent, frames=frames, is_whole=whole, windows=windows)


def everyone(_node: int, _rank: RankId) -> bool:
    return True


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / layout.OURS).mkdir()
    return tmp_path


def record(run: Path, *messages: Measured, is_own: bool = True) -> list[str]:
    warned: list[str] = []
    recorder = TelemetryRecorder(run, [(4, "n4")], warned.append)
    for message in messages:
        recorder.take(0, message, lambda _node, _rank: is_own)
    recorder.close()
    return warned


def cpu(run: Path) -> list[tuple[int, int]]:
    return [point for series in read_telemetry(run).series for point in series.points("cpu_ms")]


def test_a_whole_block_takes_the_place_of_the_rows_before(run: Path) -> None:
    messages = [
        measured(1, 1000),
        measured(2, 2000),
        measured(3, 1000, 2000, 3000, whole=True),
        measured(4, 4000),
    ]
    assert record(run, *messages, messages[3], messages[0]) == []
    assert cpu(run) == [(at, at) for at in (1000, 2000, 3000, 4000)]
    assert {path.name: path.stat().st_mode & 0o777 for path in folder(run).iterdir()} == {
        "4.n4.blocks": 0o600,
        "4.n4.tail": 0o600,
    }
    (newest,) = read_newest(run).series
    assert (newest.node, newest.node_name, newest.times_ms) == (4, "n4", [4000])


def test_rows_of_an_agent_that_was_killed_stay(run: Path) -> None:
    again = [measured(1, 5000, agent=2), measured(2, 5000, 6000, whole=True, agent=2)]
    record(run, measured(1, 1000), measured(2, 2000), *again)
    assert cpu(run) == [(at, at) for at in (1000, 2000, 5000, 6000)]


def test_another_controller_continues_the_files(run: Path) -> None:
    record(run, measured(1, 1000), measured(2, 2000))
    record(run, measured(2, 2000), measured(3, 3000))  # the second was not acknowledged in time
    assert cpu(run) == [(at, at) for at in (1000, 2000, 3000)]


def test_windows_of_ranks_that_the_node_has_are_kept_once(run: Path) -> None:
    record(run, measured(1, 1000, 2000, 3000, window=True), measured(2, window=True))
    assert [one.name for one in read_windows(run)] == ["w"]
    (use,) = uses_of_windows(run)["a"]
    assert use.cpu_s == 2.0
    (folder(run) / "windows.jsonl").write_bytes(b'{"node": 1}\nnot json\n')
    assert uses_of_windows(run) == {}


def test_windows_of_foreign_ranks_are_not_kept(run: Path) -> None:
    record(run, measured(1, 1000, window=True), is_own=False)
    assert read_windows(run) == []


def test_a_directory_that_cannot_be_written_is_named_once(run: Path) -> None:
    (run / layout.TELEMETRY).write_text("in the way")
    assert record(run, measured(1, 1000), measured(2, 2000)) == [
        "measurements cannot be written: File exists"
    ]


def test_too_many_messages_are_dropped_and_counted(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "MAX_WAITING", 0)
    assert record(run, measured(1, 1000)) == [
        "1 messages with measurements were dropped: the disk was too slow"
    ]


def test_a_file_does_not_grow_beyond_its_limit(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "LEAST_BYTES", 20_000)
    monkeypatch.setattr(recorder_module, "MOST_BYTES", 20_000)
    minutes = [
        measured(number, *range(number * 60_000, number * 60_000 + 60_000, 1000), whole=True)
        for number in range(1, 400)
    ]
    record(run, *minutes)
    assert os.stat(folder(run) / "4.n4.blocks").st_size <= 20_000  # noqa: PTH116
    assert cpu(run)[-1] == (399 * 60_000 + 59_000,) * 2


def test_values_are_served_on_the_loopback_until_the_end(run: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    recorder = TelemetryRecorder(run, [(0, "n0")], print, openmetrics=port)
    recorder.take(0, measured(1, 1000), everyone)

    def served() -> str | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
                return str(answer.read().decode())
        except OSError:
            return None

    text = wait_until(served, "the values")
    assert 'sflow_task_cpu_seconds_total{node="n0",task="a",attempt="1"} 1\n' in text
    recorder.close()
    assert served() is None


def test_a_port_that_is_taken_is_a_warning(run: Path) -> None:
    warned: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        recorder = TelemetryRecorder(run, [(0, "n0")], warned.append, openmetrics=taken.getsockname()[1])
        recorder.take(0, measured(1, 1000), everyone)
        recorder.close()
    assert len(warned) == 1
    assert "measurements cannot be published at" in warned[0]
    assert cpu(run) == [(1000, 1000)]
