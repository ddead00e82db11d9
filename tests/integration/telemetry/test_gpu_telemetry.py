"""An agent's telemetry with real processes and threads, a fake driver of GPUs, and files of marks."""

import resource
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pynvml
import pytest

from protocol.ids import AttemptId, RankId
from protocol.messages.facts import Measured
from protocol.messages.node import Gpu
from protocol.messages.rank_spec import RankSpec
from protocol.messages.telemetry import TelemetryOrders
from protocol.telemetry.block import blocks_in
from protocol.telemetry.columns import unpacked
from sflow_agent.core.rank import Rank
from sflow_agent.descriptors import Descriptors
from sflow_agent.node.gpu_driver import GpuDriver
from sflow_agent.telemetry import telemetry as telemetry_module
from sflow_agent.telemetry.marks import MarkedRank
from sflow_agent.telemetry.telemetry import NodeTelemetry, Sources
from sflow_agent.worker import Workers
from tests.unit.agent.fake_nvml import GIB, FakeGpu, FakeNvml, FakeProcess

RANK = RankId(AttemptId("train", 1), 0)
GPUS = tuple(Gpu(index=index, uuid=f"GPU-{index}", name="H100") for index in range(2))
WITHIN_S = 20.0


class Node:
    """A rank that runs, and what its agent's telemetry sends."""

    def __init__(self, tmp_path: Path, pid: int, gpus: tuple[Gpu, ...] = GPUS) -> None:
        self.mains = {pid: RANK}
        self.sent: list[Measured] = []
        self.warned: list[str] = []
        self.descriptors = Descriptors(select.epoll())
        spec = RankSpec(rank=RANK, argv=("x",), env={}, log="train/train.log", gpus=(0,))
        sources = Sources("n0", self, {RANK: Rank(spec)}, lambda log: str(tmp_path / log), gpus, GpuDriver)
        orders = TelemetryOrders(every_ms=50, send_every_ms=100)
        self.telemetry = NodeTelemetry(
            orders, sources, Workers(self.descriptors), self._take, self.warned.append, time.monotonic()
        )

    def step_marks(self) -> dict[int, RankId]:
        return {}

    def _take(self, message: Measured) -> None:
        self.sent.append(message)
        self.telemetry.note_taken(message.number)

    def run_until(self, condition: "object", what: str) -> None:
        """Turn the agent's loop until a condition holds."""
        assert callable(condition)
        deadline = time.monotonic() + WITHIN_S
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {self.sent} {self.warned}"
            select.select([self.descriptors.epoll], [], [], 0.02)
            now = time.monotonic()
            self.descriptors.poll(now)
            self.telemetry.poll(now)

    def values(self, kind: str, column: str) -> list[int | None]:
        """All values that were sent of a column, of the first series of a kind."""
        found: list[int | None] = []
        for message in self.sent:
            for block in () if message.is_whole else blocks_in(message.frames):
                for part in [part for part in block.series if part.kind == kind][:1]:
                    for one in part.columns:
                        found += unpacked(one, part.rows) if one.name == column else []
        return found


@contextmanager
def process() -> Iterator[int]:
    made = subprocess.Popen(["sleep", "60"])
    try:
        yield made.pid
    finally:
        made.kill()
        made.wait()


def test_a_task_has_the_energy_of_its_gpu_and_a_wrong_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with process() as pid:
        nvml = FakeNvml(
            [FakeGpu("GPU-0", percent=90), FakeGpu("GPU-1", processes=[FakeProcess(pid, 3 * GIB)])]
        )
        nvml.install(monkeypatch)
        node = Node(tmp_path, pid)
        node.run_until(lambda: node.warned, "the wrong GPU")
        assert len(node.warned) == 1
        assert node.warned[0].startswith("train#1 computes on GPU 1 (GPU-1); the plan gave it GPU 0 (GPU-0)")
        nvml.gpus[1].energy_mj = 7000
        node.run_until(lambda: 2 in node.values("task", "gpus"), "the GPU that it has")
        node.run_until(
            lambda: max(filter(None, node.values("task", "energy_mj")), default=0) >= 7000, "energy"
        )
        node.run_until(lambda: 3072 in node.values("task", "gpu_memory_mib"), "its memory")
        assert 90 in node.values("gpu", "percent")
        assert node.telemetry._uses[RANK].other_gpus == ("GPU-1",)
        node.telemetry.finish()
        assert node.sent[-1].is_whole
        assert len(node.warned) == 1
        assert nvml.open_sessions == 1


def test_a_driver_that_fails_costs_the_gpus_only_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with process() as pid:
        nvml = FakeNvml([FakeGpu("GPU-0"), FakeGpu("GPU-1")], init_error=pynvml.NVML_ERROR_UNKNOWN)
        nvml.install(monkeypatch)
        node = Node(tmp_path, pid)
        node.run_until(
            lambda: node.warned and len(node.values("task", "cpu_ms")) > 2, "measurements of tasks"
        )
        assert node.warned[0].startswith("its GPUs cannot be measured: the NVIDIA driver says")
        assert node.values("gpu", "percent") == []


def test_a_driver_that_never_answers_delays_no_measurement_and_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    released = threading.Event()
    nvml = FakeNvml([FakeGpu("GPU-0"), FakeGpu("GPU-1")])
    nvml.install(monkeypatch)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", lambda _gpu: released.wait())
    try:
        with process() as pid:
            node = Node(tmp_path, pid)
            node.run_until(lambda: len(node.values("task", "cpu_ms")) > 3, "measurements of tasks")
            began = time.monotonic()
            node.telemetry.finish()
            assert time.monotonic() - began < 5
            assert node.sent[-1].is_whole
    finally:
        released.set()


def test_without_real_gpus_the_driver_is_never_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml([])
    nvml.install(monkeypatch)
    simulated = (Gpu(index=0, uuid="GPU-simulated-0", simulated=True), Gpu(index=1, uuid=""))
    with process() as pid:
        node = Node(tmp_path, pid, simulated)
        node.run_until(lambda: len(node.values("task", "cpu_ms")) > 3, "measurements of tasks")
    assert nvml.open_sessions == 0
    assert node.warned == []


def test_marks_of_a_rank_that_has_ended_are_sent(tmp_path: Path) -> None:
    marks = tmp_path / "train" / f".sflow_marks.{RANK}"
    marks.parent.mkdir()
    with process() as pid:
        node = Node(tmp_path, pid, ())
        node.run_until(lambda: node.sent, "a measurement")
        marks.write_text("1000000000 begin w\n")
    node.mains.clear()
    node.run_until(lambda: any(message.windows for message in node.sent), "the window")
    (window,) = (one for message in node.sent for one in message.windows)
    assert (window.rank, window.name, window.begin_ms, window.end_ms) == (RANK, "w", 1000, None)


def test_marks_of_a_rank_that_was_never_measured_are_sent(tmp_path: Path) -> None:
    marks = tmp_path / "train" / f".sflow_marks.{RANK}"
    marks.parent.mkdir()
    marks.write_text("1000000000 begin w\n2000000000 end w\n")
    node = Node(tmp_path, 1, ())
    node.mains.clear()
    node.telemetry.use_of(RANK, resource.getrusage(resource.RUSAGE_SELF))
    node.telemetry.finish()
    (window,) = (one for message in node.sent for one in message.windows)
    assert (window.rank, window.name, window.begin_ms, window.end_ms) == (RANK, "w", 1000, 2000)


def test_a_measurement_that_is_under_way_at_the_end_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry_module, "LAST_WITHIN_S", WITHIN_S)  # of a machine with much other work
    marks = tmp_path / "train" / f".sflow_marks.{RANK}"
    marks.parent.mkdir()
    with process() as pid:
        node = Node(tmp_path, pid, ())
        node.run_until(lambda: node.sent, "a measurement")
        marks.write_text("1000000000 begin w\n2000000000 end w\n")
        node.telemetry.poll(time.monotonic() + 3600)  # begins one; the loop takes nothing in any more
        node.telemetry.finish()
    (window,) = (one for message in node.sent for one in message.windows)
    assert (window.name, window.end_ms) == ("w", 2000)


def test_the_file_of_marks_is_read_to_its_end_and_its_last_line_counts(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    filler = b"x" * 100
    marks.write_bytes(b"1000000000 begin w\n" + (b"5 begin " + filler + b"\n") * 1000 + b"2000000000 end w")
    ended = MarkedRank(RANK, str(marks)).end()
    assert ("w", 1000, 2000) in {(one.name, one.begin_ms, one.end_ms) for one in ended}
