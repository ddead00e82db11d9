"""Windows of telemetry that lines of a task's log begin and end: the finder of monitors' windows, one for each name."""

from collections.abc import Callable
from functools import partial

from protocol.messages.monitor import LogWindow, RankWindow
from protocol.messages.telemetry import MarkedWindow
from sflow_agent.monitor.windows import WindowWatch


def watches(
    windows: tuple[LogWindow, ...], found: Callable[[MarkedWindow], None], warn: Callable[[str], None]
) -> list[WindowWatch]:
    """Return what watches the logs; `found` is called for each window of a log that is complete."""
    return [WindowWatch((one,), partial(_found, one.name, found), warn) for one in windows]


def _found(name: str, found: Callable[[MarkedWindow], None], window: RankWindow) -> None:
    if window.start is not None:
        end_ms = None if window.end is None else window.end.at_ms
        found(MarkedWindow(rank=window.rank, name=name, begin_ms=window.start.at_ms, end_ms=end_ms))
