"""Where a task with a fixed place may run once a node of that is lost, or why it must stay.

`place.py` has the nodes that would do, `sflow_ctl/core/model/moves.py` chooses among those that are left when it comes to
that. `tasks.py` calls this.
"""

from collections.abc import Sequence

import msgspec

from sflow_ctl.plan.model import Placement, PlannedNode, PlannedTask
from sflow_ctl.planner.deferred import TaskNamespace
from sflow_ctl.planner.launch.plan import LaunchPlan
from sflow_ctl.planner.placement.flexible import Alternative

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
