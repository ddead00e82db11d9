"""The steps of a run's end: which tasks are stopped when, and which run at the end."""

from collections.abc import Sequence

from sflow_ctl.core.model.steps import FinalStep, Step, StopStep
from sflow_ctl.core.model.task import Task


def ending_steps(tasks: Sequence[Task]) -> list[Step]:
    """Return the steps from the moment when nothing new starts. Tasks that need the services come first."""
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
