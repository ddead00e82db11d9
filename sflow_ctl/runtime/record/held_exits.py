"""Finds tasks that were done when their controller was killed, though their exit did not count yet.

An exit is held until the task's log and outputs are here (`core/actions/exit_gate.py`). The journal has the exit, but no
end of the task: without this a resume would do finished work again. Called by `resume.py`.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from protocol.ids import RankId
from protocol.messages.facts import RankExited
from sflow_ctl.core.events import AgentJoined, LogArrived, MessageReceived, SchedulerEvent
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.log_paths import log_path
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.report.run_view import TaskRecord
from sflow_ctl.runtime.journal.reader import entries_of

_UNJUDGED = (TaskState.STARTING, TaskState.RUNNING, TaskState.READY)
_WANTED = (b'"rank_exited"', b'"log_arrived"')
"""Only these lines are decoded: the events of a large run are most of its journal."""


class HeldSuccess(Struct, frozen=True):
    """A task whose processes have all exited with success, while its exit did not count yet."""

    attempt: int
    exit_code: int | None
    runtime_s: float
    has_log: bool
    """Its whole log is in the run directory."""


def held_successes(
    directory: Path, tasks: Mapping[str, PlannedTask], records: Mapping[str, TaskRecord]
) -> dict[str, HeldSuccess]:
    """Return the jobs that were done by what the journal has of their last attempt, and were still counted as running."""
    open_attempts = {
        name: records[name].attempts
        for name, task in tasks.items()
        if not task.is_service and name in records and records[name].state in _UNJUDGED
    }
    if not open_attempts:
        return {}
    exits: dict[RankId, RankExited] = {}
    arrived: set[RankId] = set()
    for event in _events(directory):
        if isinstance(event, LogArrived):
            arrived.add(event.rank)
            continue
        ended = event.hello.exited if isinstance(event, AgentJoined) else ()
        if isinstance(event, MessageReceived) and isinstance(event.message, RankExited):
            ended = (event.message,)
        exits.update(
            (one.rank, one)
            for one in ended
            if open_attempts.get(one.rank.attempt.task) == one.rank.attempt.number
        )
    found = {}
    of_task: dict[str, list[RankExited]] = {}
    for rank, one in exits.items():
        of_task.setdefault(rank.attempt.task, []).append(one)
    for name, attempt in open_attempts.items():
        ended = tuple(of_task.get(name, ()))
        if len({one.rank.rank for one in ended}) == tasks[name].world_size and all(
            _is_success(tasks[name], one) for one in ended
        ):
            last = max(ended, key=lambda one: one.runtime_s)
            has_log = all(one.log_bytes == 0 or one.rank in arrived for one in ended)
            has_log = has_log or (len(ended) == 1 and _size(directory / log_path(name)) >= last.log_bytes)
            found[name] = HeldSuccess(attempt, last.exit_code, last.runtime_s, has_log)
    return found


def _is_success(task: PlannedTask, exited: RankExited) -> bool:
    return exited.exit_code in task.success_exit_codes and exited.cause is None and not exited.was_asked


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _events(directory: Path) -> Iterator[SchedulerEvent]:
    with suppress(OSError):
        for entry in entries_of(directory, _WANTED):
            if entry.event is not None:
                yield entry.event
