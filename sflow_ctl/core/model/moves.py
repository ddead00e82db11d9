"""Where a task may start now: its planned place, or another one once a node of that is lost. `dispatch` calls this.

Which tasks may be moved is decided by the planner (`planner.placement.moves`). Free GPUs are counted in `resources`.
"""

import msgspec

from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.plan.model import Placement


def wanted(run: Run, task: Task) -> Placement:
    """Return the place that a task asks for now. Tasks that ask for equal ones find room, or none, together."""
    planned, elsewhere = task.plan.placement, task.plan.elsewhere
    if task.shunned and (avoiding := _avoiding(run, task)) is not None:
        return avoiding
    if task.lent is not None and not run.has_lost(task.lent):
        return task.lent
    if not run.has_lost(planned):
        return planned
    if elsewhere is None:
        return _other_gpus(run, task)
    left = tuple(
        node
        for node in elsewhere.nodes
        if not run.nodes[node].is_gone
        and not run.nodes[node].is_held
        and run.ledger.could_give(node, elsewhere.gpus_per_node)
    )
    return msgspec.structs.replace(elsewhere, nodes=left, node_count=elsewhere.node_count or len(left))


def _avoiding(run: Run, task: Task) -> Placement | None:
    """Return the place without the nodes that the task avoids; None if those that are left could not take it."""
    planned, elsewhere = task.plan.placement, task.plan.elsewhere
    open_one = planned if planned.is_flexible else elsewhere
    if open_one is None or (not planned.is_flexible and task.shunned.isdisjoint(planned.nodes)):
        return None
    left = tuple(
        node
        for node in open_one.nodes
        if node not in task.shunned
        and not run.nodes[node].is_gone
        and not run.nodes[node].is_held
        and run.ledger.could_give(node, open_one.gpus_per_node)
    )
    needed = open_one.node_count or len(planned.nodes)
    return msgspec.structs.replace(open_one, nodes=left, node_count=needed) if len(left) >= needed else None


def _other_gpus(run: Run, task: Task) -> Placement:
    """Return other GPUs of its nodes for a task that may not leave them, if it may have others; else its planned place."""
    planned = task.plan.placement
    is_bound = task.plan.pinned or planned.is_flexible or planned.is_shared or not planned.gpus
    if is_bound or any(run.nodes[node].is_gone for node in planned.nodes):
        return planned
    return Placement(
        nodes=planned.nodes,
        is_flexible=True,
        node_count=len(planned.nodes),
        gpus_per_node=len(planned.gpus),
    )


def take(run: Run, task: Task, placement: Placement) -> Placement | None:
    """Return the fixed place that a task now has for `placement`, which `wanted` returned; None if there is no room."""
    is_open = run.is_open_to(task)
    if task.plan.placement.is_flexible or placement is task.plan.placement or placement is task.lent:
        return run.ledger.take(placement, is_open)
    nodes = sorted(
        placement.nodes, key=lambda node: (run.nodes[node].load, not run.plan.nodes[node].is_spare, node)
    )
    if placement.gpus_per_node and not placement.is_shared:
        return run.ledger.take(msgspec.structs.replace(placement, nodes=tuple(nodes)), is_open)
    ready = [node for node in nodes if is_open(node)]
    if not nodes or len(ready) < placement.node_count:
        return None
    return msgspec.structs.replace(
        placement, nodes=tuple(sorted(ready[: placement.node_count])), is_flexible=False, node_count=1
    )


def why_never(run: Run, task: Task) -> str:
    """Say why a task can never start again, as the end of a sentence; empty if it can."""
    placement = wanted(run, task)
    count = placement.node_count if placement.is_flexible else len(placement.nodes)
    wanted_gpus = max(placement.gpus_per_node, len(placement.gpus))
    if not placement.is_flexible and run.ledger.has_lost(placement):
        return f"it cannot have other GPUs: {task.plan.pinned or 'its backend has none that could take their place'}"
    left = sum(
        not run.nodes[node].is_gone and run.ledger.could_give(node, wanted_gpus) for node in placement.nodes
    )
    if left >= max(count, 1):
        return ""
    if task.plan.pinned:
        return f"it cannot run elsewhere: {task.plan.pinned}"
    if task.plan.elsewhere is None and not placement.is_flexible:
        return "no other node of its backend could take it"
    return f"it needs {count} node{'s' if count != 1 else ''}, and {left or 'none'} of those that could take it are left"
