"""What was measured of nodes, GPUs and tasks, as courses over the run: from telemetry, or the monitors' raw files. Pure.

Called by `runtime/reporting`, which reads the files; only the bins of the courses are kept.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import Struct, field

from sflow_ctl.report.monitor.metrics import MetricRow
from sflow_ctl.report.monitor.tally import Spread
from sflow_ctl.report.run_report.model import UsageReport, UsageSeries, shortened

BINS = 240
MAX_COURSES = 64
"""Courses of one metric; of more only the averages are reported."""
_METRICS = {
    "cpu_utilization_pct": ("cpu", "%"),
    "memory_used_pct": ("memory", "%"),
    "gpu_utilization_pct": ("gpu", "%"),
    "gpu_memory_used_mib": ("gpu_memory", "MiB"),
    "gpu_power_w": ("power", "W"),
}
ORDER = (*(name for name, _ in _METRICS.values()), "task_cpu", "task_memory")


class _Key(NamedTuple):
    metric: str
    node: str
    gpu: str
    task: str


class _Course(Struct):
    whole: Spread
    bins: dict[int, list[float]] = field(default_factory=dict)
    """The number of values and their sum."""
    last: tuple[int, float] | None = None
    joules: float = 0.0


class UsageTally:
    """The readings of a run between two times, in ms since 1970."""

    def __init__(self, begin_ms: int, end_ms: int) -> None:
        self._begin, self._span = begin_ms, max(1, end_ms - begin_ms)
        self._courses: dict[_Key, _Course] = {}
        self._is_simulated = False
        self.energy_j: float | None = None
        """The energy of GPUs by their own counters; without it, it is computed from their power."""

    def metrics(self) -> frozenset[str]:
        """Return the metrics of which there are values."""
        return frozenset(key.metric for key in self._courses)

    def add(self, node: str, rows: Iterable[MetricRow], but: frozenset[str] = frozenset()) -> None:
        """Take in rows of one node, in the order of their times; those of the metrics `but` are known already."""
        for row in rows:
            known = _METRICS.get(row.metric)
            if known is None or row.value is None or known[0] in but:
                continue
            gpu = row.resource if row.scope == "gpu" else ""
            if self.point(known[0], known[1], row.at_ms, row.value, node, gpu=gpu):
                self._is_simulated |= bool(row.text)

    def point(
        self, metric: str, unit: str, at_ms: int, value: float, node: str, *, gpu: str = "", task: str = ""
    ) -> bool:
        """Take in a value; return False for one beyond the run's time."""
        position = (at_ms - self._begin) * BINS // self._span
        if not -1 <= position <= BINS:
            return False
        key = _Key(metric, node, gpu, task)
        course = self._courses.get(key)
        if course is None:
            course = self._courses[key] = _Course(Spread(unit))
        course.whole.add(value)
        tally = course.bins.setdefault(min(BINS - 1, max(0, position)), [0.0, 0.0])
        tally[0] += 1
        tally[1] += value
        if metric == "power":
            _add_energy(course, at_ms, value)
        return True

    def report(self) -> UsageReport | None:
        """Return the courses; None without readings."""
        if not self._courses:
            return None
        keys = sorted(self._courses, key=_order)
        counts = {metric: sum(key.metric == metric for key in keys) for metric in ORDER}
        used = sorted({number for course in self._courses.values() for number in course.bins})
        series = [self._series(key, used if counts[key.metric] <= MAX_COURSES else ()) for key in keys]
        power = [course.joules for key, course in self._courses.items() if key.metric == "power"]
        return UsageReport(
            at_s=tuple(round((number + 0.5) * self._span / BINS / 1000, 2) for number in used),
            series=tuple(series),
            energy_j=self.energy_j if self.energy_j is not None else round(sum(power), 1) if power else None,
            is_simulated=self._is_simulated,
        )

    def _series(self, key: _Key, used: Sequence[int]) -> UsageSeries:
        course = self._courses[key]
        values: list[float | None] = []
        for number in used:
            tally = course.bins.get(number)
            values.append(None if tally is None else shortened(tally[1] / tally[0]))
        return UsageSeries(
            metric=key.metric,
            unit=course.whole.unit,
            node=key.node,
            gpu=key.gpu or None,
            task=key.task or None,
            average=round(course.whole.average, 3),
            highest=round(course.whole.high, 3),
            values=tuple(values),
        )


MAX_GAP_MS = 60_000
"""No energy is counted over a longer time without readings."""


def _add_energy(course: _Course, at_ms: int, watts: float) -> None:
    """Add the energy since the reading before, by the trapezoidal rule."""
    if course.last is not None and 0 < at_ms - course.last[0] <= MAX_GAP_MS:
        course.joules += (at_ms - course.last[0]) / 1000 * (watts + course.last[1]) / 2
    course.last = at_ms, watts


def _order(key: _Key) -> tuple[int, str, int, str, str]:
    number = int(key.gpu) if key.gpu.isdigit() else -1
    return ORDER.index(key.metric), key.node, number, key.gpu, key.task
