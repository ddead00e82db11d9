"""What monitors measure on a node, and the marks that bound a part of a task's time.

Values only. The planner makes the orders from the file, the agent's `monitor` package carries them out, and the
controller writes the readings down. Columns and units of the files are in `sflow_ctl.report.monitor`.
"""

from typing import Literal

import msgspec

from protocol.ids import RankId
from protocol.messages.checks import LogPattern

Scope = Literal["cpu", "memory", "disk", "network", "gpu"]
"""What is measured of a node."""
SCOPES: tuple[Scope, ...] = ("cpu", "gpu", "memory", "disk", "network")
DEFAULT_GPU_FIELDS = (
    "index",
    "utilization.gpu",
    "utilization.memory",
    "temperature.gpu",
    "temperature.memory",
    "power.draw",
    "clocks.sm",
    "clocks.mem",
    "memory.total",
    "memory.used",
)
"""Fields of a GPU by nvidia-smi's names; the first is always `index`."""

KNOWN_GPU_FIELDS = (
    *DEFAULT_GPU_FIELDS,
    "uuid",
    "name",
    "power.limit",
    "clocks.gr",
    "memory.free",
    "fan.speed",
    "pstate",
    "pcie.link.gen.current",
    "pcie.link.width.current",
    "energy.total",
)
"""All fields that agents can read; `energy.total` is ours, in joules."""


class SampledScope(msgspec.Struct, frozen=True, kw_only=True):
    """One scope, and how often it is measured."""

    scope: Scope
    interval_ms: int


class NodeMonitor(msgspec.Struct, frozen=True, kw_only=True):
    """What one monitor measures on a node, and when."""

    scopes: tuple[SampledScope, ...]
    tasks: tuple[str, ...] = ()
    """Concrete tasks: measured while one of them runs on the node. Empty: as long as the agent lives."""
    gpu_fields: tuple[str, ...] = DEFAULT_GPU_FIELDS
    script: str = ""
    """A script of the user's that runs in the background meanwhile; its output is not kept."""


class MarkPatterns(msgspec.Struct, frozen=True, kw_only=True):
    """How the line is recognised at which a window starts or ends: any of the patterns is in it."""

    patterns: tuple[LogPattern, ...]
    is_last: bool = False
    """The last such line counts, not the first."""


class LogWindow(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a task's time between two lines of its log. The end is looked for after the start."""

    tasks: tuple[str, ...]
    """Concrete tasks whose logs are searched."""
    start: MarkPatterns
    end: MarkPatterns
    name: str = ""
    """The name of a window of telemetry; those of monitors have none."""


class MonitorOrders(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that monitors want of a node. An agent has one sampler for all of them."""

    monitors: tuple[NodeMonitor, ...] = ()
    windows: tuple[LogWindow, ...] = ()


class Reading(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One scope of a node, or one of its GPUs or mounts, measured once."""

    scope: Scope
    at_ms: int
    """The node's wall clock."""
    values: tuple[int | float | str | None, ...] = ()
    """In the order of the scope's raw file, without the time; of a GPU, its index and the ordered fields. None: unknown."""
    error: str = ""
    """Why nothing could be measured, for a person."""
    is_simulated: bool = False
    """Of a GPU that only is counted: its use is whether a task has it."""


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a log that starts or ends a window."""

    at_ms: int
    """When the agent saw it, by the node's wall clock."""
    offset: int
    """The position of the line's first byte in the log."""
    line: str
    """Cut to 500 characters."""
    is_cut: bool = False
    patterns: tuple[str, ...] = ()
    """Those that are in it, as the file writes them."""
    count: int = 1
    """How many lines matched."""


class RankWindow(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of a window in the log of one rank."""

    rank: RankId
    log: str
    """Relative to the run directory."""
    start: Mark | None = None
    end: Mark | None = None
