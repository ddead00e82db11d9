"""Asks NVIDIA's driver how its GPUs are used, and by which processes. `telemetry` calls it in a thread of its own.

A value that a GPU, driver or user does not have is left out. What changes slowly is asked for less often: each question is a
system call into the driver, and some take a millisecond.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from protocol.messages.node import Gpu
from sflow_agent.node.gpu_driver import GpuDriver
from sflow_agent.telemetry.looks import GpuLook

SLOW_EVERY = 5
"""Temperature and clocks are asked for each so many times."""
RARE_EVERY = 10
"""Memory errors and counters of NVLink."""
MIB = 1 << 20
_ALL_LINKS = 0xFFFFFFFF
"""The scope of a field that means the sum over all NVLinks. Source: nvml.h, NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX."""


class GpuLooks:
    """The real GPUs of an agent."""

    def __init__(self, gpus: Sequence[Gpu], driver: GpuDriver) -> None:
        self._gpus = {gpu.uuid: gpu for gpu in gpus if gpu.uuid and not gpu.simulated}
        self._driver = driver
        self._number = 0

    def __bool__(self) -> bool:
        """Return whether there is a GPU to ask."""
        return bool(self._gpus)

    def load(self) -> None:
        """Load the driver's library, which takes half a second once. Raises: OSError when it does not answer."""
        self._driver.each(list(self._gpus), lambda _nvml, _handle, _uuid: None)

    def look(self) -> list[GpuLook]:
        """Return all GPUs as they are now. Raises: OSError when the driver does not answer."""
        columns = dict(_ALWAYS)
        if self._number % SLOW_EVERY == 0:
            columns.update(_SLOW)
        if self._number % RARE_EVERY == 0:
            columns.update(_RARE)
        self._number += 1

        def ask(nvml: Any, handle: Any, uuid: str) -> GpuLook:
            values = {
                name: value
                for name, read in columns.items()
                if (value := _known(nvml, read, handle)) is not None
            }
            rates = _known(nvml, _rates, handle)
            if rates is not None:
                values["percent"], values["memory_percent"] = int(rates.gpu), int(rates.memory)
                self._driver.note_use(uuid, values["percent"])
            users = _known(nvml, _users, handle)
            if users is not None:
                values["processes"] = len(users)
            return GpuLook(self._gpus[uuid], time.monotonic(), values, users)

        return self._driver.each(list(self._gpus), ask)


def _known(nvml: Any, read: Callable[[Any, Any], Any], handle: Any) -> Any:
    try:
        return read(nvml, handle)
    except (
        nvml.NVMLError_NotSupported,
        nvml.NVMLError_FunctionNotFound,
        nvml.NVMLError_NoPermission,
        nvml.NVMLError_InvalidArgument,
        nvml.NVMLError_NotFound,
    ):
        return None


def _rates(nvml: Any, handle: Any) -> Any:
    return nvml.nvmlDeviceGetUtilizationRates(handle)


def _users(nvml: Any, handle: Any) -> dict[int, int | None]:
    processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    return {
        one.pid: None if one.usedGpuMemory is None else int(one.usedGpuMemory) // MIB for one in processes
    }


def _errors(kind: str) -> "Callable[[Any, Any], int]":
    def read(nvml: Any, handle: Any) -> int:
        return int(nvml.nvmlDeviceGetTotalEccErrors(handle, getattr(nvml, kind), nvml.NVML_VOLATILE_ECC))

    return read


def _links(name: str) -> "Callable[[Any, Any], int | None]":
    def read(nvml: Any, handle: Any) -> int | None:
        (found,) = nvml.nvmlDeviceGetFieldValues(handle, [(getattr(nvml, name), _ALL_LINKS)])
        return int(found.value.ullVal) if found.nvmlReturn == 0 else None

    return read


Reader = Callable[[Any, Any], int | None]
_ALWAYS: dict[str, Reader] = {
    "memory_mib": lambda nvml, gpu: int(nvml.nvmlDeviceGetMemoryInfo(gpu).used) // MIB,
    "power_mw": lambda nvml, gpu: int(nvml.nvmlDeviceGetPowerUsage(gpu)),
    "energy_mj": lambda nvml, gpu: int(nvml.nvmlDeviceGetTotalEnergyConsumption(gpu)),
}
_SLOW: dict[str, Reader] = {
    "temperature_c": lambda nvml, gpu: int(nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)),
    "sm_mhz": lambda nvml, gpu: int(nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM)),
    "memory_mhz": lambda nvml, gpu: int(nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM)),
}
_RARE: dict[str, Reader] = {
    "ecc_corrected": _errors("NVML_MEMORY_ERROR_TYPE_CORRECTED"),
    "ecc_uncorrected": _errors("NVML_MEMORY_ERROR_TYPE_UNCORRECTED"),
    "nvlink_rx_kib": _links("NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX"),
    "nvlink_tx_kib": _links("NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX"),
}
