"""What a task has used, for its report. By itself: every run loads it, and few short ones have measured anything. Pure."""

from msgspec import Struct


class TaskUse(Struct):
    """What all attempts of a task have used on all nodes; None where nothing was measured."""

    cpu_s: float | None = None
    max_rss_bytes: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    gpu_busy_s: float | None = None
    gpu_energy_j: float | None = None
