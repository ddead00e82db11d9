"""Makes the reports of monitors at the end of a run, from the raw files: tables, charts, windows, the overview.

Called by `run/workflow.py` after the summary is written. Files are read line by line, a node at a time, so that the length of
a run and the number of its nodes cost time, not memory. What cannot be made is said, and fails nothing.
"""

import contextlib
import heapq
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import msgspec

from protocol.messages.monitor import Scope
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.report.monitor.chart import Chart, TaskBar
from sflow_ctl.report.monitor.history import RunHistory
from sflow_ctl.report.monitor.metrics import MetricRow, RawReader, ScopeError
from sflow_ctl.report.monitor.overview import COURSES, Overview
from sflow_ctl.report.monitor.spans import ReportSpan, report_spans
from sflow_ctl.report.monitor.tally import MetricSeries, SummaryTable
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


class _Line(NamedTuple):
    """The rows of one line of a raw file, with their time, and the file as a cell of a table."""

    at_ms: int
    rows: list[MetricRow]
    source: str


class _HurriedError(Exception):
    """The user, or the end of the job's time, allows no more reports."""


LOOK_EVERY = 1024
"""Lines between two looks at whether there is still time."""


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
        try:
            for span in spans:
                self._try_report(span)
        except _HurriedError:
            self.problems.append("there was no time left for all reports; the raw readings are complete")
        for node, count in sorted(self._recorder.dropped.items()):
            if count:
                self.problems.append(
                    f"{self._plan.nodes[node].name}: {count} readings were dropped, the controller was too late for them"
                )
        if self._recorder.refused:
            self.problems.append(
                f"{self._recorder.refused} messages of agents were refused: too many at once"
            )
        try:
            self._overview(spans)
        except OSError as error:
            self.problems.append(f"{OVERVIEW} cannot be written: {error.strerror}")

    # ------------------------------------------------------------------ one report

    def _try_report(self, span: ReportSpan) -> None:
        """Make a report; one that cannot be made leaves the others. Raises: _HurriedError."""
        if self._is_hurried():
            raise _HurriedError
        try:
            self._report(span)
        except OSError as error:
            self.problems.append(f"{span.folder} cannot be written: {error.strerror}")
        except (ValueError, OverflowError) as error:  # a node whose clock is beyond all calendars
            self.problems.append(f"{span.folder} cannot be made: {error}")

    def _report(self, span: ReportSpan) -> None:
        folder = self._directory / DIRECTORY / span.folder
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier controller of a resumed run
        for path in (folder.parent.parent, folder.parent, folder):
            path.mkdir(mode=0o700, exist_ok=True)
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
        has_table = "csv" in span.formats
        is_drawn = "svg" in span.formats or "png" in span.formats
        unfinished = folder / f".{TIMELINE}.part"
        with _opened(unfinished) if has_table else io.StringIO() as file:
            file.write(f"{','.join(HEADER)}\n")
            for node in span.nodes:
                host = self._plan.nodes[node].name
                chart = Chart(f"{span.title} on {host}", span.begin_ms, span.end_ms)
                for line in self._lines_of(node):
                    rows = span.rows_of(line.at_ms, line.rows)
                    if not rows:
                        continue
                    if has_table:
                        file.write(_cells(line, rows, self._plan.nodes[node].index, host))
                    for row in rows:
                        summary.add(row)
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

    def _lines_of(self, node: int) -> Iterator[_Line]:
        """Yield the lines of a node in the order of their times, which are corrected for its clock. Raises: _HurriedError."""
        by_ms = self._recorder.correction_ms(node)
        paths = raw_paths(self._directory, self._plan, node)
        files = [_read(scope, path, by_ms) for scope, path in paths.items()]
        for number, line in enumerate(heapq.merge(*files, key=_time)):
            if number % LOOK_EVERY == 0 and self._is_hurried():
                raise _HurriedError
            yield line

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
        courses = {metric: MetricSeries(self._history.begin_ms, self._end_ms) for metric in COURSES}
        with contextlib.suppress(_HurriedError):
            for node in range(len(self._plan.nodes)):
                for line in self._lines_of(node):
                    for row in line.rows:
                        summary.add(row)
                        if row.metric in courses and row.value is not None:
                            courses[row.metric].add(row.at_ms, row.value)
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


def _opened(path: Path) -> TextIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    return open(descriptor, "w", encoding="utf-8", newline="")  # noqa: PTH123 - a descriptor has no path


def _time(line: _Line) -> int:
    return line.at_ms


def _read(scope: Scope, path: Path, by_ms: int) -> Iterator[_Line]:
    """Yield the lines of a raw file that have rows."""
    reader, source = RawReader(scope), _quoted(str(path))
    for text in _lines(path):
        found = reader.rows(text)
        rows = [row for row in found if isinstance(row, MetricRow)]
        if rows:
            at_ms = rows[0].at_ms + by_ms
            yield _Line(at_ms, [row._replace(at_ms=at_ms) for row in rows] if by_ms else rows, source)


def _quoted(cell: str) -> str:
    """Return a path as a cell of a table."""
    return '"' + cell.replace('"', '""') + '"' if set(cell) & set(',"\n\r') else cell


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        yield from file


def _cells(line: _Line, rows: Sequence[MetricRow], node: int, host: str) -> str:
    """Return rows of one time as lines of the table; a raw file has no commas but between its fields."""
    at_ms = line.at_ms
    head = f"{at_ms // 1000}.{at_ms % 1000:03d},{iso_time(at_ms)},{node},{host}"
    return "".join(
        f"{head},{row.scope},{row.resource},{row.metric},{'' if row.value is None else row.value},"
        f"{row.unit},{row.text},{line.source}\n"
        for row in rows
    )
