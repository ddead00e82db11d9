"""Updates the counters of dependencies when a task changes its state. Pure; they are never counted anew."""

from collections.abc import Collection, Iterator, Sequence
from functools import cache

from msgspec import Struct

from sflow_ctl.core.model.task import BY_ITEMS, NEEDS_IT_ALIVE, Requirement, Task
from sflow_ctl.core.states import LIVE, TERMINAL, TaskState
from sflow_ctl.plan.words import Until

S = TaskState
_REACHED: dict[TaskState, frozenset[Until]] = {
    S.RUNNING: frozenset({"started"}),
    S.READY: frozenset({"started", "ready", "available"}),
    S.COMPLETED: frozenset({"started", "available", "completed", "settled", "finished"}),
}
"""How far a task has come by entering a state. It holds until another attempt follows."""
_NOWHERE = frozenset({S.WAITING, S.QUEUED, S.STARTING})
"""What has not come any way has not in one of these either."""
_UNHAPPY: frozenset[Until] = frozenset({"finished", "failed"})
_NEVER_RAN: frozenset[Until] = frozenset({"finished"})


BY_CONDITION = frozenset({"when", "upstream_skipped"})
"""Reasons of tasks that were skipped because of a condition, their own or that of a task that they need: no failure."""


class Changes(Struct, frozen=True):
    """Tasks that are affected by another task's change of state, in plan order."""

    startable: list[Task]
    unsatisfiable: list[tuple[Task, str]]
    """Their dependencies can no longer be met, and why."""


_NOTHING_REACHED = frozenset[Until]()
_NOTHING = Changes([], [])
"""Of a task that no other one waits for; never added to."""


@cache
def reached(state: TaskState, before: frozenset[Until]) -> frozenset[Until]:
    """Return how far a task has come when it enters `state`, having come as far as `before`; tasks share the sets."""
    match state:
        case S.RUNNING | S.READY | S.COMPLETED:
            return before | _REACHED[state]
        case S.FAILED | S.TIMEOUT | S.LOST:
            return _UNHAPPY | (before & {"started", "ready"})
        case S.CANCELLED | S.SKIPPED:
            return _NEVER_RAN | (before & {"started", "ready"})
        case S.STARTING | S.STOPPING:
            return before
        case _:
            return frozenset()


def update(tasks: list[Task], task: Task, *, was_end: bool = False) -> Changes:
    """Update the requirements that `task`, whose state has changed, is a member of.

    A service that is being restarted is no longer ready: tasks that have not started wait for it again. `was_end` says that it
    had ended before.
    """
    before, was_serving, state = task.met, task.is_serving, task.state
    if task.next_plan is not None:  # it starts again with another plan, or is removed
        task.met = _NOTHING_REACHED
    elif before or state not in _NOWHERE:
        task.met = reached(state, before)
        if _is_settled(task):
            task.met |= {"settled"}
    task.is_serving = is_serving = state is TaskState.READY and task.next_plan is None
    if not task.requirements:
        return _NOTHING
    changes = Changes([], [])
    more_serve = is_serving - was_serving
    left_before, task.counted_left = task.counted_left, task.share_left
    for requirement in task.requirements:
        was_met = requirement.is_met
        requirement.serving += more_serve
        lost = _count(requirement, task, before, left_before, was_end=was_end)
        if requirement.is_met and not was_met:
            changes.startable.extend(_one_less(tasks, requirement.dependants))
        elif was_met and not requirement.is_met:
            for target in requirement.dependants:
                tasks[target].unmet += 1
        if requirement.possible < requirement.needed <= requirement.possible + lost:
            because = f"needs {task.plan.name}, which is {task.state}"
            changes.unsatisfiable.extend((tasks[target], because) for target in requirement.dependants)
    return changes


def _count(
    requirement: Requirement, task: Task, before: frozenset[Until], left_before: int, *, was_end: bool
) -> int:
    """Count a task that had come as far as `before`, with so many items that had all that is needed.

    Returns how many members it can be no more.
    """
    until, share = requirement.until, task.share
    had, has = until in before, until in task.met
    was_left, is_left = (left_before, task.counted_left) if until in BY_ITEMS else (0, 0)
    requirement.holding += (share if has else is_left) - (share if had else was_left)
    if was_end and not had:
        requirement.possible += share - was_left
    lost = share - is_left if task.state in TERMINAL and not has else 0
    requirement.possible -= lost
    return lost


def _is_settled(task: Task) -> bool:
    """Return whether a task that has not completed has ended in a way that does not count against the run."""
    if task.state is S.SKIPPED:
        return task.last_reason is not None and task.last_reason.word in BY_CONDITION
    if task.plan.quorum is not None and task.last_reason is not None and task.last_reason.word == "enough":
        return True
    is_tolerated = task.plan.on_failure == "continue" or task.plan.quorum is not None
    return is_tolerated and task.state in (S.FAILED, S.TIMEOUT, S.LOST)


def word_of_skip(tasks: Sequence[Task], task: Task) -> str:
    """Return the word for why a task is skipped whose needs can no longer be met: a condition, or a failure."""
    lacking = [
        tasks[index]
        for one in task.needs
        if one.possible < one.needed
        for index in one.members
        if tasks[index].state in TERMINAL and one.until not in tasks[index].met
    ]
    is_by_condition = lacking and all(
        one.state is S.SKIPPED and one.last_reason is not None and one.last_reason.word in BY_CONDITION
        for one in lacking
    )
    return "upstream_skipped" if is_by_condition else "upstream"


def never_met(tasks: list[Task], task: Task, restarted: Collection[int] = ()) -> str:
    """Say which of a task's needs can no longer be met, as the end of a sentence; empty if none.

    Those of `restarted` that have ended may meet them after all.
    """
    for requirement in task.needs:
        if requirement.possible < requirement.needed:
            ended = (index for index in requirement.members if tasks[index].state in TERMINAL)
            lacking = [index for index in ended if requirement.until not in tasks[index].met]
            final = [index for index in lacking if index not in restarted]
            again = sum(tasks[one].lacking(requirement.until) for one in lacking if one in restarted)
            if final and requirement.possible + again < requirement.needed:
                one = tasks[final[0]]
                return f"it needs {one.plan.name}, which is {one.state}"
    return ""


def end_has_come(task: Task) -> bool:
    """Count the run's end as met for a task that runs then; return True when the task may start."""
    return _meet_one(task)


def _one_less(tasks: list[Task], targets: list[int]) -> Iterator[Task]:
    for target in targets:
        if _meet_one(tasks[target]):
            yield tasks[target]


def _meet_one(task: Task) -> bool:
    task.unmet -= 1
    return task.unmet == 0 and task.state is TaskState.WAITING and not task.is_delayed


def needers(tasks: list[Task], task: Task) -> Iterator[Task]:
    """Yield the tasks that have not ended and still need `task`: without it too few members serve."""
    for requirement in task.requirements:
        others = requirement.serving - task.is_serving
        if requirement.until in NEEDS_IT_ALIVE and others < requirement.needed:
            for target in requirement.dependants:
                if tasks[target].state not in TERMINAL:
                    yield tasks[target]


def running_users(tasks: list[Task], task: Task) -> Iterator[Task]:
    """Yield the tasks that run and need `task` alive, whether or not other members would be enough for them."""
    found: set[int] = set()
    for requirement in task.requirements:
        if requirement.until in NEEDS_IT_ALIVE:
            found.update(requirement.dependants)
    for index in sorted(found):
        if tasks[index].state in LIVE and tasks[index].state is not TaskState.STOPPING:
            yield tasks[index]
