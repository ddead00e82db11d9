"""What tasks wait for, and how those end that waited too long: in words. `names` are those of all nodes."""

from collections.abc import Sequence

from sflow_ctl.core.states import Reason, TaskState
from sflow_ctl.core.tasks import End, Task
from sflow_ctl.core.timers import TimerKind
from sflow_ctl.plan.log_paths import side_log_path
from sflow_ctl.plan.model import needs_text

SHOWN = 3
"""Tasks named in one sentence."""


def waits_for(task: Task, names: Sequence[str]) -> str:
    """What its readiness still misses; empty while nobody has said anything."""
    return task.readiness.text(names) if task.plan.has_readiness else ""


def too_late(task: Task, kind: TimerKind, names: Sequence[str]) -> End:
    """The end of an attempt whose `kind` of time is over."""
    missing = waits_for(task, names)
    because = f": {missing}" if missing else ""
    match kind:
        case "deadline":
            text = f"was not ready within its deadline of {task.plan.deadline_s:g} s{because}"
            return End(TaskState.TIMEOUT, Reason("not_ready", text), may_retry=True)
        case "ranks":
            many = len(task.open_ranks)
            text = f"{many} ranks ran on for more than {task.plan.wait_s:g} s after the first had ended"
            return End(TaskState.FAILED, Reason("timeout", text), may_retry=True)
        case _:
            what = "was not ready" if task.plan.is_service else "did not end"
            text = f"{what} within its timeout of {task.plan.timeout_s:g} s{because}"
            return End(TaskState.TIMEOUT, Reason("timeout", text), may_retry=True)


def hang(task: Task) -> End | None:
    """The end of an attempt none of whose ranks shows life any more; None while it does, or nobody asked for it."""
    watch = task.plan.hang
    if watch is None or task.state not in (TaskState.RUNNING, TaskState.READY):
        return None
    if task.state is TaskState.READY and task.plan.is_service and not watch.is_always:
        return None  # nobody may have asked it for anything
    kinds = (
        ("output", f"it has printed nothing for {watch.no_output_s:g} s" if watch.no_output_s else ""),
        ("gpus", f"it has not used its GPUs for {watch.no_gpu_use_s:g} s" if watch.no_gpu_use_s else ""),
    )
    for kind, text in kinds:
        if task.open_ranks and task.open_ranks <= task.quiet.get(kind, set()):
            where = f"; see {side_log_path(task.plan.name, 'hang')}" if watch.command is not None else ""
            return End(TaskState.TIMEOUT, Reason("hang", f"hangs: {text}{where}"), may_retry=True)
    return None


def stops_late(tasks: Sequence[Task]) -> str:
    """Who was still there when the time for the run's end was over."""
    late = [task.plan.name for task in tasks if task.is_live]
    return ", ".join(late[:SHOWN]) + (f" and {len(late) - SHOWN} more" if len(late) > SHOWN else "")


def not_ready(tasks: Sequence[Task], names: Sequence[str]) -> str:
    """The services that a run at its time limit still waits for, as the end of its sentence."""
    waiting = [task for task in tasks if task.state is TaskState.RUNNING and task.plan.has_readiness]
    parts = []
    for task in waiting[:SHOWN]:
        missing = waits_for(task, names)
        parts.append(f"{task.plan.name}: {missing}" if missing else task.plan.name)
    more = f" and {len(waiting) - SHOWN} more" if len(waiting) > SHOWN else ""
    return f", and not ready are {'; '.join(parts)}{more}" if waiting else ""


def finds_no_room(task: Task, tasks: Sequence[Task]) -> str:
    """Only ready services run, and they hold what `task` needs: to be told once."""
    nodes = set(task.plan.placement.nodes)
    holders = [
        f"{other.plan.name} ({len(other.gpus) * len(other.taken.nodes)})"
        for other in tasks
        if other.taken is not None and other.gpus and nodes & set(other.taken.nodes)
    ]
    shown = ", ".join(holders[:SHOWN]) + (" ..." if len(holders) > SHOWN else "")
    return (
        f"task {task.plan.name} waits for {needs_text(task.plan.placement)}, and only ready services run: {shown}; "
        "it starts when one of them ends"
    )
