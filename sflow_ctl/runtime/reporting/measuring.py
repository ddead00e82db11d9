"""Reads what was measured of a run: telemetry, and the monitors' raw files. Called by `gathering.py` where there are any."""

import heapq
from collections.abc import Iterator, Mapping
from pathlib import Path

from protocol.messages.monitor import Scope
from sflow_ctl.plan.model import Plan
from sflow_ctl.report.monitor.metrics import MetricRow, RawReader
from sflow_ctl.report.run_report.measured import Measurements
from sflow_ctl.report.run_report.model import UsageReport
from sflow_ctl.report.run_report.task_use import TaskUse
from sflow_ctl.report.run_report.usage import UsageTally
from sflow_ctl.runtime.monitor.files import RAW, raw_paths
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.durable import read_regular
from sflow_ctl.runtime.telemetry.files import TAIL, WHOLE, NodeFile, node_files


def measured_of(
    directory: Path, plan: Plan, began: int, end: int, problems: list[str]
) -> tuple[UsageReport | None, Mapping[str, TaskUse]]:
    """Return the courses of a run from `began` to `end`, in ns since 1970, and what its tasks have used.

    What cannot be read is added to `problems`.
    """
    tally, uses = UsageTally(began // 1_000_000, end // 1_000_000), dict[str, TaskUse]()
    if (directory / layout.TELEMETRY).exists():
        measurements = Measurements(tally)
        for take in (measurements.take, measurements.take_busiest):  # a run of days does not fit into memory
            for one in node_files(directory):
                take(one.name, _content(one, WHOLE), _content(one, TAIL))
        uses = measurements.uses
    if (directory / RAW).exists():
        _add_monitors(tally, directory, plan, problems)
    return tally.report(), uses


def _content(of: NodeFile, ending: str) -> bytes:
    try:
        return read_regular(of.stem.with_name(of.stem.name + ending))
    except OSError:
        return b""


def _add_monitors(tally: UsageTally, directory: Path, plan: Plan, problems: list[str]) -> None:
    """Add what monitors have measured and telemetry has not."""
    known = tally.metrics()
    for position, node in enumerate(plan.nodes):
        try:
            files = [_rows(scope, path) for scope, path in raw_paths(directory, plan, position).items()]
            for rows in heapq.merge(*files, key=lambda rows: rows[0].at_ms):
                tally.add(node.name, rows, known)
        except OSError as error:
            problems.append(f"the readings of {node.name} cannot be read: {error.strerror}")


def _rows(scope: Scope, path: Path) -> Iterator[list[MetricRow]]:
    reader = RawReader(scope)
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for line in file:
            rows = [row for row in reader.rows(line) if isinstance(row, MetricRow)]
            if rows:
                yield rows
