"""Whom a run tells of its course, and how. A part of `Plan`."""

from typing import Literal, TypeAlias

import msgspec

NoticeEvent: TypeAlias = Literal[
    "ready", "failure", "end", "run_succeeded", "run_failed", "task_succeeded", "task_failed", "task_finished", "progress_stalled"
]  # fmt: skip
"""All services are ready for the first time; the first task has failed for good; the run has ended, in any way, with exit status
0, or with another one; a task has completed, has failed for good, or has ended in any way; or it prints nothing any more."""
OF_TASKS: frozenset[NoticeEvent] = frozenset(
    ("task_succeeded", "task_failed", "task_finished", "progress_stalled")
)


class PlannedNotice(msgspec.Struct, frozen=True, kw_only=True):
    """A command or a webhook. One of both is given."""

    on: tuple[NoticeEvent, ...]
    command: tuple[str, ...] = ()
    webhook: str = ""
    tasks: tuple[str, ...] = ("*",)
    """Patterns of tasks, of which the events of tasks are sent."""
    timeout_s: float
    stalled_s: float | None = None
    """Of `progress_stalled`: without output for so long."""
