"""The window of a task, from what agents have found in the logs of its ranks: `window.json`, and the time it covers. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from protocol.messages.monitor import Mark, RankWindow
from sflow_ctl.plan.monitors import PlannedWindow

SCHEMA_VERSION = "sflow.monitor-window.v1"
NO_START, NO_END = "start marker not found", "end marker not found after the selected start"
NO_LOG = "its log was not searched: the task did not run, or its node was lost"


class TaskWindow(Struct, frozen=True):
    """What was found for one concrete task."""

    task: str
    log: str
    """Absolute."""
    start: Mark | None
    end: Mark | None
    error: str = ""


class ReportWindow(Struct, frozen=True):
    """The time that a report covers, and its document; None for the time if the window was not found."""

    span_ms: tuple[int, int] | None
    document: dict[str, Any]


def task_window(
    task: str, log: str, found: Mapping[tuple[int, int], RankWindow], window: PlannedWindow
) -> TaskWindow:
    """Return the window of a task's last attempt, over all of its ranks."""
    if not found:
        return TaskWindow(task, log, None, None, NO_LOG)
    last = max(attempt for attempt, _ in found)
    ranks = [one for (attempt, _), one in found.items() if attempt == last]
    starts = sorted((one.start for one in ranks if one.start is not None), key=_time)
    if not starts:
        return TaskWindow(task, log, None, None, NO_START)
    start = starts[-1 if window.start.is_last else 0]
    ends = sorted(
        (one.end for one in ranks if one.end is not None and one.end.at_ms >= start.at_ms), key=_time
    )
    if not ends:
        return TaskWindow(task, log, start, None, NO_END)
    return TaskWindow(task, log, start, ends[-1 if window.end.is_last else 0])


def report_window(tasks: Sequence[TaskWindow], window: PlannedWindow) -> ReportWindow:
    """Return the window of a report about one task, or about all replicas of one: from the first start to the last end."""
    missing = [one for one in tasks if one.start is None or one.end is None]
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "status": "unresolved" if missing or not tasks else "matched",
        "sources": [_source(one, window) for one in tasks],
    }
    marks = [(one.start, one.end) for one in tasks if one.start is not None and one.end is not None]
    if missing or not marks:
        names = ", ".join(one.task for one in missing) or "none"
        document["error"] = f"unresolved owner runtime task(s): {names}"
        return ReportWindow(None, document)
    start, end = min((one for one, _ in marks), key=_time), max((one for _, one in marks), key=_time)
    document["start"] = _mark(start, window.start.is_last)
    document["end"] = _mark(end, window.end.is_last)
    document["duration_seconds"] = (end.at_ms - start.at_ms) / 1000
    return ReportWindow((start.at_ms, end.at_ms), document)


def iso_time(at_ms: int) -> str:
    """Return a time of this machine's zone, `2026-11-29 13:17:36.621`."""
    return f"{datetime.fromtimestamp(at_ms // 1000):%Y-%m-%d %H:%M:%S}.{at_ms % 1000:03d}"


def _time(mark: Mark) -> int:
    return mark.at_ms


def _source(one: TaskWindow, window: PlannedWindow) -> dict[str, Any]:
    source: dict[str, Any] = {
        "runtime_task": one.task,
        "source_log": one.log,
        "status": "unresolved" if one.error else "matched",
    }
    if one.start is not None:
        source["start"] = _mark(one.start, window.start.is_last)
    if one.end is not None:
        source["end"] = _mark(one.end, window.end.is_last)
    if one.error:
        source["error"] = one.error
    return source


def _mark(mark: Mark, is_last: bool) -> dict[str, Any]:
    return {
        "timestamp": mark.at_ms / 1000,
        "timestamp_iso": iso_time(mark.at_ms),
        "byte_offset": mark.offset,
        "line": mark.line,
        "line_truncated": mark.is_cut,
        "matched_patterns": list(mark.patterns),
        "select": "last" if is_last else "first",
        "match_count": mark.count,
    }
