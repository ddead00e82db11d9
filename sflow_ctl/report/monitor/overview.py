"""Writes `sflow_monitor.log`: the metrics of a run, their course, its monitors, reports and tasks, as text. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from protocol.messages.monitor import SCOPES
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.monitors import PlannedMonitor
from sflow_ctl.report.monitor.amounts import number_text, scale_of
from sflow_ctl.report.monitor.history import RunHistory
from sflow_ctl.report.monitor.spans import CROSS, ReportSpan
from sflow_ctl.report.monitor.tally import MetricSeries, SummaryTable
from sflow_ctl.report.monitor.windows import iso_time

SPARKS = "▁▂▃▄▅▆▇█"
SPARK_COLUMNS = 60
COURSES: Mapping[str, str] = {
    "gpu_utilization_pct": "GPU util %",
    "gpu_memory_used_mib": "GPU mem used",
    "gpu_power_w": "GPU power W",
    "cpu_utilization_pct": "CPU util %",
    "memory_used_pct": "Mem used %",
    "disk_used_pct": "Disk used %",
    "rx_bytes_per_s": "Net RX MiB/s",
    "tx_bytes_per_s": "Net TX MiB/s",
}
"""Metrics whose course is shown, averaged over all nodes, with their names there."""
_MIB_PER_S = ("rx_bytes_per_s", "tx_bytes_per_s")
MAX_EVENTS = 500


class Overview(Struct, kw_only=True):
    """Everything that the overview says."""

    plan: Plan
    history: RunHistory
    end_ms: int
    directory: str
    """Of the reports, absolute."""
    summary: SummaryTable
    courses: dict[str, MetricSeries]
    """By metric."""
    spans: Sequence[ReportSpan]
    errors: Sequence[str] = ()
    """Why scopes could not be measured, each with its node."""
    problems: Sequence[str] = ()
    """What is missing in the reports, and why."""

    def text(self) -> str:
        """Return the whole file."""
        parts = [
            self._head(),
            _section("Metric Summary", self._metrics()),
            _section("Timelines (average over all nodes)", self._timelines()),
            _section("Collection Errors", self.errors),
            _section("Missing", self.problems),
            _section("Monitors", [_monitor_line(one, self.plan) for one in self.plan.monitors]),
            _section("Task Reports", [self._report_line(one) for one in self.spans]),
            _section("Task Events", self._events()),
        ]
        return "\n\n".join("\n".join(part) for part in parts if part) + "\n"

    def _head(self) -> list[str]:
        nodes = sorted({node.name for node in self.plan.nodes})
        active = {one.scope for monitor in self.plan.monitors for one in monitor.scopes}
        intervals = sorted({one.interval_ms for monitor in self.plan.monitors for one in monitor.scopes})
        begin_ms = self.history.begin_ms
        duration = (self.end_ms - begin_ms) / 1000
        title = "Sflow Monitor"
        lines = [
            title,
            "=" * len(title),
            f"Workflow : {self.plan.workflow}",
            f"Nodes    : {', '.join(nodes[:20])}{f' and {len(nodes) - 20} more' if len(nodes) > 20 else ''}",
            f"Scopes   : {', '.join(scope for scope in sorted(SCOPES) if scope in active) or 'custom'}",
            f"Interval : {', '.join(map(str, intervals)) or '-'} ms",
            f"Window   : {iso_time(begin_ms)[:19]} -> {iso_time(self.end_ms)[:19]} ({duration:.1f}s)",
            f"Samples  : {self.summary.rows}",
            f"Reports  : {self.directory}",
        ]
        if self.summary.is_simulated:
            lines.append("GPUs     : simulated; busy means that a task has them")
        return lines

    def _metrics(self) -> list[str]:
        rows: list[tuple[str, ...]] = [("resource", "metric", "unit", "datapoints", "min", "avg", "max")]
        for (scope, metric), tally in sorted(self.summary.tallies.items()):
            divisor, unit = scale_of(tally.unit, tally.high)
            numbers = (tally.low / divisor, tally.average / divisor, tally.high / divisor)
            rows.append((scope, metric, unit, str(tally.count), *map(number_text, numbers)))
        if len(rows) == 1:
            return ["no values were measured"]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(
                cell.ljust(width) if column < 3 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return [lines[0], "-" * max(map(len, lines)), *lines[1:]]

    def _timelines(self) -> Iterator[str]:
        for metric, name in COURSES.items():
            series = self.courses.get(metric)
            if series is None or not series.bins:
                continue
            divisor = float(1 << 20) if metric in _MIB_PER_S else 1.0
            values = [one.average / divisor for _, one in series.points()]
            low = min(one.low for one in series.bins.values()) / divisor
            high = max(one.high for one in series.bins.values()) / divisor
            average = sum(values) / len(values)
            yield f"{name:<16} |{sparks(values)}| min={low:.2f} avg={average:.2f} max={high:.2f}"

    def _report_line(self, span: ReportSpan) -> str:
        names = sorted({self.plan.nodes[node].name for node in span.nodes})
        gpus = "all" if span.gpus is None else ",".join(sorted(span.gpus, key=_number)) or "none"
        scopes = ",".join(sorted(span.scopes))
        cross = " [cross]" if CROSS in span.folder else ""
        window = f" window={span.window.document['status']}" if span.window is not None else ""
        return f"- {span.folder}{cross}: nodes={','.join(names[:8])} gpus={gpus} scopes={scopes}{window}"

    def _events(self) -> Iterator[str]:
        begin_ms, events = self.history.begin_ms, self.history.events
        for event in events[:MAX_EVENTS]:
            after_s = (event.at_ms - begin_ms) / 1000
            yield f"  +{after_s:8.1f}s  {iso_time(event.at_ms)[:19]}  {event.word:<9} {event.task}"
        if len(events) > MAX_EVENTS:
            yield f"  and {len(events) - MAX_EVENTS} more"


def sparks(values: Sequence[float]) -> str:
    """Return a line of blocks, at most `SPARK_COLUMNS` wide, from the lowest to the highest value."""
    size = max(1, -(-len(values) // SPARK_COLUMNS))
    groups = [values[start : start + size] for start in range(0, len(values), size)]
    averages = [sum(group) / len(group) for group in groups]
    low, high = min(averages), max(averages)
    if high <= low:
        return SPARKS[0] * len(averages)
    return "".join(SPARKS[round((one - low) / (high - low) * (len(SPARKS) - 1))] for one in averages)


def _monitor_line(monitor: PlannedMonitor, plan: Plan) -> str:
    owner = "workflow (workflow)" if monitor.task is None else f"{monitor.task} (task:{monitor.task})"
    nodes = "as its tasks" if monitor.task is not None else "all"
    if monitor.nodes is not None:
        nodes = ",".join(plan.nodes[one].name for one in monitor.nodes)
    scopes = ",".join(f"{one.scope}:{one.interval_ms}ms" for one in monitor.scopes)
    script = " custom script" if monitor.script else ""
    of = f" of tasks {','.join(monitor.used_by)}" if monitor.used_by else ""
    report = " [report]" if monitor.has_report else " [no report]"
    return f"- {owner}{report}: nodes={nodes} scopes={scopes}{script}{of}"


def _section(title: str, lines: "Sequence[str] | Iterator[str]") -> list[str]:
    found = list(lines)
    return [title, "-" * len(title), *found] if found else []


def _number(text: str) -> tuple[int, str]:
    return (int(text), text) if text.isdigit() else (0, text)
