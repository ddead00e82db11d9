"""What would have to be free for a task that waits for its place: nodes, GPUs, and the tasks that have them. Pure.

Read from plan and changes of state: of a task on several nodes that the scheduler has placed, only the first node is recorded.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from protocol.text.counted import counted
from protocol.text.listing import listed
from sflow_ctl.core.states import LIVE, TERMINAL, TaskState
from sflow_ctl.plan.graph import needs_text
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.words import gpus_text, node_name

SHOWN = 8


class _Holder(NamedTuple):
    """A task that has GPUs of a node."""

    task: str
    gpus: frozenset[int]
    keeps: bool
    """It has ended, and keeps them until the run ends."""


def place_lines(
    state: RunView, task: PlannedTask, joined: frozenset[int], lost: Mapping[int, str]
) -> Iterator[str]:
    """Yield what a queued task waits for, one sentence each; where all is free, that only the scheduler knows more."""
    placement = task.placement
    host = f", with {task.needs.text()}" if task.needs is not None else ""
    yield f"it needs {needs_text(placement)}{host}{_candidates(state, task)}"
    count = 0
    for node in placement.nodes:
        text = _node_line(state, task, node, joined, lost)
        if text:
            count += 1
            if count <= SHOWN:
                yield text
    if count > SHOWN:
        yield f"... and {counted(count - SHOWN, 'more node')}"
    if not count:
        yield "its place is free, as far as the run's files say: it starts when its node has answered the orders before"


def _candidates(state: RunView, task: PlannedTask) -> str:
    names = [node_name(state.plan, node) for node in task.placement.nodes]
    if task.placement.is_flexible and len(names) > 1:
        return f", of {listed(names, SHOWN)}"
    return f": {listed(names, SHOWN)}"


def _node_line(
    state: RunView, task: PlannedTask, node: int, joined: frozenset[int], lost: Mapping[int, str]
) -> str:
    """Return what keeps a task from a node; empty if nothing does."""
    name, placement = node_name(state.plan, node), task.placement
    if node in lost:
        return f"{name} is lost: {lost[node]}"
    if node not in joined:
        return f"the agent of {name} has not joined the run yet"
    claimant = _claimant(state, task, node)
    if claimant:
        return f"{name} is claimed by {claimant}"
    asked = list(_asked(state, node)) if task.needs is not None else []
    if asked:
        return f"{name}: CPUs and memory are given to {listed(asked, SHOWN)}"
    holders = list(_holders(state, node))
    taken = frozenset().union(*(holder.gpus for holder in holders))
    if not placement.is_flexible:
        blocking = [holder for holder in holders if holder.gpus & set(placement.gpus)]
        if placement.is_shared or not blocking:
            return ""
        have = listed([_holds(holder) for holder in blocking], SHOWN)
        return f"{name}: it needs GPUs {gpus_text(placement.gpus)}; {have}"
    total, wanted = state.plan.nodes[node].gpus, placement.gpus_per_node
    if not wanted or total is None or total - len(taken) >= wanted:
        return ""
    have = listed([_holds(holder) for holder in holders], SHOWN)
    return f"{name}: {total - len(taken)} of {counted(total, 'GPU')} free; {have}"


def _asked(state: RunView, node: int) -> Iterator[str]:
    """Yield the live tasks that have asked for CPUs or memory of a node, with what they asked for."""
    for task in state.plan.tasks:
        record = state.tasks[task.name]
        if task.needs is None or record.state not in LIVE:
            continue
        if node in ((record.node,) if task.placement.is_flexible else task.placement.nodes):
            yield f"{task.name} ({task.needs.text()})"


def _holds(holder: _Holder) -> str:
    until = " until the run ends" if holder.keeps else ""
    return f"{holder.task} has {gpus_text(tuple(holder.gpus))}{until}"


def _holders(state: RunView, node: int) -> Iterator[_Holder]:
    for nodes, holder in _all_holders(state):
        if node in nodes:
            yield holder


def _all_holders(state: RunView) -> Iterator[tuple[tuple[int, ...], _Holder]]:
    """Yield the tasks that have GPUs, with the nodes on which they have them."""
    planned = {task.name: task for task in state.plan.tasks}
    for record in state.tasks.values():
        task = planned.get(record.name)
        if task is None or not record.gpus or task.placement.is_shared:
            continue
        keeps = task.keeps_gpus and record.state in TERMINAL and record.attempts > 0
        lends = task.lends_gpus and record.state is TaskState.READY
        if lends or record.node is None or not (keeps or record.state in LIVE):
            continue
        nodes = (record.node,) if task.placement.is_flexible else task.placement.nodes
        yield nodes, _Holder(record.name, frozenset(record.gpus), keeps)


def gpu_owners(state: RunView) -> dict[int, dict[int, str]]:
    """Return the task that has each GPU, by node and index; GPUs that are free are missing."""
    found: dict[int, dict[int, str]] = {}
    for nodes, holder in _all_holders(state):
        for node in nodes:
            found.setdefault(node, {}).update(dict.fromkeys(holder.gpus, holder.task))
    return found


def _claimant(state: RunView, task: PlannedTask, node: int) -> str:
    """Return the task that keeps a node from tasks that heed claims, and until when."""
    if not task.heeds_claims:
        return ""
    for other in state.plan.tasks:
        until, record = other.claims_nodes_until, state.tasks[other.name]
        if until is None or other.name == task.name or record.node != node or not record.attempts:
            continue
        if until == "workflow_completion":
            return f"{other.name} until the run ends"
        if record.state in LIVE and not (until == "task_ready" and record.state is TaskState.READY):
            return f"{other.name} until it {'is ready' if until == 'task_ready' else 'ends'}"
    return ""
