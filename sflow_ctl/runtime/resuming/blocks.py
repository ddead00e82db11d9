"""Blocks of a resumed run: iterations that were made of results which do not count any more are left out of its plan."""

from typing import TYPE_CHECKING

from sflow_ctl.core.policy.dependencies import BY_CONDITION
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.revisions.blocks import without_stale
from sflow_ctl.runtime.run.resume import PriorRun, prior_results

if TYPE_CHECKING:
    from sflow_ctl.report.selecting.rerun import RerunChoice


def with_iterations_that_count(run: PriorRun, plan: Plan, choice: "RerunChoice | None") -> Plan:
    """Return the plan of a resumed run with the iterations of its loops that still count. Raises: UsageError."""
    if not plan.blocks:
        return plan
    results, _ = prior_results(run, plan, choice, is_dry=True)

    def is_same(name: str) -> bool:
        record = run.state.tasks.get(name)
        if record is not None and record.state is TaskState.SKIPPED:
            return record.reason is not None and record.reason.word in BY_CONDITION
        return name in results and results[name].is_done

    return without_stale(plan, is_same)
