"""Where a task with a fixed place may run once a node of that is lost, or why it must stay.

`place.py` has the first placement of every task, `sflow_ctl/core/model/moves.py` chooses among the nodes that are left
when it comes to that. `requests.py` and `tasks.py` call this.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from sflow_ctl.plan.model import Placement, PlannedNode, PlannedTask
from sflow_ctl.planner.deferred import TaskNamespace
from sflow_ctl.planner.launch.plan import LaunchPlan
from sflow_ctl.planner.phases.place import PlacementRequest, Pool, candidates

INDICES = "resources.nodes.indices names its nodes"
OPERATOR = "the nodelist of its operator names its nodes"
EVALUATED = (
    "its nodes were written into other tasks when the run was planned; with retries, expressions on them are "
    "evaluated when a task starts"
)


class Alternative(NamedTuple):
    """The fields of a planned task about leaving its place. Meanings: `PlannedTask`."""

    elsewhere: Placement | None = None
    pinned: str = ""


def alternative(pool: Pool, request: PlacementRequest, placement: Placement) -> Alternative:
    """Return where a request may be served instead of at its fixed placement. Raises: UnplannableError."""
    if placement.is_flexible:
        return Alternative()
    if request.indices is not None:
        return Alternative(pinned=INDICES)
    per_node, highest = len(placement.gpus), max(placement.gpus, default=-1)
    least = highest + 1 if placement.is_shared else per_node
    able = [
        pool.first + node
        for node in candidates(pool, request)
        if (capacity := pool.capacities[node]) is None or capacity >= least
    ]
    takes_all = request.node_count is None and request.gpus is None
    if len(able) <= (1 if takes_all else len(placement.nodes)):
        return Alternative()
    return Alternative(
        Placement(
            nodes=tuple(able),
            gpus=placement.gpus if placement.is_shared else (),
            is_flexible=True,
            node_count=0 if takes_all else len(placement.nodes),
            gpus_per_node=per_node,
            is_shared=placement.is_shared,
        )
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
