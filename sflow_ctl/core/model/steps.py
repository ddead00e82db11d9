"""The steps in which a run stops: tasks are stopped in waves, and tasks at the run's end are run.

Which steps a run takes is decided in `policy.shutdown_steps`.
"""

from collections.abc import Sequence, Set

from msgspec import Struct

from sflow_ctl.core.model.task import Task
from sflow_ctl.core.states import TERMINAL, TaskState


class StopStep(Struct, frozen=True, tag=True):
    """Stops live tasks, in waves."""

    with_services: bool
    with_finals: bool = False
    spared: frozenset[int] = frozenset()
    """Tasks that continue: tasks that wait for a failure, and their dependencies."""

    def includes(self, task: Task) -> bool:
        """True for a task that this step ends."""
        if not task.is_live or task.index in self.spared:
            return False
        if task.plan.finally_when is not None:
            return self.with_finals
        return self.with_services or not task.plan.is_service


class FinalStep(Struct, frozen=True, tag=True):
    """Runs tasks at the end of the run."""

    tasks: tuple[int, ...]

    def is_over(self, tasks: Sequence[Task]) -> bool:
        """Return whether all of them have ended without remaining processes."""
        return all(tasks[index].state in TERMINAL and not tasks[index].is_live for index in self.tasks)

    def limit_s(self, tasks: Sequence[Task]) -> float:
        """Return the seconds that they may take together: one after the other, with all their attempts."""
        return sum((tasks[i].plan.timeout_s or 0.0) * (tasks[i].plan.retries.count + 1) for i in self.tasks)


class BranchStep(Struct, frozen=True, tag=True):
    """Runs the tasks that wait for the failure which ends the run, as far as they can run now."""

    tasks: frozenset[int]
    is_last: bool = False
    """Everything else has been stopped: what cannot run now never will."""

    def is_over(self, tasks: Sequence[Task], deciding: Set[int]) -> bool:
        """Return True when none of them will go further by itself; those `deciding` will, a ready service will not."""
        return deciding.isdisjoint(self.tasks) and not any(
            _is_under_way(tasks[index]) for index in self.tasks
        )

    def left(self, tasks: Sequence[Task]) -> set[int]:
        """Return those that have not started."""
        return {index for index in self.tasks if tasks[index].state in (TaskState.WAITING, TaskState.QUEUED)}


def _is_under_way(task: Task) -> bool:
    return task.is_working or (task.state in TERMINAL and task.is_live)


Step = StopStep | FinalStep | BranchStep

ALL_TASKS = StopStep(with_services=True, with_finals=True)
