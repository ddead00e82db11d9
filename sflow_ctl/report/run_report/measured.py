"""What telemetry says of a run: courses of nodes, GPUs and the busiest tasks, and what each task has used. Pure.

Called by `runtime/reporting` with the files' content, block by block: the measurements of a run of days are never in memory at
once. `usage.py` keeps the courses.
"""

from collections.abc import Callable, Iterator, Sequence

from protocol.telemetry.block import SeriesPart, blocks_in
from protocol.telemetry.columns import unpacked
from sflow_ctl.report.run_report.task_use import TaskUse
from sflow_ctl.report.run_report.usage import UsageTally

MAX_TASKS = 8
"""Tasks with courses of their own."""
_KIB, _MIB = 1024, 1024 * 1024
_OF_GPUS = (
    ("percent", "gpu", "%", 1.0),
    ("memory_mib", "gpu_memory", "MiB", 1.0),
    ("power_mw", "power", "W", 0.001),
)
_Points = Sequence[tuple[int, int]]


class _Part:
    """The rows of one series within a block."""

    def __init__(self, node: str, part: SeriesPart, times: Sequence[int]) -> None:
        self.node, self.kind, self.name, self.labels = node, part.kind, part.name, part.labels
        self._times = times[part.first : part.first + part.rows]
        self._rows = part.rows
        self._columns = {column.name: column for column in part.columns}

    def points(self, column: str) -> _Points:
        """Return the known values of a column with their times. Raises: ValueError."""
        packed = self._columns.get(column)
        if packed is None:
            return ()
        values = unpacked(packed, self._rows)
        return [
            (time, value)
            for time, value in zip(self._times, values, strict=False)
            if value is not None and time >= 0
        ]


class Measurements:
    """The telemetry of one run: `take` all nodes first, then `take_busiest` of all nodes."""

    def __init__(self, tally: UsageTally) -> None:
        self._tally = tally
        self.uses: dict[str, TaskUse] = {}
        """What each task has used, by its name."""
        self._totals: dict[tuple[str, str, str], tuple[float, float]] = {}
        """Of a series (node, name, column): the newest and the greatest value."""
        self._before: dict[tuple[str, str, str], tuple[int, int]] = {}
        """Of a counter (node, name, column): its last time and value."""
        self._energy: dict[tuple[str, str], tuple[int, int]] = {}
        """Of a GPU (node, name): the first and the last value of its counter."""
        self._busiest: tuple[frozenset[str], frozenset[str]] | None = None

    def take(self, node: str, *files: bytes) -> None:
        """Take in the files of a node, the older one first: courses of the node and its GPUs, and what its tasks have used."""
        _each(node, files, self._take)

    def take_busiest(self, node: str, *files: bytes) -> None:
        """Take in the courses of the busiest tasks of the run from the files of a node."""
        if self._busiest is None:
            self._finish()
        _each(node, files, self._take_busiest)

    def _take(self, part: _Part) -> None:
        match part.kind:
            case "node":
                self._take_node(part)
            case "gpu":
                self._take_gpu(part)
            case "task":
                for column in ("cpu_ms", "read_kib", "written_kib", "gpu_busy_ms", "energy_mj", "rss_kib"):
                    points = part.points(column)
                    if points:
                        key = part.node, part.name, column
                        greatest = max(value for _, value in points)
                        _, before = self._totals.get(key, (0, 0))
                        self._totals[key] = points[-1][1], max(before, greatest)

    def _take_node(self, part: _Part) -> None:
        cpus, memory = _number(part.labels.get("cpus")), _number(part.labels.get("memory_kib"))
        for at, busy in self._rates(part, "cpu_busy_ms") if cpus else ():
            self._tally.point("cpu", "%", at, min(100.0, busy / cpus / 10), part.node)
        for at, used in part.points("memory_used_kib") if memory else ():
            self._tally.point("memory", "%", at, 100 * used / memory, part.node)

    def _take_gpu(self, part: _Part) -> None:
        gpu = part.labels.get("index", part.name)
        for column, metric, unit, factor in _OF_GPUS:
            for at, value in part.points(column):
                self._tally.point(metric, unit, at, value * factor, part.node, gpu=gpu)
        counter = part.points("energy_mj")
        if counter:
            key = part.node, part.name
            first = self._energy[key][0] if key in self._energy else counter[0][1]
            self._energy[key] = first, counter[-1][1]

    def _take_busiest(self, part: _Part) -> None:
        if part.kind != "task" or self._busiest is None:
            return
        by_cpu, by_memory = self._busiest
        if part.name in by_cpu:
            for at, rate in self._rates(part, "cpu_ms"):
                self._tally.point("task_cpu", "CPUs", at, rate / 1000, part.node, task=part.name)
        if part.name in by_memory:
            for at, size in part.points("rss_kib"):
                self._tally.point("task_memory", "MiB", at, size * _KIB / _MIB, part.node, task=part.name)

    def _rates(self, part: _Part, column: str) -> Iterator[tuple[int, float]]:
        """Yield how much a counter grew per second before each time but its first."""
        key = part.node, part.name, column
        for at, value in part.points(column):
            before = self._before.get(key)
            self._before[key] = at, value
            if before is not None and at > before[0]:
                yield at, max(0, value - before[1]) * 1000 / (at - before[0])

    def _finish(self) -> None:
        """Make the uses of tasks of the totals, and choose the busiest attempts."""
        for (_, name, column), (newest, greatest) in self._totals.items():
            task, mark, _ = name.rpartition("#")
            if mark:
                _add(self.uses.setdefault(task, TaskUse()), column, newest, greatest)
        if self._energy:
            joules = sum(last - first for first, last in self._energy.values()) / 1000
            self._tally.energy_j = round(joules, 1)
        self._busiest = self._greatest("cpu_ms"), self._greatest("rss_kib")

    def _greatest(self, column: str) -> frozenset[str]:
        found = [(-top, name) for (_, name, one), (_, top) in self._totals.items() if one == column and top]
        return frozenset(name for _, name in sorted(found)[:MAX_TASKS])


def _each(node: str, files: Sequence[bytes], take: Callable[[_Part], None]) -> None:
    """Call `take` with the parts of all blocks; rows that a later file has again are left out."""
    newest = -1
    for content in files:
        limit = newest
        for block in blocks_in(content):
            try:
                times = [time if time > limit else -1 for time in block.times_ms()]
                newest = max(newest, *times, -1)
                for part in block.series:
                    take(_Part(node, part, times))
            except (ValueError, OverflowError):  # a frame that is whole, and not made by an agent
                continue


def _add(use: TaskUse, column: str, newest: float, greatest: float) -> None:
    match column:
        case "cpu_ms":
            use.cpu_s = round((use.cpu_s or 0) + newest / 1000, 3)
        case "read_kib":
            use.read_bytes = (use.read_bytes or 0) + round(newest * _KIB)
        case "written_kib":
            use.written_bytes = (use.written_bytes or 0) + round(newest * _KIB)
        case "gpu_busy_ms":
            use.gpu_busy_s = round((use.gpu_busy_s or 0) + newest / 1000, 3)
        case "energy_mj":
            use.gpu_energy_j = round((use.gpu_energy_j or 0) + newest / 1000, 3)
        case _:
            use.max_rss_bytes = max(use.max_rss_bytes or 0, round(greatest * _KIB))


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0
