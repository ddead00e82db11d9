"""Where a task with a fixed place may run once a node of that is lost, or why it must stay.

`place.py` has the nodes that would do, `sflow_ctl/core/model/moves.py` chooses among those that are left when it comes to
that. `tasks.py` calls this.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import EXPRESSION_START
from sflow_ctl.plan.assignment import place_view, service_view
from sflow_ctl.plan.copies.names import NameSet
from sflow_ctl.plan.model import Placement, PlannedNode, PlannedTask
from sflow_ctl.planner.deferred import TaskNamespace
from sflow_ctl.planner.launch.plan import LaunchPlan
from sflow_ctl.planner.phases.backends import PlannedBackends
from sflow_ctl.planner.phases.graph import Graph
from sflow_ctl.planner.placement.flexible import Alternative
from sflow_ctl.planner.placement.placed import PlacedTask
from sflow_ctl.planner.source import PlanInput
from sflow_ctl.planner.tasks.policies import on_node_lost

OPERATOR = "the nodelist of its operator names its nodes"
EVALUATED = (
    "its nodes were written into other tasks when the run was planned; with retries, expressions on them are "
    "evaluated when a task starts"
)


def of_launch(
    alternative: Alternative, placement: Placement, launch: LaunchPlan, nodes: Sequence[PlannedNode]
) -> Alternative:
    """Return the alternative of a task that is launched in this way; `nodes` are those of the run."""
    elsewhere = alternative.elsewhere
    if elsewhere is None:
        return alternative
    is_step = launch.launch_kind == "step"
    if is_step and not any(argument.value == "node_names" for argument in launch.assigned_arguments):
        return Alternative(pinned=OPERATOR)
    if elsewhere.node_count == 0 and (is_step or sum(launch.ranks_per_node) > 1):
        elsewhere = msgspec.structs.replace(elsewhere, node_count=len(placement.nodes))
    if is_step and len(placement.nodes) > 1:  # a step has one component of a heterogeneous job
        groups = {nodes[index].het_group for index in placement.nodes}
        same = tuple(index for index in elsewhere.nodes if nodes[index].het_group in groups)
        elsewhere = msgspec.structs.replace(elsewhere, nodes=same)
    return Alternative(elsewhere)


def settled(task: PlannedTask, tasks: TaskNamespace) -> PlannedTask:
    """Return the task, pinned if what is known of its nodes by now could not follow it elsewhere."""
    if task.elsewhere is None or not tasks.is_place_used(task.name, task.base):
        return task
    return msgspec.structs.replace(task, elsewhere=None, pinned=EVALUATED)


def movable(source: PlanInput, backends: PlannedBackends, placed: Sequence[PlacedTask]) -> NameSet:
    """Return the names, concrete and as written, of tasks that may start again on other nodes than planned."""
    workflow = source.document.workflow

    def may_move(one: PlacedTask) -> bool:
        has_spares = bool(backends.spares_of[one.backend.name])
        rule = on_node_lost(one.task, workflow, has_spares=has_spares)
        if rule is None:
            # That faults of nodes are tried again by default makes no place late: one that others name is kept.
            return bool(one.task.retries or one.task.restart)
        return rule == "elsewhere"

    again = [one for one in placed if one.alternative.elsewhere and may_move(one)]
    names = (name for one in again for name in (*one.names, one.task.name))
    return NameSet(names)


def task_namespace(
    backends: PlannedBackends, graph: Graph, placed: Sequence[PlacedTask], *, has_outputs: bool
) -> dict[str, Any]:
    """Return the `task` namespace: every concrete name, and lists of replicas under names of replicated tasks."""
    if not has_outputs and not any(map(_may_use_tasks, (one.task for one in graph.tasks))):
        return {}
    views: dict[str, Any] = {}
    for one in placed:
        operator = one.task.operator
        name = operator if isinstance(operator, str) else (operator or {}).get("name")
        view: dict[str, Any] = {
            "backend": one.backend.name,
            "operator": name or f"default_{one.backend.name}",
        }
        if not one.placement.is_flexible:  # otherwise the scheduler chooses nodes and GPUs
            nodes = [backends.nodes[index] for index in one.placement.nodes]
            view |= place_view(nodes, one.placement.gpus)
            if one.served_port is not None:
                is_reachable = bool(nodes) and nodes[0].is_reachable
                view["service"] = service_view(view["nodes"], one.served_port, is_reachable)
        views |= dict.fromkeys((each.replica.name for each in one.each()), view)
    for expanded in graph.tasks:
        if expanded.is_replicated:
            views[expanded.task.name] = [views[replica.name] for replica in expanded.replicas]
    return views


def _may_use_tasks(task: schema.Task) -> bool:
    """Return whether a task has a field in which an expression may name other tasks."""
    fields = (task.probes, task.operator, task.variables, task.files, task.success, task.uploads)
    has_fields = any(fields) or task.when is not None or bool(task.inputs)
    has_fields = has_fields or task.foreach is not None or task.block is not None
    return has_fields or any(EXPRESSION_START in item for item in task.script)
