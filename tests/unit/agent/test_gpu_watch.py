"""The loss of GPUs, as NVIDIA's driver reports it, and what an agent makes of it."""

from collections.abc import Callable
from typing import Any

import pynvml
import pytest

from protocol.messages.facts import GpuLost
from protocol.messages.node import Gpu
from sflow_agent.node.gpu_events import GpuEvents
from sflow_agent.node.gpu_watch import AGAIN_AFTER_S, BEGIN_AFTER_S, GpuWatch
from tests.unit.agent.fake_nvml import FakeEvent, FakeGpu, FakeNvml

XID, DOUBLE_BIT = pynvml.nvmlEventTypeXidCriticalError, pynvml.nvmlEventTypeDoubleBitEccError


def machine(monkeypatch: pytest.MonkeyPatch, *gpus: FakeGpu) -> FakeNvml:
    made = FakeNvml(list(gpus) or [FakeGpu("GPU-a"), FakeGpu("GPU-b")])
    made.install(monkeypatch)
    return made


def test_the_driver_is_asked_for_both_kinds_of_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = machine(monkeypatch)
    assert GpuEvents(("GPU-a", "GPU-b")).wait(1) == {}
    assert nvml.registered == {"GPU-a": XID | DOUBLE_BIT, "GPU-b": XID | DOUBLE_BIT}


@pytest.mark.parametrize(
    ("kind", "number", "text"),
    [
        (XID, 79, "it has fallen off the bus (Xid 79)"),
        (XID, 48, "uncorrectable memory error (Xid 48)"),
        (XID, 95, "uncontained memory error (Xid 95)"),
        (DOUBLE_BIT, 0, "uncorrectable memory error"),
    ],
)
def test_an_error_that_only_a_reset_repairs_loses_the_gpu(
    monkeypatch: pytest.MonkeyPatch, kind: int, number: int, text: str
) -> None:
    nvml = machine(monkeypatch)
    nvml.events = [FakeEvent(nvml.gpus[1], kind, number)]
    assert GpuEvents(("GPU-a", "GPU-b")).wait(1) == {"GPU-b": text}


@pytest.mark.parametrize("xid", [13, 31, 43, 45, 63, 68, 94, 154])
def test_an_error_of_a_program_loses_no_gpu(monkeypatch: pytest.MonkeyPatch, xid: int) -> None:
    nvml = machine(monkeypatch)
    nvml.events = [FakeEvent(nvml.gpus[0], XID, xid)]
    assert GpuEvents(("GPU-a", "GPU-b")).wait(1) == {}


@pytest.mark.parametrize("asked", ["memory", "handle"])
def test_a_gpu_that_is_lost_without_an_event_is_noticed(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    nvml = machine(monkeypatch)
    events = GpuEvents(("GPU-a", "GPU-b"))
    if asked == "memory":
        assert events.wait(1) == {}
    nvml.gpus[0].errors[asked] = pynvml.NVML_ERROR_GPU_IS_LOST
    nvml.events = [pynvml.NVML_ERROR_GPU_IS_LOST]
    assert events.wait(1) == {"GPU-a": "the driver has lost it"}


def test_a_gpu_that_must_be_reset_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = machine(monkeypatch)
    nvml.gpus[1].errors["memory"] = pynvml.NVML_ERROR_RESET_REQUIRED
    assert GpuEvents(("GPU-a", "GPU-b")).wait(1) == {"GPU-b": "the driver says that it must be reset"}


def test_instances_are_lost_with_their_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {0: FakeGpu("MIG-1", ids=(1, 0)), 1: FakeGpu("MIG-2", ids=(2, 0))}
    nvml = machine(monkeypatch, FakeGpu("GPU-a", instances=parts), FakeGpu("GPU-b"))
    nvml.events = [FakeEvent(nvml.gpus[0], XID, 79)]
    text = "it has fallen off the bus (Xid 79)"
    assert GpuEvents(("MIG-1", "MIG-2", "GPU-b")).wait(1) == {"MIG-1": text, "MIG-2": text}


def test_a_gpu_without_events_is_asked_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = machine(monkeypatch)
    nvml.gpus[0].errors["events"] = pynvml.NVML_ERROR_NOT_SUPPORTED
    events = GpuEvents(("GPU-a", "GPU-b"))
    assert events.wait(1) == {}
    assert list(nvml.registered) == ["GPU-b"]


def test_a_driver_that_fails_is_an_error_and_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = machine(monkeypatch)
    events = GpuEvents(("GPU-a", "GPU-b"))
    nvml.events = [pynvml.NVML_ERROR_UNKNOWN]
    with pytest.raises(OSError, match="the NVIDIA driver says"):
        events.wait(1)
    assert nvml.open_sessions == 0
    nvml.events = [FakeEvent(nvml.gpus[0], XID, 79)]
    assert list(events.wait(1)) == ["GPU-a"]


class Answers:
    """Stands for the driver and the agent's threads: work is done when the test says so."""

    def __init__(self) -> None:
        self.found: dict[str, str] | OSError = {}
        self.asked: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []
        self.reported: list[GpuLost] = []
        self.warned: list[str] = []

    def run(self, _key: object, work: Callable[[], Any], done: Callable[[Any], None], _lane: object) -> None:
        self.asked.append((work, done))

    def wait(self, _within_ms: int) -> dict[str, str]:
        if isinstance(self.found, OSError):
            raise self.found
        return self.found

    def answer(self) -> None:
        work, done = self.asked.pop()
        try:
            result: Any = work()
        except OSError as error:
            result = error
        done(result)


def watch(answers: Answers, *gpus: Gpu) -> GpuWatch:
    given = gpus or (Gpu(0, "GPU-a"), Gpu(1, "GPU-b"))
    workers: Any = answers
    return GpuWatch(workers, given, answers.reported.append, answers.warned.append, 0.0, answers)


def test_a_loss_is_reported_once_and_kept_for_the_next_hello() -> None:
    answers = Answers()
    watched = watch(answers)
    assert watched.next_wakeup() == BEGIN_AFTER_S
    watched.poll(BEGIN_AFTER_S)
    answers.found = {"GPU-b": "gone"}
    answers.answer()
    assert watched.next_wakeup() == 0.0
    watched.poll(2.0)
    answers.answer()
    assert answers.reported == [GpuLost(gpu=1, text="gone")] == list(watched.lost)
    answers.found = {"GPU-a": "gone too"}
    watched.poll(3.0)
    answers.answer()
    assert watched.next_wakeup() is None, "none is left to be watched"


def test_simulated_gpus_are_not_watched() -> None:
    answers = Answers()
    assert watch(answers, Gpu(0, "GPU-simulated-0", simulated=True)).next_wakeup() is None


def test_a_driver_that_does_not_answer_is_asked_later() -> None:
    answers = Answers()
    watched = watch(answers)
    watched.poll(BEGIN_AFTER_S)
    answers.found = OSError(0, "the NVIDIA driver says: Unknown Error")
    answers.answer()
    watched.poll(10.0)
    assert watched.next_wakeup() == 10.0 + AGAIN_AFTER_S
    assert answers.warned == ["errors of its GPUs cannot be noticed: the NVIDIA driver says: Unknown Error"]
