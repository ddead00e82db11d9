"""Reads how far running tasks are from what their programs write to `$SFLOW_PROGRESS_FILE`.

Who shows a run reads it: it costs the run nothing, and the newest line is all that counts. Tasks on nodes that do not share the
run directory have no progress here.
"""

from pathlib import Path

from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.log_paths import PROGRESS_FILE
from sflow_ctl.report.looking.progress import parsed_progress
from sflow_ctl.report.run_view import RunView, TaskProgress

TAIL_BYTES = 4096
GRAIN_NS = 50_000_000
"""Times of files lag by as much as a tick of the kernel."""
_RUNNING = (TaskState.RUNNING, TaskState.READY, TaskState.STOPPING)


def read_progress(state: RunView, directory: Path) -> bool:
    """Note in the records of running tasks how far they are; return whether that has changed."""
    is_news = False
    for record in state.tasks.values():
        if record.state in _RUNNING:
            found = _of_task(directory / record.name / PROGRESS_FILE, record.ordered_wall_ns or 0)
            is_news |= found != record.progress
            record.progress = found
    return is_news


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
