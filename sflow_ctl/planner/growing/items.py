"""The items of a task with `foreach`: evaluated when planning, unless they are made of outputs of other tasks."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from msgspec.structs import replace

from protocol.typed_values import described
from sflow_ctl.format import schema
from sflow_ctl.format.expressions.simple import simple
from sflow_ctl.format.expressions.templates import EXPRESSION_START, as_text, names_used
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.plan.parts.cells import LateItems, PlannedForeach
from sflow_ctl.plan.parts.items import MAX_ITEMS, WrongItemsError, grouped, index_name, items_of_value
from sflow_ctl.planner.context import PlanContext
from sflow_ctl.planner.deferred import ItemValues
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.numbers import as_int, at
from sflow_ctl.planner.phases.graph import Expanded
from sflow_ctl.planner.tasks.scopes import TaskScope
from sflow_ctl.planner.tasks.scripts import Scripts

Evaluate = Callable[[Any], Any]


def plan_foreach(task: schema.Task, evaluate: Evaluate) -> PlannedForeach:
    """Return how the copies of a task are run. Raises: UnplannableError, NumberError, ExpressionError."""
    foreach = task.foreach
    assert foreach is not None
    limit = None
    if foreach.max_parallel is not None:
        limit = at(("foreach", "max_parallel"), as_int, evaluate(foreach.max_parallel), 1)
    chunk, parallel = _chunk_of(task, foreach, evaluate)
    seed = foreach.shuffle
    return PlannedForeach(
        name=foreach.as_,
        max_parallel=limit,
        collect=foreach.collect,
        chunk=chunk,
        chunk_parallel=parallel,
        seed=None if seed is None else at(("foreach", "shuffle", "seed"), as_int, evaluate(seed.seed)),
    )


def _chunk_of(task: schema.Task, foreach: schema.Foreach, evaluate: Evaluate) -> tuple[int | None, int]:
    """Return how many items a copy is for, and how many run at once in it. Raises: UnplannableError, NumberError."""
    parallel = at(("foreach", "chunk_parallel"), as_int, evaluate(foreach.chunk_parallel), 1)
    if foreach.chunk is None:
        if parallel != 1:
            what = f'task "{task.name}" has chunk_parallel, and no chunk'
            hint = "add chunk: N, or say with max_parallel how many copies run at once"
            raise UnplannableError("missing-key", what, hint, ("foreach", "chunk_parallel"))
        return None, 1
    return at(("foreach", "chunk"), as_int, evaluate(foreach.chunk), 1), parallel


def groups_of(task: schema.Task, foreach: PlannedForeach, items: Sequence[Any] | None) -> list[Any] | None:
    """Return what each copy of a task is for; None for a list that is not known. Raises: UnplannableError."""
    if items is None:
        return None
    try:
        return grouped(foreach, items)
    except WrongItemsError as error:
        what = f'task "{task.name}": {error}'
        raise UnplannableError("wrong-value", what, error.hint, ("foreach", "chunk")) from None


def items_of(task: schema.Task, evaluate: Evaluate, context: PlanContext) -> list[Any] | None:
    """Return the items of a task; None for a list that outputs of other tasks decide about, and for an empty one.

    Raises: UnplannableError, NumberError, ExpressionError.
    """
    foreach = task.foreach
    assert foreach is not None
    if foreach.is_late:
        return None
    field = next(
        name for name in ("sequence", "count", "glob", "items") if getattr(foreach, name) is not None
    )
    most = limit_of(foreach, evaluate)
    try:
        items = items_of_value(
            _written(task, foreach, evaluate, context, most), is_product=foreach.product, most=most
        )
    except WrongItemsError as error:
        path = ("foreach", field, *((error.key,) if error.key else ()))
        code = "too-many-items" if "max_items" in str(error) else "wrong-value"
        raise UnplannableError(code, f'task "{task.name}": {error}', error.hint, path) from None
    if not items and foreach.on_empty == "fail":
        what = f'task "{task.name}" has no items'
        raise UnplannableError("no-items", what, "list at least one, or drop on_empty", ("foreach", field))
    return items or None


def limit_of(foreach: schema.Foreach, evaluate: Evaluate) -> int:
    """Return the largest number of items. Raises: NumberError, ExpressionError."""
    place = ("foreach", "max_items")
    return min(at(place, as_int, evaluate(foreach.max_items), 0), MAX_ITEMS)


def _written(
    task: schema.Task,
    foreach: schema.Foreach,
    evaluate: Evaluate,
    context: PlanContext,
    most: int,
) -> Any:
    """Return the list, or the mapping to lists, as it is written."""
    if foreach.sequence is not None:
        return _numbers(task, foreach.sequence, evaluate, most)
    if foreach.count is not None:
        return range(at(("foreach", "count"), as_int, evaluate(foreach.count), 0))
    if foreach.glob is not None:
        pattern = as_text(evaluate(foreach.glob))
        absolute = pattern if pattern.startswith("/") else f"{context.workspace_dir}/{pattern}"
        return context.glob(absolute)
    value = evaluate(foreach.items)
    if isinstance(value, dict) and not isinstance(foreach.items, dict):
        what = f'task "{task.name}": its items must be a list, are {described(value)}'
        raise UnplannableError(
            "wrong-value", what, "write a list, or an expression that is one", ("foreach", "items")
        )
    return value


def _numbers(
    task: schema.Task, sequence: schema.NumberSequence, evaluate: Evaluate, most: int
) -> Sequence[Any]:
    place: tuple[str | int, ...] = ("foreach", "sequence")
    start = at((*place, "start"), as_int, evaluate(sequence.start))
    step = at((*place, "step"), as_int, evaluate(sequence.step))
    if step == 0:
        what = f'task "{task.name}": the step of its sequence is 0'
        raise UnplannableError("wrong-value", what, "use 1 to count up, -1 to count down", (*place, "step"))
    if sequence.count is not None:
        count = at((*place, "count"), as_int, evaluate(sequence.count), 0)
        numbers: Sequence[int] = range(start, start + step * count, step)
    else:
        end = at((*place, "end"), as_int, evaluate(sequence.end))
        numbers = range(start, end + (1 if step > 0 else -1), step)
        if not numbers:
            what = f'task "{task.name}": its sequence has no number: {start} to {end} in steps of {step}'
            raise UnplannableError("wrong-value", what, f"use step: {-step}", place)
    if sequence.format is None or len(numbers) > most:
        return numbers
    try:
        return [sequence.format % one for one in numbers]
    except (TypeError, ValueError) as error:
        what = f'task "{task.name}": the format "{sequence.format}" of its sequence does not fit a number: {error}'
        raise UnplannableError("wrong-value", what, 'e.g. "%03d"', (*place, "format")) from error


def find_unpaired(expanded: Sequence[Expanded], findings: Findings) -> None:
    """Find tasks whose copies are paired with those of a task that has another number of them."""
    by_base = {one.task.name: one for one in expanded}
    for one in expanded:
        wanted = [each.task for each in one.task.dependencies if each.items == "same"]
        for other in (by_base[name] for name in dict.fromkeys(wanted)):
            place = findings.loaded.where("tasks", one.task.name, "foreach")
            if _grouping(one) != _grouping(other):
                what = f'copies of task "{one.task.name}" are paired with those of "{other.task.name}" (items: same)'
                hint = "give both the same chunk and shuffle"
                findings.add("wrong-value", f"{what}, and have other items together", place, hint)
                continue
            count, needed = _size(other), _size(one)
            if count == needed or (needed is None and count is not None):
                continue
            what = (
                f'copies of task "{one.task.name}" are paired with those of "{other.task.name}" (items: same)'
            )
            if count is None:
                what += ", whose list is known only when other tasks have completed"
            else:
                what += f", and have {needed} items where those have {count}"
            findings.add("wrong-value", what, place, "give both the same list, or leave out items: same")


def _grouping(one: Expanded) -> tuple[int | None, int | None]:
    """Return what decides which items are together in a copy."""
    assert one.foreach is not None
    return (one.foreach.chunk, one.foreach.seed if one.foreach.chunk is not None else None)


def _size(one: Expanded) -> int | None:
    """Return the number of items of a task; None if it is not known yet."""
    assert one.task.foreach is not None
    return None if one.task.foreach.is_late else one.item_count if one.items else 0


def refuse_item(task: schema.Task, field: Any) -> None:
    """Refuse the item, or the copy, in a field that all copies have in common. Raises: UnplannableError."""
    assert task.foreach is not None
    text = str(field)
    if EXPRESSION_START not in text:
        return
    name = task.foreach.as_
    used = sorted(names_used(text) & {name, f"{name}_index", "replica"})
    if used:
        what = (
            f'task "{task.name}" uses {used[0]} in {field}, and all of its copies have this field in common'
        )
        hint = f"{name} can be used in its script, variables, files, inputs, probes, when and success"
        raise UnplannableError("item-too-late", what, hint)


def with_quick_values(planned: PlannedTask) -> PlannedTask:
    """Return a copy that says whether its deferred expressions are nothing but its item, or parts of it."""
    foreach = planned.foreach
    has_more = planned.inputs or planned.ports or planned.checkpoint or planned.deferred_tcp_ports
    if (
        foreach is None
        or not planned.deferred
        or has_more
        or any(one.names is not None for one in planned.files)
    ):
        return planned
    known = {foreach.name, index_name(foreach.name), "replica"}
    if any(
        one.names or one.uses_ports or not _is_part_of(one.placeholder, known) for one in planned.deferred
    ):
        return planned
    return replace(planned, foreach=replace(foreach, is_quick=True))


def _is_part_of(placeholder: str, known: Collection[str]) -> bool:
    parts = simple(placeholder.removeprefix(EXPRESSION_START).removesuffix("}}").strip())
    if parts is None:
        return False
    return all(atom is None or atom.name is None or atom.name in known for atom in (parts.left, parts.right))


def completed(
    planned: PlannedTask, task: schema.Task, one: Expanded, scope: TaskScope, scripts: Scripts
) -> PlannedTask:
    """Return a planned copy, or the task that stands for others, with what is known once it is planned.

    Raises: UnplannableError, NumberError, ExpressionError.
    """
    planned = with_quick_values(planned)
    if task.block is not None:
        from sflow_ctl.planner.growing.blocks import with_block

        planned = with_block(planned, task, scope, scripts)
    if not one.is_late:
        return planned
    foreach = planned.foreach
    assert foreach is not None
    return replace(planned, foreach=replace(foreach, late=_late_items(planned, one.task, scope, scripts)))


def _late_items(planned: PlannedTask, task: schema.Task, scope: TaskScope, scripts: Scripts) -> LateItems:
    foreach = task.foreach
    assert foreach is not None
    written = foreach.late_items if foreach.is_late else []
    known = {
        name: value
        for name, value in scope.names.items()
        if name == "block" or not isinstance(value, ItemValues)
    }
    names: dict[str, object] = {}
    lists = written.items() if isinstance(written, dict) else [("", written)]
    for key, value in lists:
        field = "items" if foreach.items is not None else "count"
        place = ("foreach", field, *((key,) if key else ()))
        _, deferred = scripts.value(task, planned.name, value, place, known)
        names |= {name: one for each in deferred for name, one in each.names.items()}
    own = {foreach.as_, index_name(foreach.as_), "replica"}
    when = planned.when
    return LateItems(
        items=written,
        names=names,
        is_product=foreach.product,
        max_items=limit_of(foreach, scope.value),
        fails_if_empty=foreach.on_empty == "fail",
        pairs=tuple((one.task, one.until) for one in task.dependencies if one.items == "same"),
        waits_for_when=when is not None and not names_used(when.text) & own and not task.inputs,
    )
