"""Plans the inputs of a task: which concrete tasks their values are from, and whether those have such an output."""

from collections.abc import Callable
from typing import Any

from protocol.messages.handover import ValueType
from protocol.typed_values import WrongTypeError, typed
from sflow_ctl.format import schema
from sflow_ctl.format.checking import guess_hint
from sflow_ctl.format.expressions.templates import EXPRESSION_START, as_text, names_used
from sflow_ctl.format.rules.handover.inputs import variable_of
from sflow_ctl.plan.model import DeferredExpression
from sflow_ctl.plan.results import InputSource, PlannedInput
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.handover.outputs import type_of_output
from sflow_ctl.planner.numbers import as_flag, at
from sflow_ctl.planner.phases.graph import Expanded, Graph, Replica
from sflow_ctl.planner.tasks.outputs import names_of_values

Rendered = tuple[Any, list[DeferredExpression]]
_FITTING: dict[str, tuple[str, ...]] = {
    "float": ("float", "int"),
    "str": ("str", "path"),
    "path": ("path", "str"),
    "list": ("list", "paths"),
}
"""Types of outputs that inputs of a type take beside their own."""


def plan_inputs(
    task: schema.Task,
    replica: Replica,
    graph: Graph,
    evaluate: Callable[[Any], Any],
    render: Callable[[Any, tuple[str | int, ...]], Rendered],
    workspace: str,
    scratch: str = "",
) -> tuple[PlannedInput, ...]:
    """Return the inputs of a concrete task. `render` leaves what is known later; `scratch` is the run's directory on nodes.

    Raises: UnplannableError, ExpressionError.
    """
    one = graph.task_named(task.name)
    return tuple(
        _plan_one(task, name, given, _Setting(one, replica, graph, evaluate, render, workspace, scratch))
        for name, given in task.inputs.items()
    )


class _Setting:
    def __init__(
        self,
        one: Expanded,
        replica: Replica,
        graph: Graph,
        evaluate: Callable[[Any], Any],
        render: Callable[[Any, tuple[str | int, ...]], Rendered],
        workspace: str,
        scratch: str,
    ) -> None:
        self.one, self.replica, self.graph = one, replica, graph
        self.evaluate, self.render, self.workspace, self.scratch = evaluate, render, workspace, scratch


def _plan_one(task: schema.Task, name: str, given: schema.Input, setting: _Setting) -> PlannedInput:
    place = ("inputs", name)
    value, deferred = (None, []) if given.value is None else setting.render(given.value, (*place, "value"))
    if value is not None and not deferred:
        value = _checked(task, name, given, "value", value)
    default = (
        None
        if given.default is None
        else _checked(task, name, given, "default", setting.evaluate(given.default))
    )
    path = ""
    if given.path is not None:
        path = as_text(setting.evaluate(given.path))
        if not path:
            what = f'input "{name}" of task "{task.name}" has an empty path'
            raise UnplannableError("wrong-input", what, "give it a path, or a value", (*place, "path"))
        path = path if path.startswith("/") else f"{setting.workspace}/{path.removeprefix('./')}"
    return PlannedInput(
        name=name,
        variable=as_text(setting.evaluate(variable_of(name, given))),
        sources=tuple(_source(task, name, given, source, setting) for source in given.source),
        path=path,
        value=given.value if deferred else value,
        is_deferred=bool(deferred),
        names=_names(deferred),
        type=given.type,
        is_required=at((*place, "required"), as_flag, setting.evaluate(given.required)),
        default=default,
        argument=None if given.arg is None else as_text(setting.evaluate(given.arg)),
        is_per_item=_is_per_item(task, given),
        stage=given.stage,
        scratch=setting.scratch if given.stage == "local" else "",
    )


def _is_per_item(task: schema.Task, given: schema.Input) -> bool:
    """Return whether an input differs between the items of a chunk: it uses the item, or is another task's output for it."""
    foreach = task.foreach
    if foreach is None or foreach.chunk is None:
        return False
    text = str(given.value)
    uses_item = EXPRESSION_START in text and names_used(text) & {foreach.as_, f"{foreach.as_}_index"}
    return given.items == "same" or bool(uses_item)


def _names(deferred: list[DeferredExpression]) -> dict[str, object]:
    return {name: value for one in deferred for name, value in one.names.items()}


def _checked(task: schema.Task, name: str, given: schema.Input, field: str, value: Any) -> Any:
    try:
        return typed(value, given.type)
    except WrongTypeError as error:
        what = f'input "{name}" of task "{task.name}" has a {field} of another type: {error}'
        raise UnplannableError(
            "wrong-input", what, f"correct {field} or type", ("inputs", name, field)
        ) from None


def _source(task: schema.Task, name: str, given: schema.Input, text: str, setting: _Setting) -> InputSource:
    """Return where a value is from: in a sweep the copies of the same cell. Raises: UnplannableError."""
    producer, _, output = text.rpartition(".outputs.")
    graph, one, place = setting.graph, setting.one, ("inputs", name, "from")
    other = graph.task_named(producer)
    is_same = given.items == "same"
    _check_output(task, name, given, other.task, output, place, is_one=is_same)
    wanted = next(each for each in task.dependencies if each.task == producer)
    cell = setting.replica.cell
    if cell is not None and other.is_in_sweep_of(one) and wanted.cells == "same":
        names = other.names_in(cell.cell.index)
        is_list = other.task.replicas is not None
    else:
        names, is_list = tuple(other.names), other.is_replicated
    if is_same:
        paired = (f"{producer}_{setting.replica.index}",)
        return InputSource(text=text, tasks=paired, output=output, pair=producer)
    if other.foreach is not None:
        collect = other.foreach.collect
        return InputSource(text=text, tasks=(), output=output, is_list=True, group=producer, collect=collect)
    if not is_list and len(names) != 1:
        what = f'input "{name}" of task "{task.name}" is from "{producer}", which has no copy'
        raise UnplannableError("wrong-input", what, "give it a default, or drop the input", place)
    return InputSource(text=text, tasks=names, output=output, is_list=is_list)


def _check_output(
    task: schema.Task,
    name: str,
    given: schema.Input,
    other: schema.Task,
    output: str,
    place: tuple[str | int, ...],
    *,
    is_one: bool,
) -> None:
    """Check that a task has an output that fits an input. Raises: UnplannableError."""
    whose = f'input "{name}" of task "{task.name}"'
    known = names_of_values(other)
    if known is not None and output not in known:
        what = f'{whose} is from output "{output}" of "{other.name}", which it does not have'
        listed = f"it has {', '.join(sorted(known))}" if known else f"add outputs: to task {other.name}"
        raise UnplannableError("no-such-output", what, guess_hint(output, sorted(known), listed), place)
    if other.is_service:
        what = f'{whose} is from "{other.name}", a service, which has outputs only when it ends'
        raise UnplannableError("outputs-too-late", what, "take it from a task that completes", place)
    found = next((one for one in other.outputs if one.is_found and one.name == output), None)
    offered: ValueType | None = None if found is None else type_of_output(found)
    is_list = other.replicas is not None or other.foreach is not None
    if given.type is None or offered is None or (is_list and not is_one):
        return
    if offered not in _FITTING.get(given.type, (given.type,)):
        what = f"{whose}: wanted {given.type}, and {other.name}.outputs.{output} is a {offered}"
        raise UnplannableError("wrong-input", what, "correct the type of one of them", place)
