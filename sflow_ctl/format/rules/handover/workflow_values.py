"""Rules for the inputs and outputs of the workflow: names, one source each, and types that fit."""

from collections.abc import Iterator
from typing import Any

from protocol.errors import Finding
from protocol.typed_values import WrongTypeError, typed
from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import has_expression
from sflow_ctl.format.rules.handover.outputs import MAX_NAME, NAME, NAME_HINT, Where


def workflow_value_findings(workflow: schema.Workflow, where: Where) -> Iterator[Finding]:
    """Check the inputs and outputs of a workflow."""
    for name, given in workflow.inputs.items():
        yield from _name_findings("input", name, where)
        for field, what, hint in _input_problems(given):
            place = where("workflow", "inputs", name, field)
            yield Finding("wrong-input", f'input "{name}" of the workflow {what}', place, hint)
    for name, output in workflow.outputs.items():
        yield from _name_findings("output", name, where)
        for field, what, hint in _output_problems(output):
            place = where("workflow", "outputs", name, *((field,) if field else ()))
            yield Finding("wrong-output", f'output "{name}" of the workflow {what}', place, hint)


def _name_findings(noun: str, name: str, where: Where) -> Iterator[Finding]:
    if not NAME.fullmatch(name) or len(name) > MAX_NAME:
        what = f'"{name}" cannot be the name of an {noun} of the workflow'
        yield Finding("unsafe-name", what, where("workflow", f"{noun}s", name), NAME_HINT)


def _input_problems(given: schema.WorkflowInput) -> Iterator[tuple[str, str, str]]:
    """Yield (field, what, hint)."""
    for field in ("default", "value"):
        value: Any = getattr(given, field)
        if _has_expression(value):
            hint = "a variable may have one, and use workflow.inputs"
            yield field, f"has an expression in its {field}, which must be a value", hint
        elif problem := _type_problem(value, given.type):
            yield field, f"has a {field} of another type: {problem}", f"correct {field} or type"


def _output_problems(output: schema.WorkflowOutput) -> Iterator[tuple[str, str, str]]:
    chosen = [
        name for name, one in (("from", output.source or None), ("value", output.value)) if one is not None
    ]
    if len(chosen) != 1:
        found = " and ".join(chosen) or "none"
        yield "", f"needs exactly one of from and value, found {found}", "e.g. from: TASK.outputs.NAME"
    for source in output.source:
        task, _, name = source.rpartition(".outputs.")
        if not (task and NAME.fullmatch(name)):
            yield "from", f'is from "{source}", which is not an output', "write TASK.outputs.NAME"
    if len(output.source) > 1 and output.pick is None:
        yield "from", "has several sources", "add pick: first_available, or make an output of each"
    if output.pick is not None and len(output.source) < 2:
        yield "pick", "has pick, and not several sources", "drop pick"
    for field in ("value", "default"):
        value: Any = getattr(output, field)
        problem = "" if _has_expression(value) else _type_problem(value, output.type)
        if problem:
            yield field, f"has a {field} of another type: {problem}", f"correct {field} or type"
    if output.value is not None and not _has_expression(output.value) and output.default is not None:
        yield "default", "has a value, so its default is never used", "drop default"


def _type_problem(value: Any, kind: Any) -> str:
    if value is None or kind is None:
        return ""
    try:
        typed(value, kind)
    except WrongTypeError as error:
        return str(error)
    return ""


def _has_expression(value: Any) -> bool:
    if isinstance(value, str):
        return has_expression(value)
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_has_expression, inside))
