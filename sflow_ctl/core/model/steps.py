"""The steps in which a run stops: tasks are stopped in waves, and tasks at the run's end are run.

Which steps a run takes is decided in `policy.shutdown_steps`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sflow_ctl.core.model.task import Task
from sflow_ctl.core.states import TERMINAL


class StopStep(NamedTuple):
    """Stops live tasks, in waves."""

    with_services: bool
    with_finals: bool = False

    def includes(self, task: Task) -> bool:
        """Return whether this step ends a task."""
        if not task.is_live:
            return False
        if task.plan.finally_when is not None:
            return self.with_finals
        return self.with_services or not task.plan.is_service


class FinalStep(NamedTuple):
    """Runs tasks at the end of the run."""

    tasks: tuple[int, ...]

    def is_over(self, tasks: Sequence[Task]) -> bool:
        """Return whether all of them have ended without remaining processes."""
        return all(tasks[index].state in TERMINAL and not tasks[index].is_live for index in self.tasks)

    def limit_s(self, tasks: Sequence[Task]) -> float:
        """Return the seconds that they may take together: one after the other, with all their attempts."""
        return sum((tasks[i].plan.timeout_s or 0.0) * (tasks[i].plan.retries.count + 1) for i in self.tasks)


Step = StopStep | FinalStep

EVERYBODY = StopStep(with_services=True, with_finals=True)
