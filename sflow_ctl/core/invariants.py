"""What is always true of a scheduler between two events. Tests and simulations call this; runs do not
pay for it.
"""

from sflow_ctl.core.restart_policy import MAX_RENEWALS
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.core.states import LIVE, TERMINAL, TaskState
from sflow_ctl.core.tasks import Task, members_needed
from sflow_ctl.plan.model import Dependency


def check_invariants(scheduler: Scheduler) -> None:
    """Raises AssertionError naming the first thing that is wrong. Linear in tasks and dependencies."""
    holders = [task for task in scheduler.tasks if task.taken is not None]
    _check_gpus(scheduler, holders)
    for task in scheduler.tasks:
        _check_task(scheduler, task)
    limit = scheduler.plan.max_running
    assert limit is None or len(holders) <= limit, f"{len(holders)} tasks run, {limit} may"
    unsettled = sum(not task.is_settled for task in scheduler.tasks)
    assert scheduler.unsettled == unsettled, f"{scheduler.unsettled} counted as unsettled, {unsettled} are"
    if scheduler.outcome is not None:
        waiting = [
            task.plan.name
            for task in scheduler.tasks
            if task.state in (TaskState.WAITING, TaskState.QUEUED) and task.plan.finally_when is None
        ]
        assert not waiting, f"still waiting after the run began to stop: {waiting}"
    if scheduler.is_finished:
        live = [
            str(task.attempt_id) for task in scheduler.tasks if task.state not in TERMINAL or task.is_live
        ]
        assert not live, f"finished with live tasks: {live}"


def _check_gpus(scheduler: Scheduler, holders: list[Task]) -> None:
    owner: dict[tuple[int, int], str] = {}
    for task in holders:
        assert task.taken is not None
        if task.taken.is_shared:
            continue
        for node in task.taken.nodes:
            capacity = scheduler.plan.nodes[node].gpus
            if capacity is None:
                continue
            for gpu in task.taken.gpus:
                assert gpu < capacity, f"{task.attempt_id} has GPU {gpu} of {capacity} on node {node}"
                other = owner.setdefault((node, gpu), task.plan.name)
                assert other == task.plan.name, f"GPU {gpu} of node {node} has {other} and {task.plan.name}"


def _check_task(scheduler: Scheduler, task: Task) -> None:
    name = task.attempt_id
    assert task.retries_used <= task.plan.retries.count, f"{name} is one attempt too many"
    assert task.renewals <= MAX_RENEWALS, f"{name} got other ports {task.renewals} times"
    assert not task.is_unsent or task.state is TaskState.STARTING, f"{name} is {task.state} without processes"
    is_there = task.is_live or task.is_kept
    assert (task.taken is not None) == is_there, f"{name} is {task.state} and holds {task.taken}"
    assert not task.is_kept or task.state in (TaskState.WAITING, TaskState.QUEUED), f"{name} keeps its place"
    assert task.open_ranks <= task.uncleared or not task.is_live, f"{name} has a rank without a tree"
    if task.state is TaskState.STOPPING:
        assert task.end is not None, f"{name} is stopping towards no end"
    unmet = sum(not is_satisfied(scheduler, dependency) for dependency in task.plan.depends_on)
    if scheduler.outcome is None:
        unmet += task.plan.finally_when is not None
        assert task.unmet == unmet, f"{name} counts {task.unmet} unmet dependencies, has {unmet}"
    if task.state is TaskState.STARTING and task.attempt == 1 and task.state in LIVE:
        assert task.open_ranks, f"{name} is starting without ranks"


def is_satisfied(scheduler: Scheduler, dependency: Dependency) -> bool:
    """True when a dependency holds now."""
    if dependency.is_group:
        members = [task for task in scheduler.tasks if task.plan.base == dependency.task]
    else:
        members = [scheduler.task_named(dependency.task)]
    holding = sum(dependency.until in member.met for member in members)
    return holding >= members_needed(dependency, members)
