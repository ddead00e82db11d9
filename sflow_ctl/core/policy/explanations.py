"""Sentences about tasks that wait or run late. `names` are those of all nodes. Pure."""

from collections.abc import Sequence

from sflow_ctl.core.model.task import Task
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.model import needs_text

SHOWN = 3
"""Tasks named in one sentence."""


def waits_for(task: Task, names: Sequence[str]) -> str:
    """Return what a task's readiness still lacks; empty before any node has reported it."""
    return task.attempt.readiness.text(names) if task.plan.has_readiness else ""


def stops_late(tasks: Sequence[Task]) -> str:
    """Name the tasks that are still live when the run's time to stop is over."""
    late = [task.plan.name for task in tasks if task.is_live]
    return ", ".join(late[:SHOWN]) + (f" and {len(late) - SHOWN} more" if len(late) > SHOWN else "")


def not_ready(tasks: Sequence[Task], names: Sequence[str]) -> str:
    """Name the services that are not ready, as the end of a sentence about the time limit."""
    waiting = [task for task in tasks if task.state is TaskState.RUNNING and task.plan.has_readiness]
    parts = []
    for task in waiting[:SHOWN]:
        missing = waits_for(task, names)
        parts.append(f"{task.plan.name}: {missing}" if missing else task.plan.name)
    more = f" and {len(waiting) - SHOWN} more" if len(waiting) > SHOWN else ""
    return f", and not ready are {'; '.join(parts)}{more}" if waiting else ""


def lost_its_place(lost: Sequence[str], why: str) -> str:
    """Explain why a task can never start: the nodes of its place that are lost, and why no others will do."""
    nodes = ", ".join(lost[:SHOWN]) + (f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else "")
    verb = "is" if len(lost) == 1 else "are"
    return f"node{'s' if len(lost) != 1 else ''} {nodes} {verb} lost, and {why}"


def finds_no_room(task: Task, tasks: Sequence[Task]) -> str:
    """Explain that only ready services run, and that they hold the resources that `task` needs."""
    nodes = set(task.plan.placement.nodes)
    holders = [
        f"{other.plan.name} ({len(other.attempt.gpus) * len(other.attempt.placement.nodes)})"
        for other in tasks
        if other.attempt.placement is not None
        and other.attempt.gpus
        and nodes & set(other.attempt.placement.nodes)
    ]
    shown = ", ".join(holders[:SHOWN]) + (" ..." if len(holders) > SHOWN else "")
    return (
        f"task {task.plan.name} waits for {needs_text(task.plan.placement)}, and only ready services run: {shown}; "
        "it starts when one of them ends"
    )
