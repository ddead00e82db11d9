"""Makes the reports of monitors at the end of a run, from the raw files: tables, charts, windows, the overview.

Called by `run/workflow.py` after the summary is written. Files are read line by line, a node at a time, so that the length of
a run and the number of its nodes cost time, not memory. What cannot be made is said, and fails nothing.
"""

import csv
import heapq
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from protocol.messages.monitor import Scope
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.report.monitor.chart import Chart, TaskBar
from sflow_ctl.report.monitor.history import RunHistory
from sflow_ctl.report.monitor.metrics import RawReader, Row, ScopeError
from sflow_ctl.report.monitor.overview import COURSES, Overview
from sflow_ctl.report.monitor.spans import ReportSpan, report_spans
from sflow_ctl.report.monitor.tally import Series, SummaryTable
from sflow_ctl.report.monitor.windows import iso_time
from sflow_ctl.runtime.monitor.files import (
    DIRECTORY,
    NO_WINDOW,
    OVERVIEW,
    SUMMARY,
    TIMELINE,
    WINDOW,
    host_of,
    raw_paths,
)
from sflow_ctl.runtime.monitor.recorder import MonitorRecorder
from sflow_ctl.runtime.record.durable import write_durably

HEADER = (
    "timestamp",
    "timestamp_iso",
    "node_id",
    "hostname",
    "resource_type",
    "resource_id",
    "metric_name",
    "metric_value",
    "metric_unit",
    "metric_text",
    "source_log",
)


class _Source(NamedTuple):
    """A row, with the raw file that it comes from."""

    row: Row
    path: str


class MonitorReports:
    """The reports of one run. `is_hurried` returns whether the user wants an end: what is not made yet is left out."""

    def __init__(
        self, directory: Path, plan: Plan, recorder: MonitorRecorder, is_hurried: Callable[[], bool]
    ) -> None:
        self._directory = directory.absolute()
        self._plan = plan
        self._recorder = recorder
        self._history: RunHistory = recorder.history
        self._is_hurried = is_hurried
        self._end_ms = time.time_ns() // 1_000_000
        self.problems: list[str] = []
        """What is missing, for people."""

    def write(self) -> None:
        """Make all reports. Problems are in `problems`."""
        spans = report_spans(self._plan, self._history, str(self._directory), self._end_ms)
        for span in spans:
            if self._is_hurried():
                self.problems.append("interrupted: some reports are not made")
                break
            try:
                self._report(span)
            except OSError as error:
                self.problems.append(f"{span.folder} cannot be written: {error.strerror}")
        for node, count in sorted(self._recorder.dropped.items()):
            if count:
                self.problems.append(
                    f"{self._plan.nodes[node].name}: {count} readings were dropped, the controller was too late for them"
                )
        try:
            self._overview(spans)
        except OSError as error:
            self.problems.append(f"{OVERVIEW} cannot be written: {error.strerror}")

    # ------------------------------------------------------------------ one report

    def _report(self, span: ReportSpan) -> None:
        folder = self._directory / DIRECTORY / span.folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if span.window is not None:
            name = WINDOW if span.is_found else NO_WINDOW
            text = msgspec.json.format(msgspec.json.encode(span.window.document), indent=2)
            write_durably(folder / name, SECRETS.mask.raw(text) + b"\n")
            if not span.is_found:
                sources = ", ".join(
                    f"{one['runtime_task']}: {one['error']}"
                    for one in span.window.document["sources"]
                    if "error" in one
                )
                self.problems.append(f"the window of {span.folder} was not found: {sources or 'no task ran'}")
                return
        summary, charts = self._tables(span, folder)
        if "csv" in span.formats:
            write_durably(folder / SUMMARY, summary.csv().encode())
        bars = self._bars(span)
        for chart, name in charts:
            drawing = chart.svg(bars)
            if "svg" in span.formats:
                write_durably(folder / f"{name}.svg", drawing.encode())
            if "png" in span.formats:
                self._png(drawing, folder / f"{name}.png")

    def _tables(self, span: ReportSpan, folder: Path) -> tuple[SummaryTable, list[tuple[Chart, str]]]:
        """Write `timeline.csv`; return the summary, and a chart for each node with its file's name."""
        summary, charts = SummaryTable(), []
        is_drawn = "svg" in span.formats or "png" in span.formats
        unfinished = folder / f".{TIMELINE}.part"
        with (
            unfinished.open("w", encoding="utf-8", newline="")
            if "csv" in span.formats
            else io.StringIO() as file
        ):
            table = csv.writer(file, lineterminator="\n") if "csv" in span.formats else None
            if table is not None:
                table.writerow(HEADER)
            for node in span.nodes:
                host = self._plan.nodes[node].name
                chart = Chart(f"{span.title} on {host}", span.begin_ms, span.end_ms)
                for row, path in self._rows(node):
                    if not span.has(row):
                        continue
                    summary.add(row)
                    if table is not None:
                        table.writerow(_cells(row, node, host, path))
                    if is_drawn:
                        chart.add(row)
                if is_drawn:
                    charts.append((chart, self._chart_name(span, node)))
        if "csv" in span.formats:
            unfinished.rename(folder / TIMELINE)
        return summary, charts

    def _chart_name(self, span: ReportSpan, node: int) -> str:
        """Return `timeline`, or one name for each host if there are several."""
        if len(span.nodes) == 1:
            return "timeline"
        host = host_of(self._plan, node)
        same = [one for one in span.nodes if host_of(self._plan, one) == host]
        return f"timeline.{host}" if len(same) == 1 else f"timeline.{host}.{node}"

    def _bars(self, span: ReportSpan) -> list[TaskBar]:
        """Return the tasks of the report's nodes, in the order of their starts."""
        bars = [
            TaskBar(name, times.begin_ms, times.end_ms or self._end_ms)
            for name, times in self._history.tasks.items()
            if times.begin_ms is not None and times.nodes & set(span.nodes)
        ]
        return sorted(bars, key=lambda bar: (bar.begin_ms, bar.name))

    def _png(self, drawing: str, path: Path) -> None:
        try:
            import cairosvg  # the extra "png"
        except (ImportError, OSError) as error:  # OSError: the package is here, the cairo library is not
            text = f'no PNG: pip install "sflow-ctl[png]" ({error})'
            if text not in self.problems:
                self.problems.append(text)
            return
        write_durably(path, cairosvg.svg2png(bytestring=drawing.encode(), scale=2))

    # ------------------------------------------------------------------ the raw files

    def _rows(self, node: int) -> Iterator[_Source]:
        """Yield the rows of a node in the order of their times, which are corrected for its clock."""
        by_ms = self._recorder.correction_ms(node)
        files = [
            _read(scope, path, by_ms) for scope, path in raw_paths(self._directory, self._plan, node).items()
        ]
        for row, path in heapq.merge(*files, key=lambda source: source.row.at_ms):
            if isinstance(row, Row):
                yield _Source(row, path)

    def _errors(self, node: int) -> Iterator[str]:
        for scope, path in raw_paths(self._directory, self._plan, node).items():
            reader = RawReader(scope)
            for line in _lines(path):
                if ",ERROR," in line:
                    for found in reader.rows(line):
                        if isinstance(found, ScopeError):
                            yield f"{self._plan.nodes[node].name}: {scope}: {found.text}"

    # ------------------------------------------------------------------ the overview

    def _overview(self, spans: list[ReportSpan]) -> None:
        summary = SummaryTable()
        courses: dict[str, Series] = {}
        for node in range(len(self._plan.nodes)):
            if self._is_hurried():
                break
            for row, _ in self._rows(node):
                summary.add(row)
                if row.metric in COURSES and row.value is not None:
                    series = courses.setdefault(row.metric, Series(self._history.begin_ms, self._end_ms))
                    series.add(row.at_ms, row.value)
        errors = dict.fromkeys(text for node in range(len(self._plan.nodes)) for text in self._errors(node))
        text = Overview(
            plan=self._plan,
            history=self._history,
            end_ms=self._end_ms,
            directory=str(self._directory / DIRECTORY),
            summary=summary,
            courses=courses,
            spans=spans,
            errors=list(errors),
            problems=self.problems,
        ).text()
        write_durably(self._directory / OVERVIEW, SECRETS.mask.raw(text.encode()))


def _read(scope: Scope, path: Path, by_ms: int) -> Iterator[_Source]:
    reader, name = RawReader(scope), str(path)
    for line in _lines(path):
        for row in reader.rows(line):
            if isinstance(row, Row):
                yield _Source(row._replace(at_ms=row.at_ms + by_ms) if by_ms else row, name)


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        yield from file


def _cells(row: Row, node: int, host: str, path: str) -> tuple[object, ...]:
    value = "" if row.value is None else row.value
    seconds = f"{row.at_ms // 1000}.{row.at_ms % 1000:03d}"
    return (
        seconds,
        iso_time(row.at_ms),
        node,
        host,
        row.scope,
        row.resource,
        row.metric,
        value,
        row.unit,
        row.text,
        path,
    )
