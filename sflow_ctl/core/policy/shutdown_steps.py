"""How a run ends, step by step: who is stopped when, and which tasks run at the end."""

from collections.abc import Sequence
from typing import NamedTuple

from sflow_ctl.core.model.task import Task
from sflow_ctl.core.states import TERMINAL


class StopStep(NamedTuple):
    """Stops live tasks, in waves."""

    with_services: bool
    with_finals: bool = False

    def includes(self, task: Task) -> bool:
        """True for a task that this step ends."""
        if not task.is_live:
            return False
        if task.plan.finally_when is not None:
            return self.with_finals
        return self.with_services or not task.plan.is_service


class FinalStep(NamedTuple):
    """Runs tasks that are there for the end."""

    tasks: tuple[int, ...]

    def is_over(self, tasks: Sequence[Task]) -> bool:
        """True when all of them have ended and left nothing."""
        return all(tasks[index].state in TERMINAL and not tasks[index].is_live for index in self.tasks)

    def limit_s(self, tasks: Sequence[Task]) -> float:
        """Seconds that they may take together: one after the other, with all their attempts."""
        return sum((tasks[i].plan.timeout_s or 0.0) * (tasks[i].plan.retries.count + 1) for i in self.tasks)


Step = StopStep | FinalStep


def ending_steps(tasks: Sequence[Task]) -> list[Step]:
    """What happens from the moment when nothing new starts any more. Tasks that need the services come first."""
    finals = [task for task in tasks if task.plan.finally_when is not None]
    beside = tuple(task.index for task in finals if task.plan.finally_when == "services_up")
    after = tuple(task.index for task in finals if task.plan.finally_when == "after_stop")
    steps: list[Step] = []
    if beside:
        steps += [StopStep(with_services=False), FinalStep(beside)]
    steps.append(StopStep(with_services=True))
    if after:
        steps.append(FinalStep(after))
    return steps


EVERYBODY = StopStep(with_services=True, with_finals=True)
