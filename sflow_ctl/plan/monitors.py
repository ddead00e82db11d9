"""The monitors of a plan, and the orders for agents that are made of them. Pure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from protocol.messages.checks import LogPattern
from protocol.messages.monitor import (
    DEFAULT_GPU_FIELDS,
    LogWindow,
    MarkPatterns,
    MonitorOrders,
    NodeMonitor,
    SampledScope,
)
from protocol.messages.telemetry import TelemetryOrders

if TYPE_CHECKING:
    from sflow_ctl.plan.model import PlannedTask

ReportFormat = Literal["csv", "svg", "png"]


class PlannedWindow(msgspec.Struct, frozen=True, kw_only=True):
    """The lines between which a task's time is reported."""

    start: MarkPatterns
    end: MarkPatterns


class PlannedMonitor(msgspec.Struct, frozen=True, kw_only=True):
    """One monitor, of the workflow or of a task."""

    task: str | None
    """The task as the file names it; None for the workflow's."""
    scopes: tuple[SampledScope, ...]
    gpu_fields: tuple[str, ...] = DEFAULT_GPU_FIELDS
    script: str = ""
    nodes: tuple[int, ...] | None = None
    """Indices over all backends that are in the report; None for those of the tasks."""
    gpus: tuple[int, ...] | None = None
    """Numbers of GPUs on each node that are in the report; None for those of the tasks."""
    used_by: tuple[str, ...] = ()
    """Tasks, as the file names them, whose nodes and GPUs are in the report instead."""
    window: PlannedWindow | None = None
    has_report: bool = True
    formats: tuple[ReportFormat, ...] = ("csv", "svg")


class TaskWindows(msgspec.Struct, frozen=True, kw_only=True):
    """A named window of a task's log."""

    task: str
    """As the file names it."""
    name: str
    window: PlannedWindow


def telemetry_orders(
    windows: Sequence[TaskWindows], tasks: "Sequence[PlannedTask]", every_s: float, nodes: int
) -> TelemetryOrders:
    """Return how agents measure; a large fleet sends less often, so that its messages take a small part of the controller."""
    return TelemetryOrders(
        every_ms=round(every_s * 1000),
        send_every_ms=max(SEND_EVERY_MS, SEND_EVERY_MS_PER_NODE * nodes),
        windows=tuple(
            LogWindow(tasks=own, start=one.window.start, end=one.window.end, name=one.name)
            for one in windows
            if (own := names_of((one.task,), tasks))
        ),
    )


SEND_EVERY_MS = 2000
SEND_EVERY_MS_PER_NODE = 20
"""A message costs the controller about 0.1 ms: half a percent of a CPU, however many nodes there are."""


def monitor_orders(
    monitors: Sequence[PlannedMonitor], tasks: "Sequence[PlannedTask]"
) -> MonitorOrders | None:
    """Return what agents measure for these tasks; None if there is no monitor."""
    orders: list[NodeMonitor] = []
    windows: list[LogWindow] = []
    for monitor in monitors:
        own = names_of((monitor.task,), tasks) if monitor.task is not None else ()
        if monitor.task is not None and not own:
            continue  # its task is not run this time
        concerned = (*own, *names_of(monitor.used_by, tasks)) if monitor.task is not None else ()
        orders.append(
            NodeMonitor(
                scopes=monitor.scopes,
                tasks=() if _spans_agents(concerned, tasks) else concerned,
                gpu_fields=monitor.gpu_fields,
                script=monitor.script,
            )
        )
        if monitor.window is not None:
            windows.append(LogWindow(tasks=own, start=monitor.window.start, end=monitor.window.end))
    return MonitorOrders(monitors=tuple(orders), windows=tuple(windows)) if orders else None


def _spans_agents(names: Sequence[str], tasks: "Sequence[PlannedTask]") -> bool:
    """Return whether one of these tasks is a job step over several nodes: only one agent knows when it runs."""
    return any(task.name in names and task.launch_kind == "step" and task.node_count > 1 for task in tasks)


def names_of(bases: Sequence[str | None], tasks: "Sequence[PlannedTask]") -> tuple[str, ...]:
    """Return the concrete tasks of these names: a replicated task's name stands for all its replicas."""
    return tuple(task.name for task in tasks if task.base in bases or task.name in bases)


def monitor_text(monitor: PlannedMonitor) -> str:
    """Return a monitor in one line, for people."""
    owner = "all nodes" if monitor.task is None else f"task {monitor.task}"
    scopes = ", ".join(f"{one.scope} every {one.interval_ms} ms" for one in monitor.scopes)
    parts = [f"{owner}: {scopes}" if scopes else f"{owner}:"]
    if monitor.script:
        parts.append("a script of its own")
    if monitor.used_by:
        parts.append(f"on the nodes of {', '.join(monitor.used_by)}")
    if monitor.window is not None:
        start, end = (
            " or ".join(one.pattern for one in side.patterns)
            for side in (monitor.window.start, monitor.window.end)
        )
        parts.append(f'between "{start}" and "{end}" in its log')
    return ", ".join(parts)


def mark_patterns(patterns: Sequence[str], *, is_last: bool) -> MarkPatterns:
    """Return patterns as the file writes them: text, or an expression after `re:` or `regex:`."""
    return MarkPatterns(patterns=tuple(_pattern(text) for text in patterns), is_last=is_last)


def _pattern(text: str) -> LogPattern:
    for prefix in REGEX_PREFIXES:
        if text.startswith(prefix):
            return LogPattern(pattern=text.removeprefix(prefix), is_regex=True)
    return LogPattern(pattern=text)


REGEX_PREFIXES = ("re:", "regex:")
