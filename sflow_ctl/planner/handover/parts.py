"""The parts of a planned task that are about files and values of other attempts and tasks; most tasks have none."""

import posixpath
from functools import partial
from typing import Any, NamedTuple

from protocol.messages.handover import CheckpointRules, OutputRule
from sflow_ctl.format.expressions.templates import as_text
from sflow_ctl.plan.model import DeferredExpression
from sflow_ctl.plan.results import PlannedInput, PlannedWhen
from sflow_ctl.planner.context import PlanContext
from sflow_ctl.planner.phases.graph import Graph, Replica
from sflow_ctl.planner.tasks.scopes import TaskScope
from sflow_ctl.planner.tasks.scripts import INPUTS, Scripts


class HandoverParts(NamedTuple):
    """Fields of `PlannedTask`."""

    checkpoint: CheckpointRules | None = None
    found: tuple[OutputRule, ...] = ()
    inputs: tuple[PlannedInput, ...] = ()
    when: PlannedWhen | None = None
    key: str = ""
    reads: tuple[str, ...] = ()


_NOTHING = HandoverParts()


def handover_parts(
    scope: TaskScope, replica: Replica, graph: Graph, scripts: Scripts, context: PlanContext
) -> HandoverParts:
    """Plan what a copy takes over and hands over. Raises: UnplannableError, ExpressionError."""
    task, workspace = scope.task, context.workspace_dir
    checkpoint, found, inputs, when, key, reads = _NOTHING
    if task.checkpoint is not None:
        from sflow_ctl.planner.handover.checkpoints import plan_checkpoint

        checkpoint = plan_checkpoint(task.name, task.checkpoint, scope.value, workspace)
    if any(one.is_found for one in task.outputs):
        from sflow_ctl.planner.handover.outputs import plan_found

        found = plan_found(task.name, task.outputs, scope.value)
    if task.inputs:
        from sflow_ctl.planner.handover.inputs import plan_inputs

        def render(value: Any, path: tuple[str | int, ...]) -> tuple[Any, list[DeferredExpression]]:
            names = {name: one for name, one in scope.names_of_inputs.items() if name != INPUTS}
            return scripts.value(task, replica.name, value, path, names)

        scratch = f"{context.scratch}/sflow-{context.run_id}"
        inputs = plan_inputs(task, replica, graph, scope.value, render, workspace, scratch)
    if task.when is not None:
        from sflow_ctl.planner.handover.conditions import plan_when

        when = plan_when(task, partial(scripts.value, task, replica.name, names=scope.names))
    if task.key is not None:
        from sflow_ctl.planner.handover.keys import plan_key

        key = plan_key(scope, inputs)
    if task.inputs or task.python is not None:
        reads = _files_read(scope, inputs, workspace)
    return HandoverParts(checkpoint, found, inputs, when, key, reads)


def _files_read(scope: TaskScope, inputs: tuple[PlannedInput, ...], workspace: str) -> tuple[str, ...]:
    """Return the files whose content is a part of a task's work. Raises: ExpressionError."""
    paths = [one.path for one in inputs if one.path]
    python = scope.task.python
    function = python if isinstance(python, str) else python.file if python is not None else None
    if function is not None:
        file = as_text(scope.value(function))
        file = file.rpartition(":")[0] if isinstance(python, str) else file
        if file.endswith(".py"):
            paths.append(posixpath.normpath(posixpath.join(workspace, file)))
    return tuple(dict.fromkeys(paths))
