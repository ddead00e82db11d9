"""What becomes of a task that stands for others: its items; the first iteration of its block, another one, its end. Pure."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from protocol.typed_values import WrongTypeError, as_json, typed
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.plan.parts.cells import BlockStep, PlannedBlock
from sflow_ctl.plan.parts.conditions import condition_of
from sflow_ctl.plan.parts.items import WrongItemsError, item_views, items_of_value

MARK = "~"
MAX_VALUES = 256 * 1024
"""Bytes of the inputs, or outputs, of a block as JSON: each of its tasks has them."""

Evaluate = Callable[[Any, Mapping[str, Any], Mapping[str, Any]], Any]
"""Evaluates the expressions of a value, with names as planned, and more of this moment."""


def own_names(task: PlannedTask) -> dict[str, Any]:
    """Return the names of what tells a copy, or the task of a block, from others."""
    own: dict[str, Any] = _frame_of(task)
    if task.foreach is None or task.item is None:
        return own
    own["replica"] = {"index": task.replica_index, "name": task.name}
    return own | item_views(task.foreach, task.item, task.replica_index)


def evaluating(value_of: Callable[..., Any], task: PlannedTask, field: str) -> Evaluate:
    """Return what evaluates all expressions in a value of a field, by `value_of`, which evaluates one."""
    own = own_names(task)

    def evaluate(value: Any, names: Mapping[str, Any], more: Mapping[str, Any]) -> Any:
        if isinstance(value, str):
            return value_of(value, names, {**own, **more}, field)
        if isinstance(value, dict):
            return {key: evaluate(one, names, more) for key, one in value.items()}
        return [evaluate(one, names, more) for one in value] if isinstance(value, list) else value

    return evaluate


def late_items(task: PlannedTask, evaluate: Evaluate) -> list[Any]:
    """Return the items of a list that is known now. Raises: ExpressionError for what is not a list of items."""
    assert task.foreach is not None
    late = task.foreach.late
    assert late is not None
    value = evaluate(late.items, late.names, {})
    if isinstance(value, dict) and not isinstance(late.items, dict):
        value = str(value)  # a mapping of the file is one to lists, and one of an output is none
    try:
        return items_of_value(value, is_product=late.is_product, most=late.max_items)
    except WrongItemsError as error:
        raise ExpressionError(str(error), error.hint) from None


def next_step(task: PlannedTask, head: PlannedBlock, evaluate: Evaluate) -> BlockStep:
    """Return the step after the present one. Raises: ExpressionError."""
    call = task.block
    assert call is not None
    own = _frame_of(task)
    if call.iteration is None:
        defaults = {name: default for name, (_, default) in head.inputs.items() if default is not None}
        given = {**defaults, **evaluate(call.given, call.names, own)}
        return BlockStep(iteration=0, inputs=_typed(task, head, given))
    name = task.name if call.loop is None else f"{task.name}_{call.iteration}"
    inner = {"block": {"inputs": call.inputs, "iteration": call.iteration, "name": name}}
    outputs = {
        key: _json(task, f'its output "{key}"', evaluate(_of_use(value, call.block, name), head.names, inner))
        for key, value in head.outputs.items()
    }
    _check_size(outputs, "outputs")
    loop = call.loop
    if loop is None:
        return BlockStep(outputs=outputs, why="its block has ended")
    last = {**own, "last": {"inputs": call.inputs, "outputs": outputs, "iteration": call.iteration}}
    count = call.iteration + 1
    after = f"after {count} iteration{'' if count == 1 else 's'}"
    if loop.until is not None and condition_of(evaluate(loop.until, call.names, last)):
        return BlockStep(outputs=outputs, why=f"{after}, as until holds")
    if count >= loop.max_iterations:
        if loop.until is not None and loop.fails_at_limit:
            raise ExpressionError(
                f"{after} its until {loop.until} does not hold, and max_iterations is {loop.max_iterations} "
                "(raise it, or write at_limit: succeed)"
            )
        return BlockStep(outputs=outputs, why=f"{after}, its limit")
    carried = {**call.inputs, **evaluate(loop.carry, call.names, last)}
    return BlockStep(iteration=count, inputs=_typed(task, head, carried))


def _frame_of(task: PlannedTask) -> dict[str, Any]:
    """Return the names of the block that a task is in itself."""
    frame = task.frame
    if frame is None:
        return {}
    return {"block": {"inputs": frame.inputs, "iteration": frame.iteration, "name": frame.name}}


def _of_use(value: Any, block: str, name: str) -> Any:
    """Return an output as written with the tasks of one use of its block."""
    text = msgspec.json.encode(value).replace(f"{block}{MARK}".encode(), f"{name}.".encode())
    return msgspec.json.decode(text)


def _typed(task: PlannedTask, head: PlannedBlock, values: Mapping[str, Any]) -> dict[str, Any]:
    done = {}
    for name, (kind, _) in head.inputs.items():
        what = f'its block\'s input "{name}"'
        try:
            done[name] = typed(_json(task, what, values.get(name)), kind)
        except WrongTypeError as error:
            raise ExpressionError(f"{what}: {error}") from None
    _check_size(done, "inputs")
    return done


def _json(_task: PlannedTask, what: str, value: Any) -> Any:
    try:
        return as_json(value)
    except TypeError as error:
        raise ExpressionError(f"{what} is not a value that JSON has: {error}") from None


def _check_size(values: Mapping[str, Any], what: str) -> None:
    size = len(msgspec.json.encode(values))
    if size > MAX_VALUES:
        raise ExpressionError(
            f"the {what} of its block have {size} bytes, and may have {MAX_VALUES}",
            "hand large values over in files",
        )
