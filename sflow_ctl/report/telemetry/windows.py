"""What tasks used within the windows of their time that they, or lines of their logs, have marked. Pure.

A window counts for all processes of its attempt on all nodes, whichever of them has marked it.
"""

from collections.abc import Iterable

from protocol.messages.telemetry import MarkedWindow
from sflow_ctl.report.telemetry.series import (
    Series,
    Telemetry,
    counted_between,
    peak_between,
)
from sflow_ctl.report.telemetry.use import WindowUse


def window_uses(windows: Iterable[MarkedWindow], telemetry: Telemetry) -> dict[str, list[WindowUse]]:
    """Return the windows of each task in the order of their beginnings, with what was used."""
    found: dict[str, list[WindowUse]] = {}
    for window in windows:
        attempt = window.rank.attempt
        series = telemetry.of_task(attempt.task, attempt.number)
        found.setdefault(attempt.task, []).append(_use(window, series))
    for uses in found.values():
        uses.sort(key=lambda one: (one.begin_ms, one.end_ms, one.name))
    return found


def _use(window: MarkedWindow, series: list[Series]) -> WindowUse:
    begin = window.begin_ms
    last = max((one.times_ms[-1] for one in series if one.times_ms), default=begin)
    end = max(begin, last) if window.end_ms is None else window.end_ms
    cpu_ms = _total(series, "cpu_ms", begin, end)
    busy_ms = _total(series, "gpu_busy_ms", begin, end)
    energy_mj = _total(series, "energy_mj", begin, end)
    memory = [value for one in series if (value := peak_between(one, "rss_kib", begin, end)) is not None]
    gpus = sum(_gpu_count(one, begin, end) for one in series)
    percent = busy_ms / (end - begin) / gpus * 100 if busy_ms is not None and gpus and end > begin else None
    return WindowUse(
        name=window.name,
        attempt=window.rank.attempt.number,
        rank=window.rank.rank,
        begin_ms=begin,
        end_ms=end,
        is_open=window.end_ms is None,
        duration_s=(end - begin) / 1000,
        cpu_s=None if cpu_ms is None else round(cpu_ms / 1000, 3),
        max_rss_bytes=sum(memory) * 1024 if memory else None,
        gpu_busy_s=None if busy_ms is None else round(busy_ms / 1000, 3),
        gpu_percent=None if percent is None else round(min(percent, 100.0), 1),
        gpu_energy_j=None if energy_mj is None else round(energy_mj / 1000, 3),
    )


def _total(series: list[Series], column: str, begin: int, end: int) -> float | None:
    known = [value for one in series if (value := counted_between(one, column, begin, end)) is not None]
    return sum(known) if known else None


def _gpu_count(series: Series, begin: int, end: int) -> int:
    """Return how many GPUs the task had on a node at most: those that its processes had."""
    rows = [row for row, at in enumerate(series.times_ms) if begin <= at <= end]
    return max((len(series.held_gpus(row)) for row in rows), default=0)
