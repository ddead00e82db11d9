"""Plans the inputs and outputs of the workflow itself. Outputs are planned as inputs of a task that comes after all others."""

from collections.abc import Mapping
from typing import Any

import msgspec

from protocol.typed_values import WrongTypeError, typed
from sflow_ctl.format import schema
from sflow_ctl.plan.model import DeferredExpression
from sflow_ctl.plan.results import PlannedInput
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.handover.inputs import plan_inputs
from sflow_ctl.planner.numbers import as_flag, at
from sflow_ctl.planner.phases.graph import Expanded, Graph, Replica
from sflow_ctl.planner.source import PlanInput, Scope
from sflow_ctl.planner.tasks.scripts import Scripts

_AT_END = "workflow.outputs"
"""The name of that task, which no task can have."""


def workflow_inputs(workflow: schema.Workflow) -> dict[str, Any]:
    """Return the values of the workflow's inputs, null for those without one."""
    values = {}
    for name, given in workflow.inputs.items():
        value = given.default if given.value is None else given.value
        try:
            values[name] = None if value is None else typed(value, given.type)
        except WrongTypeError:  # a finding of the format's rules
            values[name] = None
    return values


def check_workflow_inputs(source: PlanInput, findings: Findings) -> None:
    """Note the inputs that the workflow needs and has not got. Raises: PlanError."""
    for name, given in source.document.workflow.inputs.items():
        with findings.collecting("workflow", "inputs", name, "required"):
            is_required = at((name, "required"), as_flag, given.required)
            if is_required and given.value is None and given.default is None:
                kind = "" if given.type is None else f", of type {given.type}"
                where = findings.loaded.where("workflow", "inputs", name)
                what = f'the workflow needs a value for its input "{name}"{kind}'
                hint = f"give it with --input {name}=VALUE, or write a default into the file"
                findings.add("input-missing", what, where, hint)
    findings.stop_if_any()


def plan_workflow_outputs(
    source: PlanInput, scope: Scope, graph: Graph, findings: Findings
) -> tuple[PlannedInput, ...]:
    """Return the outputs of the workflow, in the order of the file. Problems are findings."""
    planned: list[PlannedInput] = []
    for name, output in source.document.workflow.outputs.items():
        at_end = schema.Task(name=_AT_END, script=[], finally_=True, inputs={name: _as_input(output)})
        whole = _with_end(graph, at_end)
        scripts = Scripts([*source.tasks, at_end], whole.replicas_of)
        names = {**scope.names, "task": {}}

        def render(
            value: Any,
            path: tuple[str | int, ...],
            *,
            scripts: Scripts = scripts,
            task: schema.Task = at_end,
            names: Mapping[str, Any] = names,
        ) -> tuple[Any, list[DeferredExpression]]:
            return scripts.value(task, _AT_END, value, path, names)

        with findings.collecting("workflow", "outputs", name, subject=f'output "{name}" of the workflow'):
            try:
                planned += plan_inputs(
                    at_end,
                    whole.tasks[-1].replicas[0],
                    whole,
                    scope.value,
                    render,
                    source.context.workspace_dir,
                )
            except UnplannableError as problem:
                raise _of_workflow(problem, name) from problem
    return tuple(msgspec.structs.replace(one, variable="") for one in planned)


def _as_input(output: schema.WorkflowOutput) -> schema.Input:
    return schema.Input(
        source=output.source,
        pick=output.pick,
        value=output.value,
        type=output.type,
        default=output.default,
        required=output.required,
    )


def _with_end(graph: Graph, task: schema.Task) -> Graph:
    """Return the graph with one more task."""
    one = Expanded(task, (Replica(task.name, 0),), is_replicated=False, is_sequential=False)
    return Graph(
        (*graph.tasks, one), graph.outside, {**graph.replicas_of, task.name: (task.name,)}, graph.chain_until
    )


def _of_workflow(problem: UnplannableError, name: str) -> UnplannableError:
    """Return a problem of the task that stands for the end of the workflow, in the words and at the place of an output."""
    what = problem.what.replace(f'input "{name}" of task "{_AT_END}"', f'output "{name}" of the workflow')
    what = what.replace(f'task "{_AT_END}"', f'output "{name}" of the workflow')
    hint = problem.hint
    path = tuple(one for one in problem.path if one != "inputs") or (name,)
    moved = UnplannableError(problem.code, what, hint, path)
    moved.others = tuple(_of_workflow(one, name) for one in problem.others)
    return moved
