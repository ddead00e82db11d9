"""Reads the telemetry of a run, live or ended: the only reader of its files. Reports, `top` and the summary use it.

Missing, incomplete and damaged files give fewer rows, never an error: what was measured decides nothing.
"""

from pathlib import Path
from typing import TypeVar

from protocol.telemetry.block import Block, SeriesPart, blocks_in
from protocol.telemetry.columns import unpacked
from sflow_ctl.report.telemetry.series import Series, Telemetry, thinned
from sflow_ctl.runtime.record.durable import read_regular
from sflow_ctl.runtime.telemetry.files import TAIL, WHOLE, NodeFile, node_files

T = TypeVar("T")


def read_telemetry(
    directory: Path, *, begin_ms: int | None = None, end_ms: int | None = None, step_ms: int = 0
) -> Telemetry:
    """Return what was measured in a run directory, between two times if they are given.

    With `step_ms` the series have about one row for each step: the last value of counters, the largest of others.
    """
    series: list[Series] = []
    for one in node_files(directory):
        rows = NodeRows(one, begin_ms, end_ms)
        rows.take(_content(one, WHOLE), after_ms=None)
        rows.take(_content(one, TAIL), after_ms=rows.newest_ms)
        series += rows.series.values()
    return Telemetry(tuple(thinned(one, step_ms) if step_ms else one for one in series))


def read_newest(directory: Path) -> Telemetry:
    """Return the rows of about the last minute of a live run: cheap enough to be called each second."""
    series: list[Series] = []
    for one in node_files(directory):
        rows = NodeRows(one, None, None)
        rows.take(_content(one, TAIL), after_ms=None)
        series += rows.series.values()
    return Telemetry(tuple(series))


class NodeRows:
    """The rows of one node, as its files are read in their order."""

    def __init__(self, of: NodeFile, begin_ms: int | None, end_ms: int | None) -> None:
        self.series: dict[tuple[str, str], Series] = {}
        self.newest_ms: int | None = None
        self._of = of
        self._begin_ms, self._end_ms = begin_ms, end_ms
        self._earlier: set[tuple[str, str]] = set()
        """Series with rows before those that were asked for."""

    def take(self, content: bytes, after_ms: int | None) -> None:
        """Add the rows of a file that are later than `after_ms`."""
        for block in blocks_in(content):
            try:
                self._take(block, after_ms)
            except (ValueError, OverflowError):  # a frame that is whole, and not made by an agent
                continue

    def _take(self, block: Block, after_ms: int | None) -> None:
        times = block.times_ms()
        wanted = [
            (after_ms is None or time > after_ms)
            and (self._begin_ms is None or time >= self._begin_ms)
            and (self._end_ms is None or time <= self._end_ms)
            for time in times
        ]
        if times:
            self.newest_ms = max(times[-1], self.newest_ms or 0)
        for part in block.series:
            self._add(part, times, wanted)

    def _add(self, part: SeriesPart, times: list[int], wanted: list[bool]) -> None:
        rows = slice(part.first, part.first + part.rows)
        chosen = wanted[rows]
        key = part.kind, part.name
        if not any(chosen):
            if part.rows and self._begin_ms is not None and times[part.first] < self._begin_ms:
                self._earlier.add(key)
            return
        series = self.series.get(key)
        if series is None:
            series = Series(self._of.node, self._of.name, part.kind, part.name, part.labels)
            series.is_cut = key in self._earlier or not chosen[0]
            self.series[key] = series
        before = len(series.times_ms)
        if before and times[part.first] <= (last := series.times_ms[-1]):  # a message that came twice
            chosen = [is_in and time > last for is_in, time in zip(chosen, times[rows], strict=True)]
        series.times_ms += _of(times[rows], chosen)
        added = len(series.times_ms) - before
        for column in part.columns:
            values = series.columns.setdefault(column.name, [None] * before)
            values += _of(unpacked(column, part.rows), chosen)
        for values in series.columns.values():
            if len(values) < before + added:
                values += [None] * (before + added - len(values))


def _of(values: list[T], chosen: list[bool]) -> list[T]:
    return values if all(chosen) else [value for value, is_in in zip(values, chosen, strict=True) if is_in]


def _content(of: NodeFile, ending: str) -> bytes:
    try:
        return read_regular(of.stem.with_name(of.stem.name + ending))
    except OSError:
        return b""
