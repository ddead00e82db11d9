"""NVML as nvidia-ml-py shows it: the functions that the agent calls, with the answers and errors of real machines."""

from dataclasses import dataclass, field

import pynvml
import pytest

GIB = 1 << 30


@dataclass
class FakeProcess:
    """One entry of nvmlDeviceGetComputeRunningProcesses."""

    pid: int
    usedGpuMemory: int | None = None  # noqa: N815 - NVML's own name


@dataclass
class FakeMemory:
    """The answer of nvmlDeviceGetMemoryInfo."""

    total: int
    used: int


@dataclass
class FakeGpu:
    """A GPU, or an instance of one. `errors`: function to the number that it raises."""

    uuid: str
    name: str = "NVIDIA H100"
    total: int = 80 * GIB
    used: int = GIB // 2
    errors: dict[str, int] = field(default_factory=dict)
    processes: list[FakeProcess] = field(default_factory=list)
    instances: "dict[int, FakeGpu] | None" = None
    """By place; None for a GPU that is not in MIG mode."""
    ids: tuple[int, int] = (0, 0)
    """Of an instance: GPU instance, compute instance."""
    bus: str = ""
    """Its PCI name."""
    linked: tuple[str, ...] = ()
    """The GPUs that NVLink connects it with."""
    percent: int = 0
    """Of the last sample in which it computed."""
    power_mw: int = 300_000
    energy_mj: int = 0
    """Since the driver was loaded."""
    links_kib: int = 0
    """Sent and received by NVLink."""
    ecc: int = 0


@dataclass
class FakeUse:
    """The answer of nvmlDeviceGetUtilizationRates."""

    gpu: int
    memory: int = 0


@dataclass
class FakeNumber:
    """The value of a field."""

    ullVal: int  # noqa: N815 - NVML's own name


@dataclass
class FakeField:
    """One answer of nvmlDeviceGetFieldValues."""

    value: FakeNumber
    nvmlReturn: int = 0  # noqa: N815


@dataclass
class FakeBus:
    """The answer of nvmlDeviceGetPciInfo."""

    busId: str  # noqa: N815 - NVML's own name


@dataclass
class FakeEvent:
    """The answer of nvmlEventSetWait_v2."""

    device: FakeGpu
    eventType: int  # noqa: N815 - NVML's own name
    eventData: int = 0  # noqa: N815


@dataclass
class FakeNvml:
    """A machine, as this process may see it."""

    gpus: list[FakeGpu]
    init_error: int | None = None
    count_error: int | None = None
    open_sessions: int = 0
    events: list[FakeEvent | int] = field(default_factory=list)
    """What waiting returns in turn: an event, or the number of an error; then it times out."""
    registered: dict[str, int] = field(default_factory=dict)
    """The kinds of events that were asked for, by GPU."""

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Puts it in the place of the library."""
        for name in dir(type(self)):
            if name.startswith("nvml"):
                monkeypatch.setattr(pynvml, name, getattr(self, name))

    def nvmlInit(self) -> None:  # noqa: N802 - here and below: NVML's own names
        _raise(self.init_error)
        self.open_sessions += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open_sessions -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        _raise(self.count_error)
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:  # noqa: N802
        return _asked(self.gpus[index], "handle")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu:  # noqa: N802
        whole = [*self.gpus, *(one for gpu in self.gpus for one in (gpu.instances or {}).values())]
        found = next((gpu for gpu in whole if gpu.uuid == uuid), None)
        if found is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return _asked(found, "handle")

    def nvmlDeviceGetPciInfo(self, gpu: FakeGpu) -> FakeBus:  # noqa: N802
        return FakeBus(_asked(gpu, "bus").bus)

    def nvmlDeviceGetP2PStatus(self, one: FakeGpu, other: FakeGpu, _what: int) -> int:  # noqa: N802
        _asked(one, "links")
        is_linked = other.uuid in one.linked or one.uuid in other.linked
        return int(pynvml.NVML_P2P_STATUS_OK if is_linked else pynvml.NVML_P2P_STATUS_NOT_SUPPORTED)

    def nvmlEventSetCreate(self) -> object:  # noqa: N802
        return object()

    def nvmlDeviceGetSupportedEventTypes(self, gpu: FakeGpu) -> int:  # noqa: N802
        _asked(gpu, "events")
        return int(pynvml.nvmlEventTypeAll)

    def nvmlDeviceRegisterEvents(self, gpu: FakeGpu, kinds: int, events: object) -> None:  # noqa: N802
        self.registered[gpu.uuid] = kinds

    def nvmlEventSetWait_v2(self, events: object, within_ms: int) -> FakeEvent:  # noqa: N802
        event = self.events.pop(0) if self.events else int(pynvml.NVML_ERROR_TIMEOUT)
        if isinstance(event, int):
            raise pynvml.NVMLError(event)
        return event

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, instance: FakeGpu) -> FakeGpu:  # noqa: N802
        return next(gpu for gpu in self.gpus if instance in (gpu.instances or {}).values())

    def nvmlDeviceGetUtilizationRates(self, gpu: FakeGpu) -> FakeUse:  # noqa: N802
        return FakeUse(_asked(gpu, "use").percent, gpu.percent // 2)

    def nvmlDeviceGetPowerUsage(self, gpu: FakeGpu) -> int:  # noqa: N802
        return _asked(gpu, "power").power_mw

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: FakeGpu) -> int:  # noqa: N802
        return _asked(gpu, "energy").energy_mj

    def nvmlDeviceGetTemperature(self, gpu: FakeGpu, _sensor: int) -> int:  # noqa: N802
        return 60 if _asked(gpu, "temperature") else 0

    def nvmlDeviceGetClockInfo(self, gpu: FakeGpu, kind: int) -> int:  # noqa: N802
        return 1000 + kind if _asked(gpu, "clocks") else 0

    def nvmlDeviceGetTotalEccErrors(self, gpu: FakeGpu, kind: int, _counter: int) -> int:  # noqa: N802
        return _asked(gpu, "ecc").ecc + kind

    def nvmlDeviceGetFieldValues(  # noqa: N802
        self, gpu: FakeGpu, fields: list[tuple[int, int]]
    ) -> list[FakeField]:
        return [FakeField(FakeNumber(_asked(gpu, "links").links_kib)) for _ in fields]

    def nvmlDeviceGetUUID(self, gpu: FakeGpu) -> str:  # noqa: N802
        return _asked(gpu, "uuid").uuid

    def nvmlDeviceGetName(self, gpu: FakeGpu) -> str:  # noqa: N802
        return _asked(gpu, "name").name

    def nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu) -> FakeMemory:  # noqa: N802
        return FakeMemory(_asked(gpu, "memory").total, gpu.used)

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: FakeGpu) -> list[FakeProcess]:  # noqa: N802
        return _asked(gpu, "processes").processes

    def nvmlDeviceGetMigMode(self, gpu: FakeGpu) -> list[int]:  # noqa: N802
        mode = int(_asked(gpu, "mig").instances is not None)
        return [mode, mode]

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: FakeGpu) -> int:  # noqa: N802
        assert gpu.instances is not None
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: FakeGpu, place: int) -> FakeGpu:  # noqa: N802
        instance = (gpu.instances or {}).get(place)
        if instance is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return _asked(instance, "handle")

    def nvmlDeviceGetGpuInstanceId(self, instance: FakeGpu) -> int:  # noqa: N802
        return instance.ids[0]

    def nvmlDeviceGetComputeInstanceId(self, instance: FakeGpu) -> int:  # noqa: N802
        return instance.ids[1]


def _asked(gpu: FakeGpu, what: str) -> FakeGpu:
    _raise(gpu.errors.get(what))
    return gpu


def _raise(number: int | None) -> None:
    if number is not None:
        raise pynvml.NVMLError(number)
