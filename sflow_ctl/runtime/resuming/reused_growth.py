"""Lists and loops of a new run that takes over results of others: it begins with the copies and iterations that count."""

from collections.abc import Sequence
from pathlib import Path

from sflow_ctl.core.policy.dependencies import BY_CONDITION
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.revisions.blocks import without_stale
from sflow_ctl.plan.revisions.growing import grown_like
from sflow_ctl.runtime.resuming.reusing import reuse, source_of
from sflow_ctl.runtime.run.options import RunOptions
from sflow_ctl.runtime.run.resume import PriorRun


def with_reused_growth(plan: Plan, options: RunOptions, output_dir: Path) -> Plan:
    """Return the plan of a new run with what the plans of other runs have grown by, as far as its results are taken over.

    Raises: UsageError for runs and tasks that there are not.
    """
    texts, workspace = options.tasks.reuse, options.workflow.workspace_dir
    priors = [source_of(text, output_dir, workspace).prior for text in texts]
    grown = plan
    for prior in reversed(priors):  # the first run that has something counts
        grown = grown_like(grown, prior.state.plan)
    if len(grown.tasks) == len(plan.tasks):
        return plan
    found = reuse(grown, texts, options.tasks.reuse_anyway, output_dir, workspace)
    hits = {one.task for one in found.decisions if one.decision in ("hit", "forced")}
    return without_stale(grown, lambda name: name in hits or _was_skipped(name, priors))


def _was_skipped(name: str, priors: Sequence[PriorRun]) -> bool:
    """Return whether a task did not run because of a condition: that is decided again, as it was."""
    record = next((run.state.tasks[name] for run in priors if name in run.state.tasks), None)
    if record is None or record.state is not TaskState.SKIPPED or record.reason is None:
        return False
    return record.reason.word in BY_CONDITION
