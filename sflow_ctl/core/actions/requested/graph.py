"""Links the tasks of a live run anew, when a revision has given some of them other dependencies. Called by `revisions`."""

from collections.abc import Iterator, Sequence

from sflow_ctl.core.model.task import Task, link
from sflow_ctl.core.states import TERMINAL


def link_anew(tasks: Sequence[Task]) -> None:
    """Give tasks the requirements of the plans that they have, or will have, and count them by how far tasks have come."""
    for task in tasks:
        task.requirements = task.needs = ()
    link(tasks)
    counted = {id(one): one for task in tasks for one in task.requirements}
    for one in counted.values():
        members = [tasks[index] for index in one.members]
        one.holding = sum(one.until in task.met for task in members)
        one.serving = sum(task.is_serving for task in members)
        lost = sum(task.state in TERMINAL and one.until not in task.met for task in members)
        one.possible = len(members) - lost
    for task in tasks:
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
            if one.possible + len(lacking) - len(final) < one.needed:
                yield task, f"needs {final[0].plan.name}, which is {final[0].state}"
                break
