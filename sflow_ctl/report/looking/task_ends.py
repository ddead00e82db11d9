"""The exit status of one task, as `sflow-ctl wait` returns it, and whether a task has come as far as is waited for. Pure."""

from typing import Literal

from protocol.errors import ExitStatus
from sflow_ctl.core.states import TERMINAL, TaskState
from sflow_ctl.report.run_view import TaskRecord

Goal = Literal["ready", "end"]
SIGNAL_BASE = 128
"""A shell's status of a program that a signal has ended is this plus the signal's number."""


def task_exit_status(record: TaskRecord) -> int | None:
    """Return the status of a task that has ended: 0 only for one that completed; None while it may still run."""
    if record.state not in TERMINAL:
        return None
    if record.state is TaskState.COMPLETED:
        return int(ExitStatus.OK)
    if record.state is TaskState.TIMEOUT:
        return int(ExitStatus.TIME_LIMIT)
    if record.state is TaskState.LOST:
        return int(ExitStatus.INFRASTRUCTURE)
    if record.signal is not None:
        return SIGNAL_BASE + record.signal
    word = record.reason.word if record.reason is not None else ""
    if record.state is TaskState.CANCELLED and word == "interrupted" and not record.attempts:
        return int(ExitStatus.INTERRUPTED)
    return record.exit_code or int(ExitStatus.RUN_FAILED)


def has_come(record: TaskRecord, goal: Goal) -> bool:
    """Return whether a task has reached the goal: a job that has completed counts as ready."""
    if goal == "end":
        return record.state in TERMINAL
    return record.state in (TaskState.READY, TaskState.COMPLETED)


def can_no_longer_come(record: TaskRecord, goal: Goal) -> bool:
    """Return whether a task has ended without having reached the goal."""
    return record.state in TERMINAL and not has_come(record, goal)
