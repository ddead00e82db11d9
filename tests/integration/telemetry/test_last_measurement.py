"""What a node's telemetry still sends when the agent ends at once: marks of short tasks, a measurement that is under way."""

import resource
import threading
import time
from pathlib import Path

import pytest

from protocol.messages.telemetry import MarkedWindow
from protocol.telemetry.block import blocks_in
from sflow_agent.processes.spawn import marks_path
from sflow_agent.telemetry import telemetry as telemetry_module
from sflow_agent.telemetry.meter import Measurement, Meter, Order
from tests.integration.telemetry.test_gpu_telemetry import RANK, Node, process
from tests.support import wait_until

WINDOW = MarkedWindow(rank=RANK, name="load", begin_ms=1000, end_ms=2000)


def mark(node: Node) -> None:
    path = Path(marks_path(node.telemetry._sources.log_path("train/train.log"), RANK))
    path.parent.mkdir(exist_ok=True)
    path.write_text("1000000000 begin load\n2000000000 end load\n")


def windows(node: Node) -> list[MarkedWindow]:
    return [window for message in node.sent for window in message.windows]


def exit_of(node: Node) -> None:
    """End the rank's main process as the agent notes it."""
    node.mains.clear()
    node.telemetry.use_of(RANK, resource.getrusage(resource.RUSAGE_SELF))


def test_marks_of_a_task_that_ends_before_the_first_measurement_are_kept(tmp_path: Path) -> None:
    node = Node(tmp_path, 1, ())
    mark(node)
    exit_of(node)
    node.telemetry.finish()
    assert windows(node) == [WINDOW]


def test_marks_of_a_task_that_lives_between_two_measurements_are_sent_meanwhile(tmp_path: Path) -> None:
    node = Node(tmp_path, 1, ())
    mark(node)
    exit_of(node)
    node.run_until(lambda: windows(node), "the window")
    node.telemetry.finish()
    assert windows(node) == [WINDOW]


def test_a_short_task_without_marks_costs_no_measurement(tmp_path: Path) -> None:
    node = Node(tmp_path, 1, ())
    exit_of(node)
    node.telemetry.finish()
    assert node.telemetry._meter is None
    assert node.sent == []


class _Held:
    """A meter whose second measurement waits for `go`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.is_under_way = threading.Event(), threading.Event()
        measured, count = Meter.measure, 0

        def measure(meter: Meter, order: Order) -> Measurement:
            nonlocal count
            count += 1
            if count == 2:
                self.is_under_way.set()
                assert self.go.wait(60)
            return measured(meter, order)

        monkeypatch.setattr(Meter, "measure", measure)


def test_a_measurement_that_is_under_way_is_sent_and_so_is_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = _Held(monkeypatch)
    with process() as pid:
        node = Node(tmp_path, pid, ())
        node.run_until(held.is_under_way.is_set, "a measurement under way")
        mark(node)
        threading.Timer(0.1, held.go.set).start()
        monkeypatch.setattr(telemetry_module, "LAST_WITHIN_S", 60.0)
        node.telemetry.finish()
        assert windows(node) == [WINDOW]
        whole = [block for one in node.sent if one.is_whole for block in blocks_in(one.frames)]
        assert sum(len(block.times_ms()) for block in whole) == 3
        count = len(node.sent)
        wait_until(lambda: not _work_is_left(node), "the thread", 30)
        assert len(node.sent) == count, "none is sent twice"


def _work_is_left(node: Node) -> bool:
    node.descriptors.poll(time.monotonic())
    return bool(node.telemetry._workers._waiting)


def test_a_measurement_that_hangs_delays_the_end_by_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = _Held(monkeypatch)
    monkeypatch.setattr(telemetry_module, "LAST_WITHIN_S", 0.1)
    with process() as pid:
        node = Node(tmp_path, pid, ())
        node.run_until(held.is_under_way.is_set, "a measurement under way")
        node.telemetry.finish()
        assert not held.go.is_set()
        held.go.set()
