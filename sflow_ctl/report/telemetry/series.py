"""The measured series of a run, and what reports and `top` compute from them. Pure; `runtime/telemetry/reader.py` reads them.

Counters (`cpu_ms`, `energy_mj`, `*_kib` of reading and writing, `gpu_busy_ms`, NVLink) only grow; all other columns are the
value at that moment. Names and units of columns: `protocol.telemetry.block`, docs/reference/telemetry.md.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

from msgspec import Struct, field

from protocol.ids import AttemptId
from protocol.telemetry.block import Kind

COUNTERS = frozenset(
    {
        "cpu_ms", "cpu_busy_ms", "energy_mj", "gpu_busy_ms", "read_kib", "written_kib", "disk_read_kib",
        "disk_written_kib", "nvlink_rx_kib", "nvlink_tx_kib", "ecc_corrected", "ecc_uncorrected",
    }
)  # fmt: skip


class Series(Struct, eq=False):
    """What was measured of one thing on one node, oldest first."""

    node: int
    """Its number in the plan."""
    node_name: str
    kind: Kind
    name: str
    """Of a task its attempt, `decode_3#2`; of a GPU its UUID; of a node its name."""
    labels: dict[str, str]
    times_ms: list[int] = field(default_factory=list)
    """Wall clock of the node."""
    is_cut: bool = False
    """There are earlier rows, which were not asked for."""
    columns: dict[str, list[int | None]] = field(default_factory=dict)
    """Each as long as `times_ms`; a column that was never measured is missing."""

    @property
    def attempt(self) -> AttemptId | None:
        """Return whose series it is; None for GPUs and nodes."""
        task, mark, number = self.name.rpartition("#")
        is_task = self.kind == "task" and mark and number.isdecimal()
        return AttemptId(task, int(number)) if is_task else None

    def points(self, column: str) -> list[tuple[int, int]]:
        """Return the known values of a column, each with its time."""
        values = self.columns.get(column, ())
        return [
            (time, value) for time, value in zip(self.times_ms, values, strict=False) if value is not None
        ]

    def last(self, column: str) -> int | None:
        """Return the newest known value; None if there is none."""
        return next((value for value in reversed(self.columns.get(column, ())) if value is not None), None)

    def peak(self, column: str) -> int | None:
        """Return the largest value; None if there is none."""
        return max((value for value in self.columns.get(column, ()) if value is not None), default=None)

    def held_gpus(self, row: int = -1) -> tuple[int, ...]:
        """Return the numbers of the GPUs that a task's processes had at a row, if the driver says who has them."""
        values = self.columns.get("gpus", ())
        mask = values[row] if values else None
        return () if not mask else tuple(index for index in range(mask.bit_length()) if mask >> index & 1)


class Telemetry(Struct, eq=False):
    """All series of a run, or of a part of its time."""

    series: tuple[Series, ...] = ()

    def tasks(self) -> Iterator[Series]:
        """Yield the series of tasks: one for each attempt and node."""
        return (one for one in self.series if one.kind == "task")

    def gpus(self) -> Iterator[Series]:
        """Yield the series of GPUs."""
        return (one for one in self.series if one.kind == "gpu")

    def nodes(self) -> Iterator[Series]:
        """Yield the series of nodes."""
        return (one for one in self.series if one.kind == "node")

    def of_task(self, task: str, attempt: int | None = None) -> list[Series]:
        """Return the series of a concrete task, on all its nodes; of all attempts without a number."""
        return [
            one
            for one in self.tasks()
            if (of := one.attempt) is not None and of.task == task and attempt in (None, of.number)
        ]


def rates(series: Series, column: str) -> list[tuple[int, float]]:
    """Return how much a counter grew per second before each time but the first. `cpu_ms` / 10 is percent of a CPU."""
    points = series.points(column)
    return [
        (time, max(0, value - before) * 1000 / (time - then))
        for (then, before), (time, value) in pairwise(points)
        if time > then
    ]


def last_rate(series: Series, column: str) -> float | None:
    """Return the newest rate of a counter, per second; None before there are two values."""
    points = series.points(column)[-2:]
    if len(points) < 2 or points[1][0] <= points[0][0]:
        return None
    return max(0, points[1][1] - points[0][1]) * 1000 / (points[1][0] - points[0][0])


def counted_between(series: Series, column: str, begin_ms: float, end_ms: float) -> float | None:
    """Return how much a counter grew between two times, interpolated between rows; None if it was not measured then.

    A task's counters begin with 0 at its start, which is before their first row.
    """
    points = series.points(column)
    if not points or end_ms <= begin_ms:
        return None
    if series.kind == "task" and not series.is_cut:
        step_ms = points[1][0] - points[0][0] if len(points) > 1 else 1000
        points.insert(0, (points[0][0] - step_ms, 0))
    times = [time for time, _ in points]
    if end_ms < times[0] or begin_ms > times[-1]:
        return None
    return max(0.0, _at(points, times, end_ms) - _at(points, times, begin_ms))


def peak_between(series: Series, column: str, begin_ms: float, end_ms: float) -> int | None:
    """Return the largest value between two times; of a short time, that of the next row."""
    points = series.points(column)
    times = [time for time, _ in points]
    first, last = bisect_left(times, begin_ms), bisect_right(times, end_ms)
    return max((value for _, value in points[first : max(last, first + 1)]), default=None)


def thinned(series: Series, step_ms: int) -> Series:
    """Return a series with about one row for each step: the last of counters, the largest of other columns."""
    if step_ms <= 0 or not series.times_ms:
        return series
    ends = _ends_of_steps(series.times_ms, step_ms)
    begins = [0, *ends[:-1]]
    spans = list(zip(begins, ends, strict=True))
    columns = {
        name: [_of_span(name, values, begin, end) for begin, end in spans]
        for name, values in series.columns.items()
    }
    times = [series.times_ms[end - 1] for end in ends]
    return Series(
        series.node,
        series.node_name,
        series.kind,
        series.name,
        series.labels,
        times,
        series.is_cut,
        columns,
    )


def _of_span(name: str, values: Sequence[int | None], begin: int, end: int) -> int | None:
    known = [value for value in values[begin:end] if value is not None]
    if not known:
        return None
    return known[-1] if name in COUNTERS or name == "gpus" else max(known)


def _ends_of_steps(times: Sequence[int], step_ms: int) -> list[int]:
    ends: list[int] = []
    for row, time in enumerate(times):
        if row and time // step_ms != times[row - 1] // step_ms:
            ends.append(row)
    return [*ends, len(times)]


def _at(points: Sequence[tuple[int, int]], times: Sequence[int], time: float) -> float:
    """Return a counter's value at a time: straight lines between rows, constant before and after them."""
    after = bisect_right(times, time)
    if after == 0:
        return float(points[0][1])
    if after == len(points):
        return float(points[-1][1])
    (then, before), (at, value) = points[after - 1], points[after]
    return before + (value - before) * (time - then) / (at - then)
