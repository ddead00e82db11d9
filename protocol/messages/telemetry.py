"""What agents measure of tasks, GPUs and the node itself without being asked, and the order that says how often.

Values only. The rows travel packed (`protocol.telemetry.block`); `sflow_agent/telemetry` measures, `sflow_ctl/runtime/telemetry`
keeps the files.
"""

from typing import TypeVar

import msgspec

from protocol.ids import RankId
from protocol.messages.monitor import LogWindow

MARKS_FILE = "SFLOW_MARKS_FILE"
"""The variable with the path of the file into which a task writes the beginnings and ends of its windows."""
MAX_NAME = 200
"""Letters of a window's name."""


class TelemetryOrders(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an agent measures."""

    every_ms: int = 1000
    """Between two measurements; an agent that needs more than its share of a CPU takes longer."""
    send_every_ms: int = 2000
    """Between two messages; more on large fleets."""
    windows: tuple[LogWindow, ...] = ()
    """Windows that lines of logs begin and end, each with a name."""


class MarkedWindow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of a task's time that it, or a line of its log, has marked. Times are the node's wall clock."""

    rank: RankId
    name: str
    begin_ms: int
    end_ms: int | None = None
    """None: the task has ended before."""


class RankUse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a rank has used until its main process ended. None: it was not measured."""

    cpu_s: float | None = None
    max_rss_bytes: int | None = None
    """The largest memory of all its processes together at one measurement, or of one process in between."""
    energy_j: float | None = None
    """Its share of the energy of GPUs."""
    other_gpus: tuple[str, ...] = ()
    """GPUs that its processes had although the plan gave it others, by UUID."""

    def corrected(self, cpu_s: float, max_rss_kib: int, of_agent_kib: int) -> "RankUse":
        """Return it with the kernel's account of the main process and of all processes that were waited for.

        A process that is started has the size of the agent for a moment, and that counts as its largest: a size that is not
        above the agent's own says nothing. Source: getrusage(2); Linux, fs/exec.c, setmax_mm_hiwater_rss.
        """
        largest = max(max_rss_kib * 1024 if max_rss_kib > of_agent_kib else 0, self.max_rss_bytes or 0)
        return msgspec.structs.replace(
            self, cpu_s=round(max(cpu_s, self.cpu_s or 0.0), 3), max_rss_bytes=largest or None
        )

    def plus(self, other: "RankUse") -> "RankUse":
        """Return what both have used together; memory is then the most that they may have had at a time."""
        return RankUse(
            cpu_s=_sum(self.cpu_s, other.cpu_s),
            max_rss_bytes=_sum(self.max_rss_bytes, other.max_rss_bytes),
            energy_j=_sum(self.energy_j, other.energy_j),
            other_gpus=tuple(dict.fromkeys((*self.other_gpus, *other.other_gpus))),
        )


N = TypeVar("N", int, float)


def _sum(one: N | None, other: N | None) -> N | None:
    if one is None or other is None:
        return one if other is None else other
    return one + other
