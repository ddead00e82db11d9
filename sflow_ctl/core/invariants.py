"""Conditions that always hold for a scheduler between two events.

Tests and simulations call this; runs do not pay for it.
"""

from sflow_ctl.core.model.phase import RunPhase
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Requirement, Task, members_needed
from sflow_ctl.core.policy.restart_policy import MAX_MOVES, MAX_RENEWALS
from sflow_ctl.core.states import LIVE, TERMINAL, TaskState
from sflow_ctl.plan.model import Dependency


def check_invariants(run: Run) -> None:
    """Raise AssertionError naming the first violation. Linear in tasks and dependencies."""
    holders = [task for task in run.tasks if task.attempt.placement is not None]
    _check_gpus(run, holders)
    for task in run.tasks:
        _check_task(run, task)
    _check_requirements(run.tasks)
    occupying = sum(task.attempt.placement is not None for task in run.tasks)
    assert run.tally.live == occupying, f"{run.tally.live} counted as live, {occupying} are"
    working = sum(task.is_working for task in run.tasks)
    assert run.tally.working == working, f"{run.tally.working} counted as working, {working} are"
    limit = run.plan.max_running
    assert limit is None or run.plan.revision > 1 or len(holders) <= limit, (
        f"{len(holders)} tasks run, {limit} may"
    )
    unsettled = sum(not task.is_settled for task in run.tasks)
    assert run.tally.unsettled == unsettled, f"{run.tally.unsettled} counted as unsettled, {unsettled} are"
    if run.outcome is not None:
        waiting = [
            task.plan.name
            for task in run.tasks
            if task.state in (TaskState.WAITING, TaskState.QUEUED)
            and task.plan.finally_when is None
            and task.index not in run.shutdown.branch
        ]
        assert not waiting, f"still waiting after the run began to stop: {waiting}"
    for index, node in enumerate(run.nodes):
        assert not node.is_held or not node.load, f"node {index} is held back, and tasks have a place there"
        if node.is_up and not run.windows.has_room(index):
            assert run.windows.unanswered(index), f"node {index} gets no orders, and has answered all"
    if run.phase is RunPhase.FINISHED:
        live = [str(task.attempt_id) for task in run.tasks if task.state not in TERMINAL or task.is_live]
        assert not live, f"finished with live tasks: {live}"


def _check_gpus(run: Run, holders: list[Task]) -> None:
    owner: dict[tuple[int, int], str] = {}
    for task in holders:
        assert task.attempt.placement is not None
        if task.attempt.placement.is_shared:
            continue
        for node in task.attempt.placement.nodes:
            capacity = run.plan.nodes[node].gpus
            if capacity is None:
                continue
            for gpu in task.attempt.placement.gpus:
                assert gpu < capacity, f"{task.attempt_id} has GPU {gpu} of {capacity} on node {node}"
                other = owner.setdefault((node, gpu), task.plan.name)
                assert other == task.plan.name, f"GPU {gpu} of node {node} has {other} and {task.plan.name}"


def _check_task(run: Run, task: Task) -> None:
    name = task.attempt_id
    assert task.retries_used <= task.plan.retries.count, f"{name} is one attempt too many"
    assert task.infra_used <= task.plan.retries.infra_count, f"{name} is one attempt after a fault too many"
    assert task.moves <= MAX_MOVES, f"{name} was started elsewhere {task.moves} times"
    assert task.renewals <= MAX_RENEWALS, f"{name} got other ports {task.renewals} times"
    assert not task.attempt.is_unsent or task.state is TaskState.STARTING, (
        f"{name} is {task.state} without processes"
    )
    if task.attempt.is_seeking:
        assert task.attempt.is_unsent, f"{name} looks for a checkpoint, and has processes"
        assert task.index in run.seeking, f"{name} looks for a checkpoint unnoticed"
        assert task.attempt.seeking_on is not None
        assert not run.nodes[task.attempt.seeking_on].is_gone, f"{name} looks for a checkpoint on a lost node"
    is_there = task.is_live or task.is_reserved
    assert (task.attempt.placement is not None) == is_there, (
        f"{name} is {task.state} and holds {task.attempt.placement}"
    )
    assert not task.is_reserved or task.state in (TaskState.WAITING, TaskState.QUEUED), (
        f"{name} keeps its place"
    )
    held = task.attempt.held.keys()
    assert held <= task.attempt.open_ranks, f"{name} holds an exit that has counted"
    assert task.attempt.open_ranks - held <= task.attempt.uncleared or not task.is_live, (
        f"{name} has a rank without a tree"
    )
    if task.state is TaskState.STOPPING:
        assert task.attempt.verdict is not None, f"{name} is stopping towards no end"
    unmet = sum(not is_satisfied(run, dependency) for dependency in task.wanted.depends_on)
    if run.outcome is None:
        unmet += task.wanted.finally_when is not None
        assert task.unmet == unmet, f"{name} counts {task.unmet} unmet dependencies, has {unmet}"
    if task.state is TaskState.STARTING and task.attempt.number == 1 and task.state in LIVE:
        assert task.attempt.open_ranks, f"{name} is starting without ranks"


def _check_requirements(tasks: list[Task]) -> None:
    """Check that tasks which need something, and those that it is about, know of the same requirements."""
    needed: dict[int, set[int]] = {}
    about: dict[int, set[int]] = {}
    every: dict[int, Requirement] = {}
    for task in tasks:
        for one in task.needs:
            needed.setdefault(id(one), set()).add(task.index)
            every[id(one)] = one
        for one in task.requirements:
            about.setdefault(id(one), set()).add(task.index)
            every[id(one)] = one
    for key, one in every.items():
        names = [tasks[index].plan.name for index in one.members]
        assert one.dependants, f"nothing waits for {names} to be {one.until}"
        assert set(one.dependants) == needed.get(key, set()), f"others wait for {names} to be {one.until}"
        assert set(one.members) == about.get(key, set()), f"{names} do not know that they are waited for"
        holding = sum(tasks[index].holding(one.until) for index in one.members)
        assert one.holding == holding, f"{one.holding} of {names} counted as {one.until}, {holding} are"


def is_satisfied(run: Run, dependency: Dependency) -> bool:
    """Return whether a dependency holds now."""
    if dependency.is_group:
        members = [
            task
            for task in run.tasks
            if task.plan.base == dependency.task and not (task.wanted.removed_in or task.wanted.is_grown)
        ]
    else:
        members = [run.task_named(dependency.task)]
    holding, size = sum(one.holding(dependency.until) for one in members), sum(one.share for one in members)
    return holding >= members_needed(dependency, members[0].wanted, size)
