"""Reads the windows that tasks of a run have marked, and what was used within them. Called at the end of a run."""

from contextlib import suppress
from pathlib import Path

import msgspec

from protocol.messages.telemetry import MarkedWindow
from sflow_ctl.report.telemetry.use import WindowUse
from sflow_ctl.report.telemetry.windows import window_uses
from sflow_ctl.runtime.record.durable import UNREADABLE, read_regular
from sflow_ctl.runtime.telemetry.files import WINDOWS, folder
from sflow_ctl.runtime.telemetry.reader import read_telemetry
from sflow_ctl.runtime.telemetry.recorder import StoredWindow

MARGIN_MS = 600_000
"""Rows before and after a window that its ends are interpolated with; thinned ones are this far apart at most."""


def read_windows(directory: Path) -> list[MarkedWindow]:
    """Return the windows of a run; none where there are none, or the file cannot be read."""
    found: dict[MarkedWindow, None] = {}
    with suppress(OSError):
        for line in read_regular(folder(directory) / WINDOWS).splitlines():
            with suppress(*UNREADABLE):
                found[msgspec.json.decode(line, type=StoredWindow).window] = None
    return list(found)


def uses_of_windows(directory: Path) -> dict[str, list[WindowUse]]:
    """Return what each task used within its windows."""
    windows = read_windows(directory)
    if not windows:
        return {}
    begin = min(one.begin_ms for one in windows)
    ends = [one.end_ms for one in windows]
    known = [end for end in ends if end is not None]
    end = max(known) + MARGIN_MS if len(known) == len(ends) else None
    return window_uses(windows, read_telemetry(directory, begin_ms=begin - MARGIN_MS, end_ms=end))
