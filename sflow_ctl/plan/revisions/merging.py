"""Puts the plan of a live run and another one together: the plan that is in force from then on. Pure.

Tasks keep their positions, by which a scheduler knows them; new ones follow, and removed ones stay with a mark. Tasks that run
on keep their places, whatever the other plan says. Called by `core/actions/requested/revisions`.
"""

from collections.abc import Collection, Mapping

from msgspec.structs import replace

from sflow_ctl.plan.model import Placement, Plan, PlannedTask
from sflow_ctl.plan.revisions.comparing import PlanChange

_PLACED_VARIABLES = (
    "CUDA_VISIBLE_DEVICES", "SFLOW_TASK_GPUS", "SFLOW_GPU_PLAN", "SFLOW_TASK_ASSIGNED_NODE_NAMES",
    "SFLOW_TASK_ASSIGNED_NODE_IPS",
)  # fmt: skip
"""Variables of a planned task that name its place."""


def merged(
    old: Plan, new: Plan, changes: Mapping[str, PlanChange], placed: Collection[str], source: str = ""
) -> Plan:
    """Return the plan after a revision, made from the file `source`.

    `placed` are the tasks that have a place now: those that continue keep it.
    """
    revision = old.revision + 1
    wanted = {task.name: task for task in new.tasks}
    kept = {name for name in placed if name in changes and changes[name].kind in ("unchanged", "updated")}
    moved = {
        task.name for task in old.tasks if task.name in kept and task.placement != wanted[task.name].placement
    }
    free = flexible if moved else _as_planned
    tasks: list[PlannedTask] = []
    for task in old.tasks:
        other = wanted.pop(task.name, None)
        if other is None:
            gone = replace(task, removed_in=revision, depends_on=(), is_main=False)
            tasks.append(task if task.removed_in else gone)
        elif task.name in moved:
            tasks.append(_in_old_place(task, other))
        else:
            tasks.append(other if task.name in kept else free(other))
    tasks += [free(task) for task in wanted.values()]
    views = {name: view for name, view in old.task_views.items() if name in moved}
    return replace(
        new,
        revision=revision,
        whole=revision,
        source=source,
        nodes=old.nodes,
        job_id=old.job_id,
        secrets=tuple(dict.fromkeys((*old.secrets, *new.secrets))),
        tasks=tuple(tasks),
        task_views={**new.task_views, **views},
        simulated_gpus=old.simulated_gpus,
        signatures=old.signatures,
        monitors=old.monitors,
        windows=old.windows,
        notices=old.notices,
        stop_before_end_s=old.stop_before_end_s,
    )


def _in_old_place(old: PlannedTask, new: PlannedTask) -> PlannedTask:
    """Return a task as the new plan has it, in the place that it has now."""
    place = {name: old.env[name] for name in _PLACED_VARIABLES if name in old.env}
    env = {name: value for name, value in new.env.items() if name not in _PLACED_VARIABLES}
    return replace(
        new,
        placement=old.placement,
        elsewhere=old.elsewhere,
        pinned=old.pinned,
        argv=old.argv,
        assigned_arguments=old.assigned_arguments,
        script=old.script,
        container=old.container,
        files=old.files,
        deferred=old.deferred,
        env={**env, **place},
    )


def _as_planned(task: PlannedTask) -> PlannedTask:
    return task


def flexible(task: PlannedTask) -> PlannedTask:
    """Return a task whose GPUs are chosen when it starts: those that were planned may stay another task's."""
    planned = task.placement
    if planned.is_flexible or planned.is_shared or not planned.gpus or task.pinned:
        return task
    if task.elsewhere is not None:
        return replace(task, placement=task.elsewhere, elsewhere=None)
    return replace(
        task,
        placement=Placement(
            nodes=planned.nodes,
            is_flexible=True,
            node_count=len(planned.nodes),
            gpus_per_node=len(planned.gpus),
        ),
    )
