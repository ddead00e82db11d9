"""Adds up what the processes of each rank use. Pure.

Counters never fall: a process that ends takes its numbers with it unless its parent waits for it, and then the parent has them.
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from protocol.ids import AttemptId, RankId
from protocol.messages.telemetry import RankUse
from sflow_agent.telemetry.looks import IoTotals, Look


class Counter(Struct):
    """A number that only grows, made of sums over processes that come and go."""

    value: int = 0
    _ahead: int = 0

    def take(self, total: int) -> None:
        """Take in the sum over the processes that live now."""
        self._ahead = max(self._ahead, self.value - total)
        self.value = total + self._ahead


class Sums(Struct):
    """The sums over the living processes of one rank."""

    cpu_ms: int = 0
    rss_kib: int = 0
    threads: int = 0
    processes: int = 0
    traffic: IoTotals | None = None
    descriptors: int | None = None

    def add(self, look: Look, traffic: IoTotals | None, descriptors: int | None) -> None:
        """Add a process."""
        self.cpu_ms += look.cpu_ms
        self.rss_kib += look.rss_kib
        self.threads += look.threads
        self.processes += 1
        if traffic is not None:
            before = self.traffic or IoTotals(0, 0, 0, 0)
            self.traffic = IoTotals(*(one + other for one, other in zip(before, traffic, strict=True)))
        if descriptors is not None:
            self.descriptors = (self.descriptors or 0) + descriptors


class RankMeter(Struct):
    """What one rank has used since it was first seen."""

    cpu: Counter = field(default_factory=Counter)
    traffic: tuple[Counter, ...] = ()
    """Four, once it could be read."""
    peak_rss_kib: int = 0
    sums: Sums = field(default_factory=Sums)
    pss_kib: int | None = None
    """Of this measurement, if it was asked for."""
    gpus: int | None = None
    """Bits of the GPUs that its processes have; None where nothing says who has them."""
    gpu_memory_mib: int | None = None
    gpu_busy_ms: float = 0.0
    energy_mj: float = 0.0
    has_gpus: bool = False
    """It has had a share of one."""
    has_energy: bool = False
    other_gpus: dict[str, None] = field(default_factory=dict)
    """UUIDs of GPUs that it had and should not have."""

    def take(self, sums: Sums) -> None:
        """Take in a measurement."""
        self.sums = sums
        self.cpu.take(sums.cpu_ms)
        self.peak_rss_kib = max(self.peak_rss_kib, sums.rss_kib)
        if sums.traffic is not None:
            self.traffic = self.traffic or tuple(Counter() for _ in sums.traffic)
            for counter, total in zip(self.traffic, sums.traffic, strict=True):
                counter.take(total)

    def use(self) -> RankUse:
        """Return what it has used so far."""
        return RankUse(
            cpu_s=self.cpu.value / 1000,
            max_rss_bytes=self.peak_rss_kib * 1024,
            energy_j=round(self.energy_mj / 1000, 3) if self.has_energy else None,
            other_gpus=tuple(self.other_gpus),
        )


class Meters:
    """The meters of all ranks that have been seen and whose attempt is still here."""

    def __init__(self) -> None:
        self.of: dict[RankId, RankMeter] = {}
        self.living: set[RankId] = set()
        """Ranks with a process at the last measurement."""

    def take(self, sums: Mapping[RankId, Sums]) -> list[RankId]:
        """Take in a measurement of all ranks; return those that have no process any more."""
        ended = [rank for rank in self.living if rank not in sums]
        self.living = set(sums)
        for rank, one in sums.items():
            self.of.setdefault(rank, RankMeter()).take(one)
        for rank in ended:
            meter = self.of[rank]
            meter.sums, meter.gpus, meter.gpu_memory_mib = Sums(), None, None
        attempts = {rank.attempt for rank in self.living}
        for rank in [rank for rank in self.of if rank.attempt not in attempts]:
            del self.of[rank]
        return ended

    def rows(self) -> dict[str, dict[str, int | None]]:
        """Return the row of each attempt with a living rank here: the sums over its ranks."""
        ranks: dict[AttemptId, list[RankMeter]] = {}
        for rank, meter in self.of.items():
            ranks.setdefault(rank.attempt, []).append(meter)
        return {str(attempt): _row(meters) for attempt, meters in ranks.items()}

    def uses(self) -> dict[RankId, RankUse]:
        """Return what each rank has used so far."""
        return {rank: meter.use() for rank, meter in self.of.items()}


def _row(meters: list[RankMeter]) -> dict[str, int | None]:
    traffic = [tuple(one.value for one in meter.traffic) for meter in meters if meter.traffic]
    totals = [sum(values) for values in zip(*traffic, strict=True)] if traffic else [None] * 4
    has_gpus = any(meter.has_gpus for meter in meters)
    masks = [meter.gpus for meter in meters if meter.gpus is not None]
    return {
        "cpu_ms": sum(meter.cpu.value for meter in meters),
        "rss_kib": sum(meter.sums.rss_kib for meter in meters),
        "pss_kib": _known_sum(meter.pss_kib for meter in meters),
        "read_kib": totals[0],
        "written_kib": totals[1],
        "disk_read_kib": totals[2],
        "disk_written_kib": totals[3],
        "processes": sum(meter.sums.processes for meter in meters),
        "threads": sum(meter.sums.threads for meter in meters),
        "descriptors": _known_sum(meter.sums.descriptors for meter in meters),
        "gpus": _union(masks) if masks else None,
        "gpu_busy_ms": round(sum(meter.gpu_busy_ms for meter in meters)) if has_gpus else None,
        "gpu_memory_mib": _known_sum(meter.gpu_memory_mib for meter in meters),
        "energy_mj": round(sum(meter.energy_mj for meter in meters))
        if any(meter.has_energy for meter in meters)
        else None,
    }


def _known_sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _union(masks: Iterable[int]) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union
