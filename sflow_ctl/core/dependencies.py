"""When a task's dependencies hold: counters that change with the tasks they point at, never recounted."""

from sflow_ctl.core.states import TaskState
from sflow_ctl.core.tasks import Task
from sflow_ctl.planner.plan import Until

S = TaskState
_REACHED: dict[TaskState, frozenset[Until]] = {
    S.RUNNING: frozenset({"started"}),
    S.READY: frozenset({"started", "ready", "available"}),
    S.COMPLETED: frozenset({"started", "available", "completed", "finished"}),
}
"""What holds from a state on. It goes on holding until the attempt is over and another one follows."""
_UNHAPPY: frozenset[Until] = frozenset({"finished", "failed"})


def reached(state: TaskState, before: frozenset[Until]) -> frozenset[Until]:
    """How far a task has come when it enters `state`, having come as far as `before`."""
    match state:
        case S.RUNNING | S.READY | S.COMPLETED:
            return before | _REACHED[state]
        case S.FAILED | S.TIMEOUT | S.LOST:
            return _UNHAPPY | (before & {"started", "ready"})
        case S.STARTING | S.STOPPING:
            return before
        case _:
            return frozenset()


def update(tasks: list[Task], task: Task) -> list[Task]:
    """Takes in that `task` has changed its state; returns who may start now, in the order of the plan.

    A service that is being restarted takes back what it was: what has not started yet waits for it again.
    """
    met = reached(task.state, task.met)
    gained, lost = met - task.met, task.met - met
    task.met = met
    startable = []
    for condition in task.conditions:
        if condition.until in gained:
            condition.missing -= 1
            if condition.missing == 0:
                startable += _one_less(tasks, condition.dependants)
        elif condition.until in lost:
            if condition.missing == 0:
                for target in condition.dependants:
                    tasks[target].unmet += 1
            condition.missing += 1
    return startable


def _one_less(tasks: list[Task], targets: list[int]) -> list[Task]:
    startable = []
    for target in targets:
        task = tasks[target]
        task.unmet -= 1
        if task.unmet == 0 and task.state is TaskState.WAITING and not task.is_delayed:
            startable.append(task)
    return startable
