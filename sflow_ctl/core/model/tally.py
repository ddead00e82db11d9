"""Counts of tasks that the scheduler needs after every event, so that it never counts all tasks again.

Only `transitions` calls this: every change of a task's state, delay or place happens there.
"""

from collections.abc import Iterable

from msgspec import Struct

from sflow_ctl.core.model.task import Task
from sflow_ctl.core.states import LIVE, TERMINAL, TaskState


class Tally(Struct):
    """Counts over all tasks of a run."""

    has_mains: bool = False
    mains_left: int = 0
    """Main tasks that have not ended."""
    unsettled: int = 0
    """Tasks that the run waits for."""
    working: int = 0
    """Tasks that will end, become ready or start again without a further event."""
    live: int = 0
    """Tasks that occupy a place."""
    jobs: int = 0
    """Live tasks that are not services."""

    @classmethod
    def of(cls, tasks: Iterable[Task]) -> "Tally":
        """Count tasks that all wait."""
        plans = [task.plan for task in tasks]
        mains = sum(plan.is_main for plan in plans)
        unsettled = sum(plan.finally_when is None for plan in plans)
        return cls(has_mains=mains > 0, mains_left=mains, unsettled=unsettled)

    def add(self, task: Task) -> None:
        """Count a task in its present state."""
        self._count(task, 1)

    def remove(self, task: Task) -> None:
        """Undo `add`, before the task's state changes."""
        self._count(task, -1)

    def _count(self, task: Task, by: int) -> None:
        """Count a task as its `is_settled` and `is_working` say. A task of a chain is counted eight times."""
        state, plan = task.state, task.plan
        is_over = state in TERMINAL
        only_serves = state is TaskState.READY and plan.is_service
        if not (is_over or only_serves or plan.finally_when is not None):
            self.unsettled += by
        if task.is_delayed or (state in LIVE and not only_serves):
            self.working += by
        if plan.is_main and not is_over:
            self.mains_left += by

    def occupy(self, task: Task) -> None:
        """Count a task that takes a place."""
        self.live += 1
        self.jobs += not task.plan.is_service

    def release(self, task: Task) -> None:
        """Undo `occupy`."""
        self.live -= 1
        self.jobs -= not task.plan.is_service
