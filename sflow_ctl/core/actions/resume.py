"""Decides which tasks a resumed run need not run again, and where the others continue. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sflow_ctl.core.actions.transitions import change
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model.attempt import Attempt
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.states import Reason, TaskState, Transition
from sflow_ctl.plan.graph import dependency_names, topological_order
from sflow_ctl.plan.model import Plan, PlannedTask

_PLACED = frozenset(
    {
        "CUDA_VISIBLE_DEVICES",
        "SFLOW_TASK_ASSIGNED_NODE_NAMES",
        "SFLOW_TASK_ASSIGNED_NODE_IPS",
    }
)
"""Variables that depend on where a task runs: it is the same task elsewhere."""


class PriorResult(NamedTuple):
    """The result of a task from earlier controllers of the run."""

    state: TaskState
    attempt: int
    """The last one, whose log is kept."""
    is_done: bool = False
    """It has completed and need not run again."""
    outputs: dict[str, Any] | None = None


def is_same_work(old: PlannedTask, new: PlannedTask) -> bool:
    """Return whether two tasks do the same work: the same command with the same environment."""
    return (
        old.script == new.script
        and old.operator_kind == new.operator_kind
        and old.outputs == new.outputs
        and old.files == new.files
        and _environment(old) == _environment(new)
    )


def _environment(task: PlannedTask) -> dict[str, str]:
    return {name: value for name, value in task.env.items() if name not in _PLACED}


def done_tasks(old: Plan, new: Plan, states: Mapping[str, TaskState]) -> tuple[set[str], list[str]]:
    """Return (tasks that need not run again, completed tasks that have changed).

    A job counts when it has completed, is the same work, and so does every job before it. A service counts
    only when all its dependants do, since they need it otherwise. Tasks at the end of the run always run
    again.
    """
    before = {task.name: task for task in old.tasks}
    members = new.members()
    by_name = {task.name: task for task in new.tasks}
    needs = {task.name: list(dependency_names(task, members)) for task in new.tasks}
    done: set[str] = set()
    changed: list[str] = []
    for name in topological_order(needs):
        task = by_name[name]
        if task.is_service or task.finally_when is not None or states.get(name) is not TaskState.COMPLETED:
            continue
        if name not in before or not is_same_work(before[name], task):
            changed.append(name)
        elif all(other in done or by_name[other].is_service for other in needs[name]):
            done.add(name)
    return done | _unneeded_services(by_name, needs, done), changed


def _unneeded_services(
    by_name: Mapping[str, PlannedTask], needs: Mapping[str, list[str]], done: set[str]
) -> set[str]:
    """Return the services whose dependants are all done, or are such services themselves."""
    dependants: dict[str, list[str]] = {name: [] for name in by_name}
    for name, others in needs.items():
        for other in others:
            dependants[other].append(name)
    unneeded: set[str] = set()
    for name in reversed(topological_order(needs)):
        users = dependants[name]
        if by_name[name].is_service and users and all(user in done or user in unneeded for user in users):
            unneeded.add(name)
    return unneeded


def take_over(run: Run, out: Effects, earlier: Mapping[str, PriorResult]) -> list[Transition]:
    """Take over completed tasks; return the transitions to record of all others, which start again."""
    again: list[Transition] = []
    for task in run.tasks:
        before = earlier.get(task.plan.name)
        if before is None:
            continue
        task.attempt = Attempt(number=before.attempt)
        if before.is_done:
            run.outputs[task.plan.name] = before.outputs or {}
            change(run, out, task, TaskState.COMPLETED, Reason("resumed", "it had completed before"))
        elif before.state is not TaskState.WAITING:
            reason = Reason("resumed", f"it was {before.state}; the run is resumed")
            again.append(
                Transition(
                    task=task.plan.name,
                    attempt=before.attempt,
                    old=before.state,
                    new=TaskState.WAITING,
                    reason=reason,
                )
            )
    return again
