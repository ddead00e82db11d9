"""GPUs: by the driver's answers, simulated ones by the tasks that have them, and what goes wrong."""

import inspect
from typing import Any

import pynvml
import pytest

from protocol.messages.monitor import DEFAULT_GPU_FIELDS, KNOWN_GPU_FIELDS
from protocol.messages.node import Gpu
from sflow_agent.monitor.gpus import FIELDS, Asked, GpuReader
from sflow_agent.node.gpu_driver import GpuDriver
from tests.unit.agent.fake_nvml import GIB, FakeGpu, FakeNvml

GPUS = (Gpu(index=0, uuid="GPU-a"), Gpu(index=1, uuid="GPU-b"))
FIELDS_ASKED = ("index", "utilization.gpu", "memory.total", "memory.used", "name", "no.such.field")
NONE_HELD: frozenset[int] = frozenset()


def test_every_known_field_can_be_read() -> None:
    assert {*FIELDS, "index"} == {*KNOWN_GPU_FIELDS}
    assert {*DEFAULT_GPU_FIELDS} <= {*KNOWN_GPU_FIELDS}


def test_values_are_in_the_order_of_the_fields_and_unknown_ones_are_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver = FakeNvml([FakeGpu("GPU-a", percent=97), FakeGpu("GPU-b", total=40 * GIB)])
    driver.install(monkeypatch)
    first, second = GpuReader(GPUS, (), FIELDS_ASKED, GpuDriver()).read(NONE_HELD)
    assert first.values == (0, 97, 81920, 512, "NVIDIA H100", None)
    assert second.values[:3] == (1, 0, 40960)


def test_the_driver_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeNvml([FakeGpu("GPU-a"), FakeGpu("GPU-b")])
    driver.install(monkeypatch)
    reader = GpuReader(GPUS, (), FIELDS_ASKED, GpuDriver())
    reader.read(NONE_HELD)
    reader.read(NONE_HELD)
    assert driver.open_sessions == 1


def test_a_value_that_a_gpu_does_not_have_is_empty_and_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {"use": pynvml.NVML_ERROR_NOT_SUPPORTED}
    FakeNvml([FakeGpu("GPU-a", errors=errors)]).install(monkeypatch)
    (only,) = GpuReader(GPUS[:1], (), FIELDS_ASKED, GpuDriver()).read(NONE_HELD)
    assert only.values[:3] == (0, None, 81920)


def test_a_driver_that_fails_is_said_once_and_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu("GPU-a", errors={"use": pynvml.NVML_ERROR_GPU_IS_LOST})
    driver = FakeNvml([gpu])
    driver.install(monkeypatch)
    reader = GpuReader(GPUS[:1], (), FIELDS_ASKED, GpuDriver())
    (said,) = reader.read(NONE_HELD)
    assert "GPU is lost" in said.error
    assert reader.read(NONE_HELD) == []
    assert driver.open_sessions == 0
    gpu.errors.clear()
    assert [one.error for one in reader.read(NONE_HELD)] == [""]


def test_without_a_driver_the_reason_is_said_once() -> None:
    reader = GpuReader((), ("the library is missing",), FIELDS_ASKED, GpuDriver())
    assert [one.error for one in reader.read(NONE_HELD)] == ["the library is missing"]
    assert reader.read(NONE_HELD) == []


def test_simulated_gpus_are_marked_and_busy_while_a_task_has_them() -> None:
    gpus = tuple(Gpu(index=index, uuid=f"GPU-simulated-{index}", simulated=True) for index in range(2))
    first, second = GpuReader(gpus, (), FIELDS_ASKED, GpuDriver()).read(frozenset({1}))
    assert (first.is_simulated, first.values) == (True, (0, 0, None, None, "", None))
    assert second.values[1] == 100


class StrictNvml:
    """Accepts only calls that the library's own functions accept; every answer is 7, with any part 7."""

    def __getattr__(self, name: str) -> Any:
        real = getattr(pynvml, name)
        if not callable(real) or isinstance(real, type):
            return real

        def call(*arguments: Any) -> Any:
            inspect.signature(real).bind(*arguments)
            return Answer()

        return call


class Answer(int):
    """A number, a structure and a list at once."""

    def __new__(cls) -> "Answer":
        return super().__new__(cls, 7)

    def __getattr__(self, name: str) -> Any:
        return 0 if name == "nvmlReturn" else Answer()

    def __getitem__(self, index: int) -> Any:
        return Answer()


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_is_read_by_functions_that_the_library_has(field: str) -> None:
    value = FIELDS[field](Asked(StrictNvml(), "handle"))
    assert value is not None


def test_one_question_serves_monitors_and_hang_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu("GPU-a", percent=42)
    driver = FakeNvml([gpu])
    driver.install(monkeypatch)
    now = [100.0]
    shared = GpuDriver(lambda: now[0])
    GpuReader(GPUS[:1], (), FIELDS_ASKED, shared).read(NONE_HELD)
    gpu.percent = 7
    assert shared.use(["GPU-a"]) == {"GPU-a": 42}, "the monitor has just asked"
    now[0] += 1.0
    assert shared.use(["GPU-a"]) == {"GPU-a": 7}
    assert driver.open_sessions == 1
