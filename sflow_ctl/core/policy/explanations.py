"""Sentences about tasks that wait or run late. `names` are those of all nodes. Pure."""

from collections.abc import Mapping, Sequence

from protocol.text.counted import counted
from protocol.text.listing import listed
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.states import TERMINAL, Reason, TaskState
from sflow_ctl.plan.graph import needs_text
from sflow_ctl.plan.model import Placement, PlannedTask

SHOWN = 3
"""Tasks named in one sentence."""


def waits_for(task: Task, names: Sequence[str]) -> str:
    """Return what a task's readiness still lacks; empty before any node has reported it."""
    return task.attempt.readiness.text(names) if task.plan.has_readiness else ""


def stops_late(tasks: Sequence[Task]) -> str:
    """Name the tasks that are still live when the run's time to stop is over."""
    late = [task.plan.name for task in tasks if task.is_live]
    return listed(late, SHOWN)


def unfinished_finals(tasks: Sequence[Task]) -> str:
    """Name the tasks for the run's end that have not ended."""
    names = [
        task.plan.name for task in tasks if task.plan.finally_when is not None and task.state not in TERMINAL
    ]
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def not_ready(tasks: Sequence[Task], names: Sequence[str]) -> str:
    """Name the services that are not ready, as the end of a sentence about the time limit."""
    waiting = [task for task in tasks if task.state is TaskState.RUNNING and task.plan.has_readiness]
    parts = []
    for task in waiting:
        missing = waits_for(task, names)
        parts.append(f"{task.plan.name} ({missing})" if missing else task.plan.name)
    return f"; not ready: {listed(parts, SHOWN)}" if parts else ""


def lost_its_place(lost: Sequence[str], why: str) -> Reason:
    """Explain why a task can never start: the nodes of its place that are lost, or its GPUs, and why no others will do."""
    if not lost:
        return Reason("gpu_lost", f"GPUs that it needs are lost, and {why}")
    nodes = listed(lost, SHOWN)
    verb = "is" if len(lost) == 1 else "are"
    return Reason("node_lost", f"node{'s' if len(lost) != 1 else ''} {nodes} {verb} lost, and {why}")


def spare_used(lost: str, spare: str, left: int) -> str:
    """Say that a spare node takes the place of a lost one."""
    more = counted(left, "spare node") if left else "no spare node"
    return f"spare-used: {spare} takes the place of {lost}; {more} {'is' if left < 2 else 'are'} left"


def agent_died(node: str, how: str) -> str:
    """Say what became of a task's processes when the agent on their node died."""
    return f"the agent of node {node} {how or 'was replaced'}, and its processes were ended"


def agent_ended(node: str, reason: str) -> str:
    """Say why the agent of a task's node has ended the task's processes."""
    return f"the agent of node {node} ended with its processes: {reason}"


def of_expression(problem: str, task: PlannedTask, field: str) -> str:
    """Return the problem of an expression with its place; `field` is the one of the task that has it, if that is known."""
    if not task.where:
        return problem
    return f"{problem}; in {task.where}{f'.{field}' if field else ''}"


def agent_restarted(node: str, how: str) -> str:
    """Say that another agent was started on a node."""
    return f"agent-died: the agent of node {node} {how}; another one has joined, and the processes there have ended"


def gpu_lost(node: str, gpu: int, text: str) -> str:
    """Say that a GPU is not given to tasks any more."""
    return f"gpu-lost: {node} has lost GPU {gpu}, which no task gets any more: {text}"


def kept_from(
    task: Task, tasks: Sequence[Task], kept: Sequence[tuple[int, Placement]], claims: Mapping[int, int]
) -> str:
    """Explain that a task can never start, because others that have ended keep GPUs or nodes until the run ends."""
    nodes = set(task.plan.placement.nodes)
    holders = [index for index, placement in kept if nodes & set(placement.nodes)]
    holders += [owner for node, owner in claims.items() if node in nodes]
    names = list(dict.fromkeys(tasks[index].plan.name for index in holders))
    return (
        f"it needs {needs_text(task.plan.placement)}, which {listed(names, SHOWN)} "
        f"{'keeps' if len(names) == 1 else 'keep'} until the run ends (release_after: workflow_completion)"
    )


def stopped_leftovers(task: Task, left: Sequence[str], count: int) -> str:
    """Say that a task has ended with its first process, and what of it was stopped then."""
    more = f" and {count - len(left)} more" if count > len(left) else ""
    return (
        f"{task.plan.name} has ended with its first process; stopped then: {', '.join(left)}{more} "
        "(to keep the task running until they end, let its script `wait` for them)"
    )


def could_not_be_ended(task: Task, survivors: Sequence[str]) -> str:
    """Say that a task ends although its main process is in a system call that not even SIGKILL ends."""
    which = ", ".join(survivors) or "its main process"
    return (
        f"stuck-process: SIGKILL has not ended {which} of {task.attempt_id}, which waits in the kernel (a device, or a "
        "file system that does not answer); the task is counted as ended, and its node is used as before"
    )


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


def server_moved(task: Task, users: Sequence[Task], names: Sequence[str]) -> str:
    """Say which running tasks have the address that a service had before, and how they would get the new one."""
    assert task.attempt.placement is not None
    where = listed([names[node] for node in task.attempt.placement.nodes], SHOWN)
    ports = sorted(
        {port for named in task.attempt.ports.values() for ports in named.values() for port in ports}
    )
    at = f"{where}, port {', '.join(map(str, ports))}" if ports else where
    have = "has" if len(users) == 1 else "have"
    who = listed([user.plan.name for user in users], SHOWN)
    asks = task.plan.restart is not None and task.plan.restart.restarts_dependents
    remedy = (
        ""
        if asks
        else f'; "restart: {{dependents: restart}}" of {task.plan.name} would start them again with the new one'
    )
    return f"server-moved: {task.plan.name} is on {at} now; {who} {have} its earlier address{remedy}"
