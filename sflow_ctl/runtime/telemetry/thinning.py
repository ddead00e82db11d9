"""Keeps the file of a node within its limit: the oldest blocks of the resolution that takes most are made coarser, ten times.

Called by the recorder's thread after each block; nearly always it only asks for the size.
"""

import os
import time
from pathlib import Path
from typing import NamedTuple

from protocol.telemetry.block import SeriesPart, frame, frames_in, make_block, make_part
from sflow_ctl.report.telemetry.series import Series, thinned
from sflow_ctl.runtime.record.durable import read_regular, write_for_now
from sflow_ctl.runtime.telemetry.files import NodeFile
from sflow_ctl.runtime.telemetry.reader import NodeRows

PART = 8
"""So many parts of the limit are made coarser in turn."""
COARSEST = 3
"""Blocks of this level are dropped, the oldest first."""
ROWS = 360


class _Frame(NamedTuple):
    begin: int
    end: int
    level: int
    """Steps of about 10 to this power seconds, or less."""


def thinned_file(path: Path, limit: int) -> bool:
    """Make a file smaller that is larger than its limit; return whether it was. Raises: OSError."""
    if os.stat(path).st_size <= limit:  # noqa: PTH116
        return False
    content = read_regular(path)
    frames = _frames(content)
    sizes = {
        level: sum(one.end - one.begin for one in frames if one.level == level)
        for level in {one.level for one in frames}
    }
    if not sizes:
        write_for_now(path, b"")
        return True
    level = max(sizes, key=lambda one: sizes[one])
    first = next(index for index, one in enumerate(frames) if one.level == level)
    last, taken = first, 0
    while last < len(frames) and frames[last].level == level and taken <= limit // PART:
        taken += frames[last].end - frames[last].begin
        last += 1
    begin, end = frames[first].begin, frames[last - 1].end
    step_ms = 10 ** (level + 1) * 1000
    coarse = b"" if level >= COARSEST else _coarser(content[begin:end], step_ms)
    write_for_now(path, content[:begin] + coarse + content[end : frames[-1].end])
    return True


def _frames(content: bytes) -> list[_Frame]:
    found: list[_Frame] = []
    for begin, end, block in frames_in(content):
        times = block.times_ms()
        step_s = (times[-1] - times[0]) / max(1, len(times) - 1) / 1000
        found.append(_Frame(begin, end, sum(step_s >= limit for limit in (5, 50, 500))))
    return found


def _coarser(content: bytes, step_ms: int) -> bytes:
    """Return blocks with about one row for each step."""
    rows = NodeRows(NodeFile(0, "", Path()), None, None)
    rows.take(content, after_ms=None)
    series = []
    for one in rows.series.values():
        series.append(thinned(one, step_ms))
        time.sleep(0)  # other threads get their turn
    times = sorted({at // step_ms for one in series for at in one.times_ms})
    made = [_block(series, times[begin : begin + ROWS], step_ms) for begin in range(0, len(times), ROWS)]
    return b"".join(made)


def _block(series: list[Series], steps: list[int], step_ms: int) -> bytes:
    """Return one block; each step's time is its end, so that rows of all series share it."""
    position = {step: row for row, step in enumerate(steps)}
    parts: list[SeriesPart] = []
    for one in series:
        rows = [
            (position[at // step_ms], index)
            for index, at in enumerate(one.times_ms)
            if at // step_ms in position
        ]
        if not rows:
            continue
        first, last = rows[0][0], rows[-1][0]
        columns: dict[str, list[int | None]] = {}
        for name, values in one.columns.items():
            columns[name] = [None] * (last - first + 1)
            for row, index in rows:
                columns[name][row - first] = values[index]
        parts.append(make_part(one.kind, one.name, first, columns, one.labels))
    return frame(make_block([(step + 1) * step_ms - 1 for step in steps], parts))
