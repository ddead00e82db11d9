"""What was used within a window, as the summary has it. By itself: every run loads it, few compute it (`windows`). Pure."""

import msgspec


class WindowUse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was used within one window. A value is null where nothing was measured."""

    name: str
    """The window's name."""
    attempt: int
    """The number of the attempt that has marked it."""
    rank: int = 0
    """The rank that has marked it."""
    begin_ms: int
    """When it began, in milliseconds since 1970."""
    end_ms: int
    """When it ended; of an open one, when the attempt was measured last."""
    is_open: bool = False
    """It was not ended before the task was."""
    duration_s: float
    """The time between the two in seconds."""
    cpu_s: float | None = None
    """CPU time of all processes of the task."""
    max_rss_bytes: int | None = None
    """The most memory at one measurement."""
    gpu_busy_s: float | None = None
    """Seconds in which its GPUs computed, added up over them."""
    gpu_percent: float | None = None
    """How busy its GPUs were on average, each at most 100."""
    gpu_energy_j: float | None = None
    """Its share of the energy of GPUs in joules."""
