"""Reads the use of this node's GPUs from NVIDIA's driver, or of simulated ones from the tasks that have them.

`sampler` calls it in a thread: a broken driver may not answer. A value that a GPU does not have is None.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from protocol.messages.monitor import Reading
from protocol.messages.node import Gpu
from sflow_agent.node.gpu_driver import GpuDriver

MIB = 1 << 20
Value = int | float | str | None


class GpuReader:
    """The GPUs of an agent, in its own order, which is that of PCI."""

    def __init__(
        self, gpus: Sequence[Gpu], problems: Sequence[str], fields: tuple[str, ...], driver: GpuDriver
    ) -> None:
        self._gpus = gpus
        self._driver = driver
        self._problems = problems
        self._fields = fields
        self._last_error = ""

    def read(self, held: frozenset[int]) -> list[Reading]:
        """Return a reading for each GPU; `held` are those that tasks have. What goes wrong is said once."""
        at_ms = time.time_ns() // 1_000_000
        if self._gpus and self._gpus[0].simulated:
            return [
                Reading(
                    scope="gpu",
                    at_ms=at_ms,
                    values=self._simulated(gpu, gpu.index in held),
                    is_simulated=True,
                )
                for gpu in self._gpus
            ]
        real = {gpu.uuid: gpu for gpu in self._gpus if gpu.uuid}
        if not real:
            why = "; ".join(self._problems) or "no NVIDIA driver answers here"
            return self._error(at_ms, why)

        def reading(nvml: Any, handle: Any, uuid: str) -> Reading:
            return Reading(scope="gpu", at_ms=at_ms, values=self._values(nvml, real[uuid], handle))

        try:
            readings = self._driver.each(list(real), reading)
        except OSError as error:
            return self._error(at_ms, error.strerror or str(error))
        self._last_error = ""
        return readings

    def _error(self, at_ms: int, text: str) -> list[Reading]:
        if text == self._last_error:
            return []
        self._last_error = text
        return [Reading(scope="gpu", at_ms=at_ms, error=text)]

    def _values(self, nvml: Any, gpu: Gpu, handle: Any) -> tuple[Value, ...]:
        asked = Asked(nvml, handle)
        values: list[Value] = []
        for name in self._fields:
            if name == "index":
                values.append(gpu.index)
                continue
            read = FIELDS.get(name)
            values.append(None if read is None else asked.known(read))
            if name == "utilization.gpu" and isinstance(values[-1], int):
                self._driver.note_use(gpu.uuid, values[-1])
        return tuple(values)

    def _simulated(self, gpu: Gpu, is_held: bool) -> tuple[Value, ...]:
        known: dict[str, Value] = {
            "index": gpu.index,
            "uuid": gpu.uuid,
            "name": gpu.name,
            "utilization.gpu": 100 if is_held else 0,
        }
        return tuple(known.get(name) for name in self._fields)


class Asked:
    """One GPU at one moment: answers that hold several fields are asked for once."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self.nvml = nvml
        self.handle = handle
        self._answers: dict[str, Any] = {}

    def known(self, read: "Callable[[Asked], Value]") -> Value:
        """Return a value, or None if this kind of GPU, driver or user gets none. Raises: NVMLError."""
        nvml = self.nvml
        try:
            return read(self)
        except (
            nvml.NVMLError_NotSupported,
            nvml.NVMLError_FunctionNotFound,
            nvml.NVMLError_NoPermission,
            nvml.NVMLError_InvalidArgument,
        ):
            return None

    def answer(self, name: str, *arguments: int) -> Any:
        """Return the answer of a function of NVML. Raises: NVMLError."""
        if name not in self._answers:
            self._answers[name] = getattr(self.nvml, name)(self.handle, *arguments)
        return self._answers[name]

    def clock(self, kind: int) -> int:
        """Return a clock in MHz. Raises: NVMLError."""
        return int(self.nvml.nvmlDeviceGetClockInfo(self.handle, kind))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _memory_temperature(asked: Asked) -> Value:
    values = asked.nvml.nvmlDeviceGetFieldValues(asked.handle, [asked.nvml.NVML_FI_DEV_MEMORY_TEMP])
    return int(values[0].value.uiVal) if values[0].nvmlReturn == 0 and values[0].value.uiVal else None


FIELDS: "dict[str, Callable[[Asked], Value]]" = {
    "uuid": lambda gpu: _text(gpu.answer("nvmlDeviceGetUUID")),
    "name": lambda gpu: _text(gpu.answer("nvmlDeviceGetName")),
    "utilization.gpu": lambda gpu: int(gpu.answer("nvmlDeviceGetUtilizationRates").gpu),
    "utilization.memory": lambda gpu: int(gpu.answer("nvmlDeviceGetUtilizationRates").memory),
    "temperature.gpu": lambda gpu: int(gpu.answer("nvmlDeviceGetTemperature", 0)),
    "temperature.memory": _memory_temperature,
    "power.draw": lambda gpu: round(gpu.answer("nvmlDeviceGetPowerUsage") / 1000, 2),
    "power.limit": lambda gpu: round(gpu.answer("nvmlDeviceGetEnforcedPowerLimit") / 1000, 2),
    "clocks.gr": lambda gpu: gpu.clock(gpu.nvml.NVML_CLOCK_GRAPHICS),
    "clocks.sm": lambda gpu: gpu.clock(gpu.nvml.NVML_CLOCK_SM),
    "clocks.mem": lambda gpu: gpu.clock(gpu.nvml.NVML_CLOCK_MEM),
    "memory.total": lambda gpu: int(gpu.answer("nvmlDeviceGetMemoryInfo").total) // MIB,
    "memory.used": lambda gpu: int(gpu.answer("nvmlDeviceGetMemoryInfo").used) // MIB,
    "memory.free": lambda gpu: int(gpu.answer("nvmlDeviceGetMemoryInfo").free) // MIB,
    "fan.speed": lambda gpu: int(gpu.answer("nvmlDeviceGetFanSpeed")),
    "pstate": lambda gpu: f"P{gpu.answer('nvmlDeviceGetPerformanceState')}",
    "pcie.link.gen.current": lambda gpu: int(gpu.answer("nvmlDeviceGetCurrPcieLinkGeneration")),
    "pcie.link.width.current": lambda gpu: int(gpu.answer("nvmlDeviceGetCurrPcieLinkWidth")),
    "energy.total": lambda gpu: round(gpu.answer("nvmlDeviceGetTotalEnergyConsumption") / 1000, 3),
}
"""How the fields of `protocol.messages.monitor.KNOWN_GPU_FIELDS` are read. Joules since the driver was loaded for energy."""
