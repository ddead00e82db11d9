"""Which tasks still run although a failure ends everything else: those that wait for that very failure. Pure.

`actions.stopping` asks when a task with `on_failure: cancel` or `drain` has failed.
"""

from collections.abc import Collection, Iterable, Sequence

from sflow_ctl.core.model.task import NEEDS_IT_ALIVE, Requirement, Task
from sflow_ctl.core.states import LIVE, TERMINAL, TaskState
from sflow_ctl.plan.words import Until

ENDS = frozenset[Until]({"failed", "finished"})
"""What a dependant of these waits for comes to hold by a failure."""
_WAITING = (TaskState.WAITING, TaskState.QUEUED)


def of_failures(tasks: Sequence[Task], failed: Iterable[Task], *, may_others_end: bool) -> set[int]:
    """Return the tasks that wait for these failures, for ends that follow from them, or for one of such tasks.

    With `may_others_end` live tasks may finish (a drain); otherwise they are cancelled, which lets `finished`
    hold, and nothing else that they have not reached.
    """
    ending = _ending_with(tasks, failed)
    branch = {task.index for task in tasks if _is_waiting(task) and _is_seed(tasks, task, ending)}
    branch |= _following(tasks, branch)
    while impossible := {
        index
        for index in branch
        if not all(_is_possible(tasks, one, branch, may_others_end) for one in tasks[index].needs)
    }:
        branch -= impossible
    under_way = (task.index for task in tasks if task.state in LIVE and _is_after_failure(task))
    return branch.union(under_way)


def needed_alive(tasks: Sequence[Task], branch: Collection[int]) -> set[int]:
    """Return the tasks that must keep serving for those of a branch that have not started."""
    return {
        member
        for index in branch
        if _is_waiting(tasks[index])
        for one in tasks[index].needs
        if one.until in NEEDS_IT_ALIVE
        for member in one.members
        if tasks[member].is_live
    }


def _is_waiting(task: Task) -> bool:
    return task.state in _WAITING and task.plan.finally_when is None


def _ending_with(tasks: Sequence[Task], failed: Iterable[Task]) -> set[int]:
    """Return the failed tasks, and those that can never start because of them."""
    found = {task.index for task in failed}
    pending = list(found)
    while pending:
        for one in tasks[pending.pop()].requirements:
            if one.until in ENDS or one.is_met:
                continue
            new = {index for index in one.dependants if index not in found and _is_waiting(tasks[index])}
            found |= new
            pending.extend(new)
    return found


def _is_seed(tasks: Sequence[Task], task: Task, ending: Collection[int]) -> bool:
    """Return whether a task waits for one of these ends, for a live task's, or for a failure that has happened."""
    if task.index in ending:
        return False
    return any(
        one.until in ENDS
        and (
            (one.until == "failed" and one.is_met)
            or any(member in ending or tasks[member].state in LIVE for member in one.members)
        )
        for one in task.needs
    )


def _is_after_failure(task: Task) -> bool:
    return any(one.until == "failed" and one.is_met for one in task.needs)


def _following(tasks: Sequence[Task], branch: Iterable[int]) -> set[int]:
    """Return the waiting tasks that need a task of the branch, however far."""
    found: set[int] = set()
    pending = list(branch)
    while pending:
        for one in tasks[pending.pop()].requirements:
            new = {index for index in one.dependants if index not in found and _is_waiting(tasks[index])}
            found |= new
            pending.extend(new)
    return found


def _is_possible(
    tasks: Sequence[Task], one: Requirement, branch: Collection[int], may_others_end: bool
) -> bool:
    holding = sum(_may_hold(tasks[index], one.until, branch, may_others_end) for index in one.members)
    return holding >= one.needed


def _may_hold(task: Task, until: Until, branch: Collection[int], may_others_end: bool) -> int:
    if until in task.met or task.state in TERMINAL:
        return task.holding(until)
    may_hold = until == "finished" or task.index in branch or (may_others_end and task.state in LIVE)
    return task.share if may_hold else 0
