"""When a task's dependencies hold: counters that change with the tasks they point at, never recounted."""

from sflow_ctl.core.states import TaskState
from sflow_ctl.core.tasks import Task


def satisfy_by_readiness(tasks: list[Task], task: Task) -> list[Task]:
    """`task` is ready; returns who may start now."""
    task.counts_as_ready = True
    return _meet(tasks, [edge.target for edge in task.edges if not edge.needs_completion])


def satisfy_by_completion(tasks: list[Task], task: Task) -> list[Task]:
    """`task` has completed; returns who may start now."""
    return _meet(
        tasks, [edge.target for edge in task.edges if edge.needs_completion or not task.counts_as_ready]
    )


def unsatisfy(tasks: list[Task], task: Task) -> None:
    """A ready service is being restarted: what has not started yet waits for it again."""
    if task.counts_as_ready:
        task.counts_as_ready = False
        for edge in task.edges:
            if not edge.needs_completion:
                tasks[edge.target].unmet += 1


def _meet(tasks: list[Task], targets: list[int]) -> list[Task]:
    startable = []
    for target in targets:
        task = tasks[target]
        task.unmet -= 1
        if task.unmet == 0 and task.state is TaskState.WAITING and task.attempt == 0:
            startable.append(task)
    return startable
