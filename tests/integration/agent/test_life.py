"""Signs of life as the agent's loop sees them: the use of GPUs by a driver that answers, refuses, or knows nothing."""

import select
import time
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest

from protocol.messages.node import Gpu
from protocol.messages.rank_spec import HangPolicy, RankSpec
from sflow_agent.activity_watch import ActivityWatch
from sflow_agent.core.events import IdleChanged
from sflow_agent.descriptors import Descriptors
from sflow_agent.node.gpu_driver import GpuDriver
from sflow_agent.worker import Workers
from tests.integration.agent.fake_controller import DEADLINE_S, rank_id
from tests.unit.agent.fake_nvml import FakeGpu, FakeNvml

NAMES = ("GPU-a", "GPU-b")
GPUS = tuple(Gpu(index=index, uuid=name) for index, name in enumerate(NAMES))
A = rank_id("a")
SPEC = RankSpec(rank=A, argv=("true",), env={}, log="a/a.log", gpus=(0, 1), hang=HangPolicy(no_gpu_use_s=0.2))


class Loop:
    """The part of an agent's loop for activity."""

    def __init__(self, gpus: tuple[Gpu, ...] = GPUS, spec: RankSpec = SPEC) -> None:
        self.epoll = select.epoll()
        self.descriptors = Descriptors(self.epoll)
        self.warnings: list[str] = []
        self.changes: list[IdleChanged] = []
        self.life = ActivityWatch(
            Workers(self.descriptors), gpus, GpuDriver(), lambda path: path, self.warnings.append
        )
        self.life.watch(spec, time.monotonic())

    def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not come: {self.changes} {self.warnings}"
            self.epoll.poll(0.01)
            self.descriptors.poll(time.monotonic())
            self.changes += self.life.poll(time.monotonic())


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Two GPUs that do nothing."""
    fake = FakeNvml([FakeGpu(name) for name in NAMES])
    fake.install(monkeypatch)
    return fake


def test_idle_gpus_are_quiet_until_one_of_them_computes(nvml: FakeNvml) -> None:
    loop = Loop()
    loop.until(lambda: loop.changes, "silence")
    nvml.gpus[1].percent = 3
    loop.until(lambda: len(loop.changes) > 1, "life")
    assert loop.changes == [IdleChanged(A, "gpus", True), IdleChanged(A, "gpus", False)]
    loop.life.unwatch(A)
    loop.until(lambda: loop.life.next_wakeup() is None, "an end of the looks")
    assert nvml.open_sessions == 1


@pytest.mark.parametrize("number", [pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_NO_PERMISSION])
def test_a_gpu_without_utilisation_counts_as_used(number: int, nvml: FakeNvml) -> None:
    nvml.gpus[0].errors["use"] = number
    assert GpuDriver().use(NAMES) == {"GPU-a": None, "GPU-b": 0}
    loop = Loop()
    loop.until(lambda: len(loop.warnings) > 5, "several looks")
    assert set(loop.warnings) == {
        "the driver does not report the use of GPU-a: no_gpu_use_for has no effect with it"
    }
    assert loop.changes == []


def test_a_driver_that_does_not_answer_is_warned_of_and_ends_nothing(nvml: FakeNvml) -> None:
    nvml.init_error = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    loop = Loop()
    loop.until(lambda: len(loop.warnings) > 5, "several looks")
    assert loop.warnings[0].startswith("the use of GPUs cannot be read: the NVIDIA driver says")
    assert loop.changes == []


@pytest.mark.parametrize("gpus", [(), (Gpu(index=0, uuid="GPU-simulated-0", simulated=True),)])
def test_gpus_that_cannot_be_watched_are_warned_of_once_for_each_task(gpus: tuple[Gpu, ...]) -> None:
    loop = Loop(gpus)
    assert len(loop.warnings) == 1
    assert "a: no_gpu_use_for has no effect" in loop.warnings[0]
    assert loop.life.next_wakeup() is None


def test_progress_is_judged_by_its_file_once_that_is_written(tmp_path: Path) -> None:
    log, file = tmp_path / "a.log", tmp_path / "progress"
    log.touch()
    file.write_text("1/9 of an earlier attempt\n")
    spec = RankSpec(
        rank=A,
        argv=("true",),
        env={"SFLOW_PROGRESS_FILE": str(file)},
        log=str(log),
        hang=HangPolicy(stalled_s=0.3),
    )
    loop = Loop((), spec)
    loop.until(lambda: loop.changes == [IdleChanged(A, "progress", True)], "silence")
    log.write_text("it prints\n")
    loop.until(lambda: loop.changes[1:] == [IdleChanged(A, "progress", False)], "output")
    file.write_text("2/9\n")

    def quiet_although_it_prints() -> bool:
        with log.open("a") as stream:
            stream.write("it prints\n")
        return loop.changes[2:] == [IdleChanged(A, "progress", True)]

    loop.until(quiet_although_it_prints, "no progress")
    file.write_text("3/9\n")
    loop.until(lambda: loop.changes[3:] == [IdleChanged(A, "progress", False)], "progress")


def test_progress_that_is_in_the_log_is_only_in_lines_that_match(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.touch()
    hang = HangPolicy(stalled_s=0.3, progress_lines=r"step (\d+)/(\d+)")
    loop = Loop((), RankSpec(rank=A, argv=("true",), env={}, log=str(log), hang=hang))

    def quiet_although_it_prints() -> bool:
        with log.open("a") as stream:
            stream.write("waiting\n")
        return loop.changes == [IdleChanged(A, "progress", True)]

    loop.until(quiet_although_it_prints, "silence")
    with log.open("a") as stream:
        stream.write("\x1b[32mstep 3/9\x1b[0m\n")
    loop.until(lambda: loop.changes[1:] == [IdleChanged(A, "progress", False)], "a line that matches")
    with log.open("a") as stream:
        stream.write("step 4")  # no whole line
    loop.until(lambda: loop.changes[2:] == [IdleChanged(A, "progress", True)], "silence again")
    log.write_text("step 5/9\n")  # begun anew
    loop.until(lambda: loop.changes[3:] == [IdleChanged(A, "progress", False)], "a log that begins anew")
