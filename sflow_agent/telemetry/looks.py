"""What is seen of a process, or of a GPU, at one moment. Values only: `processes` and `gpus` read them, others add them up."""

from typing import NamedTuple

from msgspec import Struct, field

from protocol.messages.node import Gpu


class Look(NamedTuple):
    """One process at one moment. Source: proc(5), stat."""

    parent: int
    session: int
    start_ticks: int
    """When it started: tells a process from a later one with its pid."""
    cpu_ms: int
    """Of the process and of its children that it has waited for."""
    threads: int
    rss_kib: int


class IoTotals(NamedTuple):
    """What a process, and its children that it has waited for, have read and written. Source: proc(5), io."""

    read_kib: int
    written_kib: int
    disk_read_kib: int
    disk_written_kib: int


class GpuLook(Struct, frozen=True):
    """One GPU at one moment."""

    gpu: Gpu
    at: float
    """Monotonic seconds."""
    values: dict[str, int]
    """By column, as in `protocol.telemetry.block.GPU_COLUMNS`."""
    memory_of: dict[int, int | None] | None = field(default_factory=dict)
    """MiB by the pid of each process that has it; None where the driver does not say who has it."""
