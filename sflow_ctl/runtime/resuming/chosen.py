"""The rerun of tasks that a person has chosen, in a run that has ended: refused before anything starts if it cannot be.

Called by `cli/commands/rerun.py` and by `runtime/run/resume.py`, once it has read what is there.
"""

from typing import TYPE_CHECKING

from protocol.errors import Finding, UsageError
from sflow_ctl.plan.model import Plan
from sflow_ctl.report.selecting.rerun import Before, Rerun, RerunChoice, rerun

if TYPE_CHECKING:
    from sflow_ctl.runtime.run.planning import PlannedRun


def chosen_rerun(plan: Plan, before: Before, choice: RerunChoice) -> Rerun:
    """Return what a rerun does with each task. Raises: UsageError for a chosen task that cannot run."""
    found = rerun(plan, before, choice)
    if found.refused:
        hint = "choose what it needs as well; without tasks and --query all that is left runs"
        raise UsageError(
            [
                Finding("cannot-rerun", f"{name} cannot run again: {why}", hint=hint)
                for name, why in found.refused.items()
            ]
        )
    return found


def runs_nothing(planned: "PlannedRun", choice: RerunChoice) -> bool:
    """Return whether a rerun of a run that had completed has nothing to do. Raises: UsageError for one that cannot be."""
    from sflow_ctl.runtime.artifacts.contents import with_contents
    from sflow_ctl.runtime.run.resume import prior_results

    assert planned.earlier is not None
    plan = with_contents(planned.plan)
    results, found = prior_results(planned.earlier, plan, choice, is_dry=True)
    at_end = {task.name for task in plan.tasks if task.finally_when is not None}
    is_new = any(task.name not in results and task.name not in at_end for task in plan.tasks)
    return not is_new and all(one.task in at_end for one in found.again) and not found.left
