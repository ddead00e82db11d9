"""Finds tasks that can never run because they wait for the failure and for the success of the same task.

Called when the tasks are expanded, where the graph is known to have no cycle.
"""

from collections.abc import Sequence

from sflow_ctl.format import schema
from sflow_ctl.plan.graph import topological_order
from sflow_ctl.planner.findings import Findings


def find_impossible(tasks: Sequence[schema.Task], findings: Findings) -> None:
    """Add a finding for each task whose dependencies contradict each other, directly or through other tasks."""
    may_fail = {one.task for task in tasks for one in task.dependencies if one.until == "failed"}
    if not may_fail:
        return  # nearly all workflows; only these tasks matter, or the sets would grow with the length of a chain
    by_name = {task.name: task for task in tasks}
    completed: dict[str, frozenset[str]] = {}
    failed: dict[str, frozenset[str]] = {}
    for name in topological_order({task.name: [one.task for one in task.dependencies] for task in tasks}):
        good: set[str] = set()
        bad: set[str] = set()
        for one in by_name[name].dependencies:
            if one.until == "finished":
                continue  # it holds of a task that never ran as well
            good |= completed[one.task]
            bad |= failed[one.task]
            if one.until == "failed":
                bad.add(one.task)
            elif one.task in may_fail and _means_success(one, by_name[one.task]):
                good.add(one.task)
        both = sorted(good & bad)
        if both:
            what = (
                f'task "{name}" can never run: it waits for the failure of "{both[0]}", and for its success'
            )
            where = findings.loaded.where("tasks", name, "depends_on")
            findings.add("never-runs", what, where, "wait for one of them, or use `until: finished`")
        # What waits for this one has the same problem; it is said once.
        completed[name], failed[name] = frozenset(good - bad), frozenset(bad - good)


def _means_success(one: schema.Dependency, target: schema.Task) -> bool:
    """Return whether a dependency holds only if its task never fails; one that has been ready may still do so."""
    if one.until == "completed":
        return True
    has_readiness = bool(target.probes_of("readiness"))
    return one.until == "available" and not has_readiness and target.kind != "service"
