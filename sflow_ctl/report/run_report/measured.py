"""What telemetry says of a run: courses of nodes, GPUs and the busiest tasks, and what each task has used. Pure.

Called by `runtime/reporting` for runs that have telemetry; `usage.py` keeps the courses.
"""

from collections.abc import Iterable

from msgspec import Struct

from sflow_ctl.report.run_report.usage import UsageTally
from sflow_ctl.report.telemetry.series import Series, Telemetry, rates

MAX_TASKS = 8
"""Tasks with courses of their own."""
_KIB, _MIB = 1024, 1024 * 1024


class TaskUse(Struct):
    """What all attempts of a task have used on all nodes; None where nothing was measured."""

    cpu_s: float | None = None
    max_rss_bytes: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    gpu_busy_s: float | None = None
    gpu_energy_j: float | None = None


def uses_of_tasks(telemetry: Telemetry) -> dict[str, TaskUse]:
    """Return what each task has used, by its name."""
    uses: dict[str, TaskUse] = {}
    for series in telemetry.tasks():
        attempt = series.attempt
        if attempt is None:
            continue
        use = uses.setdefault(attempt.task, TaskUse())
        use.cpu_s = _added(use.cpu_s, series.last("cpu_ms"), 1 / 1000)
        use.read_bytes = _whole(_added(use.read_bytes, series.last("read_kib"), _KIB))
        use.written_bytes = _whole(_added(use.written_bytes, series.last("written_kib"), _KIB))
        use.gpu_busy_s = _added(use.gpu_busy_s, series.last("gpu_busy_ms"), 1 / 1000)
        use.gpu_energy_j = _added(use.gpu_energy_j, series.last("energy_mj"), 1 / 1000)
        if (peak := series.peak("rss_kib")) is not None:
            use.max_rss_bytes = max(use.max_rss_bytes or 0, peak * _KIB)
    return uses


def _added(before: float | None, value: int | None, factor: float) -> float | None:
    return before if value is None else round((before or 0) + value * factor, 3)


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def add_telemetry(tally: UsageTally, telemetry: Telemetry) -> None:
    """Add the courses of nodes, GPUs and the busiest tasks."""
    for series in telemetry.nodes():
        cpus, memory = _number(series.labels.get("cpus")), _number(series.labels.get("memory_kib"))
        for at, busy in rates(series, "cpu_busy_ms") if cpus else ():
            tally.point("cpu", "%", at, min(100.0, busy / cpus / 10), series.node_name)
        for at, used in series.points("memory_used_kib") if memory else ():
            tally.point("memory", "%", at, 100 * used / memory, series.node_name)
    joules = 0.0
    for series in telemetry.gpus():
        gpu = series.labels.get("index", series.name)
        for column, metric, unit, factor in (
            ("percent", "gpu", "%", 1.0),
            ("memory_mib", "gpu_memory", "MiB", 1.0),
            ("power_mw", "power", "W", 0.001),
        ):
            for at, value in series.points(column):
                tally.point(metric, unit, at, value * factor, series.node_name, gpu=gpu)
        energy = series.points("energy_mj")
        if energy:
            joules += (energy[-1][1] - energy[0][1]) / 1000
            tally.energy_j = round(joules, 1)
    _add_tasks(tally, list(telemetry.tasks()))


def _add_tasks(tally: UsageTally, tasks: list[Series]) -> None:
    for series in _busiest(tasks, "cpu_ms"):
        for at, rate in rates(series, "cpu_ms"):
            tally.point("task_cpu", "CPUs", at, rate / 1000, series.node_name, task=series.name)
    for series in _busiest(tasks, "rss_kib"):
        for at, size in series.points("rss_kib"):
            tally.point("task_memory", "MiB", at, size * _KIB / _MIB, series.node_name, task=series.name)


def _busiest(tasks: Iterable[Series], column: str) -> list[Series]:
    """Return the series with the highest values of a column; those with one value are no course."""
    found = [(series.peak(column) or 0, series) for series in tasks if len(series.times_ms) > 1]
    found.sort(key=lambda one: (-one[0], one[1].name, one[1].node))
    return [series for peak, series in found[:MAX_TASKS] if peak]


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0
