"""What the live tasks of a run use now, from the last minute of its telemetry. For `top` and the full-screen view. Pure."""

from collections.abc import Mapping

from msgspec import Struct

from protocol.text.sizes import size_text
from sflow_ctl.core.states import LIVE
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.screen.task_rows import Usage
from sflow_ctl.report.tables import Table
from sflow_ctl.report.telemetry.series import Series, Telemetry, last_rate

STALE_MS = 15_000
"""An older row says nothing about now."""
_MS_TO_PERCENT = 0.1
"""Milliseconds of CPU per second as percent of one CPU."""


class NodeUse(Struct, frozen=True):
    """What a node uses as a whole, the run's tasks and all else."""

    name: str
    """The node's name."""
    cpu_percent: float | None
    """Of all its CPUs together."""
    memory_bytes: int | None
    """Memory in use."""


def task_usage(state: RunView, telemetry: Telemetry, now_ms: int) -> dict[str, Usage]:
    """Return what each live task uses over all of its nodes; tasks that were not measured lately are missing."""
    found: dict[str, list[Series]] = {}
    for one in telemetry.tasks():
        attempt = one.attempt
        if attempt is None or not one.times_ms or one.times_ms[-1] < now_ms - STALE_MS:
            continue
        record = state.tasks.get(attempt.task)
        if record is not None and record.attempts == attempt.number and record.state in LIVE:
            found.setdefault(attempt.task, []).append(one)
    return {name: _of_task(series, len(state.tasks[name].gpus)) for name, series in found.items()}


def _of_task(series: list[Series], gpus: int) -> Usage:
    cpu = _sum([last_rate(one, "cpu_ms") for one in series])
    rss = _sum([one.last("rss_kib") for one in series])
    busy = _sum([last_rate(one, "gpu_busy_ms") for one in series])
    memory = _sum([one.last("gpu_memory_mib") for one in series])
    return Usage(
        cpu_percent=None if cpu is None else cpu * _MS_TO_PERCENT,
        memory_bytes=None if rss is None else int(rss) * 1024,
        gpu_percent=None
        if busy is None or not gpus
        else min(100.0, busy * _MS_TO_PERCENT / (gpus * len(series))),
        gpu_memory_bytes=None if memory is None or not gpus else int(memory) << 20,
    )


def _sum(values: "list[float | None] | list[int | None]") -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def node_usage(telemetry: Telemetry) -> list[NodeUse]:
    """Return what each node uses that was measured."""
    found = []
    for one in telemetry.nodes():
        busy, cpus, used = (
            last_rate(one, "cpu_busy_ms"),
            one.labels.get("cpus", ""),
            one.last("memory_used_kib"),
        )
        share = (
            busy * _MS_TO_PERCENT / int(cpus) if busy is not None and cpus.isdecimal() and int(cpus) else None
        )
        found.append(NodeUse(one.node_name, share, None if used is None else used * 1024))
    return found


def node_line(use: NodeUse) -> str:
    """Return a node's use as a sentence."""
    return f"{use.name}: CPU {_percent(use.cpu_percent)}, memory {_size(use.memory_bytes)}"


def usage_table(state: RunView, usage: Mapping[str, Usage], place: Mapping[str, str]) -> Table:
    """Return the live tasks, those that use most CPU first; `place` has the node of each."""
    live = [record for record in state.tasks.values() if record.state in LIVE]
    nothing = Usage()
    live.sort(key=lambda record: -(usage.get(record.name, nothing).cpu_percent or 0.0))
    rows = []
    for record in live:
        one = usage.get(record.name, nothing)
        rows.append(
            (
                record.name,
                record.state.value,
                place.get(record.name, "-"),
                _percent(one.cpu_percent),
                _size(one.memory_bytes),
                _percent(one.gpu_percent),
                _size(one.gpu_memory_bytes),
            )
        )
    return Table(
        headings=("TASK", "STATE", "NODE", "CPU", "MEMORY", "GPU", "GPU MEMORY") if rows else (),
        rows=tuple(rows),
        right=frozenset({"CPU", "MEMORY", "GPU", "GPU MEMORY"}),
        shrinks=frozenset({"TASK", "NODE"}),
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}%"


def _size(value: int | None) -> str:
    return "-" if value is None else size_text(value)
