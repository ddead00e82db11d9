"""Links the tasks of a live run anew, when a revision has given some of them other dependencies. Called by `revisions`."""

from collections.abc import Iterator, Sequence

from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Links, Requirement, Task, count, link
from sflow_ctl.core.states import TERMINAL


def link_anew(tasks: Sequence[Task]) -> None:
    """Give tasks the requirements of the plans that they have, or will have, and count them by how far tasks have come."""
    for task in tasks:
        task.requirements = task.needs = ()
    link(tasks)
    counted = {id(one): one for task in tasks for one in task.requirements}
    for one in counted.values():
        count(one, [tasks[index] for index in one.members])
    for task in tasks:
        _count_unmet(task)


def link_more(run: Run, changed: Task, new: Sequence[Task]) -> list[Task]:
    """Link tasks that have joined a live run in the place of one; return those that wait for others than before.

    What it costs is that of these tasks: all others keep their requirements.
    """
    if run.links is None:
        run.links = Links.of(run.plan)
    else:
        run.links.grow(changed, new)
    links, tasks = run.links, run.tasks
    stale = {id(one) for one in changed.requirements} if changed.wanted.is_grown else set()
    waiting = {index for one in changed.requirements if id(one) in stale for index in one.dependants}
    again = [tasks[index] for index in sorted(waiting | {changed.index})]
    if stale:  # its members are the new tasks now
        for one in changed.requirements:
            links.forget(one)
        changed.requirements = ()
    left: dict[int, tuple[Requirement, set[int]]] = {}
    for task in (*again, *new):
        before = {id(one): one for one in task.needs}
        needs = [links.requirement(one, tasks, run.index_of) for one in task.wanted.depends_on]
        task.needs = tuple(one for one in needs if one is not None)
        for one in task.needs:
            if before.pop(id(one), None) is None:
                one.dependants.append(task.index)
        for key, one in before.items():
            left.setdefault(key, (one, set()))[1].add(task.index)
        _count_unmet(task)
    for one, gone in left.values():
        one.dependants = [index for index in one.dependants if index not in gone]
        if not one.dependants:
            links.forget(one)
            for index in one.members:
                member = tasks[index]
                member.requirements = tuple(other for other in member.requirements if other is not one)
    return again


def _count_unmet(task: Task) -> None:
    at_end = task.wanted.finally_when is not None
    task.unmet = sum(not one.is_met for one in task.needs) + at_end


def never_met(tasks: Sequence[Task]) -> Iterator[tuple[Task, str]]:
    """Yield the tasks that have not started and need what can no longer come about, and why."""
    for task in tasks:
        if task.state in TERMINAL or task.is_live:
            continue
        for one in task.needs:
            lacking = [
                tasks[index]
                for index in one.members
                if tasks[index].state in TERMINAL and one.until not in tasks[index].met
            ]
            final = [other for other in lacking if other.next_plan is None]
            again = sum(other.lacking(one.until) for other in lacking if other.next_plan is not None)
            if final and one.possible + again < one.needed:
                yield task, f"needs {final[0].plan.name}, which is {final[0].state}"
                break
