"""Reads how far running tasks are from what their programs write to `$SFLOW_PROGRESS_FILE`, or from their logs.

Who shows a run reads it: it costs the run nothing, and the newest line is all that counts. The file of a task on a node that does
not share the run directory is not here, but its log is.
"""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from protocol.text.ansi import text_of_line
from protocol.text.line_pattern import LinePattern
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.copies.task_list import ByName, kinds_of
from sflow_ctl.plan.log_paths import PROGRESS_FILE, log_path
from sflow_ctl.plan.model import Plan
from sflow_ctl.report.looking.progress import parsed_progress, progress_in
from sflow_ctl.report.run_view import RunView, TaskProgress

TAIL_BYTES = 4096
LOG_BYTES = 64 * 1024
"""Of a log that are searched from its end."""
GRAIN_NS = 50_000_000
"""Times of files lag by as much as a tick of the kernel."""
LINE_END_BYTES = re.compile(rb"\r\n|\r|\n")
_RUNNING = (TaskState.RUNNING, TaskState.READY, TaskState.STOPPING)


def read_progress(state: RunView, directory: Path, plan_of: Callable[[], Plan] | None = None) -> bool:
    """Note in the records of running tasks how far they are; return whether that has changed.

    `plan_of` returns the whole plan, where the state may have one without tasks.
    """
    is_news = False
    plan = state.plan
    if plan.says_progress and not plan.tasks and plan_of is not None:
        plan = plan_of()
    patterns = (
        {kind.base: kind.progress for kind in kinds_of(plan.tasks) if kind.progress}
        if plan.says_progress
        else {}
    )
    by_name = ByName(plan.tasks) if patterns else None
    for record in state.tasks.values():
        if record.state in _RUNNING:
            found = _of_task(directory / record.name / PROGRESS_FILE, record.ordered_wall_ns or 0)
            if found is None and by_name is not None:
                pattern = patterns.get(by_name.base(record.name))
                found = None if pattern is None else _of_log(directory / log_path(record.name), pattern)
            is_news |= found != record.progress
            record.progress = found
    return is_news


def _of_log(path: Path, pattern: str) -> TaskProgress | None:
    """Return what the last whole line says that matches; a log begins anew with each attempt."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            tail = file.read(LOG_BYTES)
    except OSError:
        return None
    lines = LINE_END_BYTES.split(tail)[:-1]
    for line in reversed(lines):
        if (found := progress_in(text_of_line(line), _compiled(pattern))) is not None:
            return found
    return None


@cache
def _compiled(pattern: str) -> LinePattern:
    return LinePattern(pattern)


def _of_task(path: Path, since_wall_ns: int) -> TaskProgress | None:
    """Return what the last whole line says, unless it is an earlier attempt's."""
    try:
        with path.open("rb") as file:
            info = path.stat()
            if info.st_mtime_ns < since_wall_ns - GRAIN_NS:
                return None
            file.seek(max(0, info.st_size - TAIL_BYTES))
            tail = file.read(TAIL_BYTES)
    except OSError:
        return None
    for line in reversed(tail.decode(errors="replace").splitlines()):
        if (found := parsed_progress(line)) is not None:
            return found
    return None
