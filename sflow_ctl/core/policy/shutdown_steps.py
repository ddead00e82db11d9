"""How a run ends, step by step: who is stopped when, and which tasks run at the end."""

from collections.abc import Sequence

from sflow_ctl.core.model.steps import FinalStep, Step, StopStep
from sflow_ctl.core.model.task import Task

GONE_MARGIN_S = 10.0
"""Before the job's end: agents still have to leave."""
FORCE_MARGIN_S = 5.0
"""Before the job's end: what is left by then is killed, or Slurm would do it without a report."""


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
