"""Plans that grow while their run continues: the copies of a task whose list of items has become known. Pure.

The task that stood for its copies keeps its place and name, and is none of them from then on. New tasks follow all others, so
that a scheduler finds every task at the index that it had. Called by `core/actions/growing`, and for a new plan of the same run.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from sflow_ctl.plan.assignment import place_view
from sflow_ctl.plan.copies.names import CopyNames
from sflow_ctl.plan.copies.task_list import ByName, Copies, Part, kind_of, listed_tasks, parts_of, with_more
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.graph import topological_order
from sflow_ctl.plan.model import Dependency, Plan, PlannedTask
from sflow_ctl.plan.parts.cells import BlockCall, BlockStep, LateItems, PlannedBlock, item_of
from sflow_ctl.plan.parts.items import WrongItemsError, grouped, ungrouped
from sflow_ctl.plan.revisions.blocks import steps_of, with_step
from sflow_ctl.plan.revisions.merging import flexible


def late_list(task: PlannedTask) -> LateItems | None:
    """Return the list that a task stands for; None for another task."""
    return None if task.foreach is None else task.foreach.late


def with_items(plan: Plan, name: str, items: Sequence[Any]) -> Plan:
    """Return the plan with a copy of a task for each item, in place of those for an earlier list.

    Raises: ExpressionError for a list that the task cannot be run for.
    """
    parts, stand_in = list(parts_of(plan.tasks)), _stand_in(plan, name)
    done, copies = _known(stand_in, items)
    rest: list[Part] = [done if part is stand_in else part for part in parts if not _is_copy(part, name)]
    names = CopyNames(name, len(copies[0]) if copies else 0)
    _check_pairs(plan, _late(stand_in), len(items))
    rest = _without_partners_of(rest, name, len(names))
    taken = next((one.name for one in rest if isinstance(one, PlannedTask) and one.name in names), None)
    if taken is not None:
        raise ExpressionError(
            f"a copy would be called {taken}, as another task is", "rename one of the tasks"
        )
    views = {key: view for key, view in plan.task_views.items() if key not in _names(parts, name)}
    if views:
        views |= dict.fromkeys(names, _view(plan, copies[0].first) if copies else {})
        views[name] = list(names)
    tasks = listed_tasks([*rest, *copies])
    return replace(plan, revision=plan.revision + 1, source="", tasks=tasks, task_views=views)


def with_first_items(plan: Plan, index: int, items: Sequence[Any]) -> Plan | None:
    """Return what `with_items` does for the task at an index, of which there are no copies yet, made of the new tasks alone.

    None where other tasks have to be looked at. The caller knows that no task has the name of a copy.
    Raises: ExpressionError.
    """
    stand_in = plan.tasks[index]
    done, copies = _known(stand_in, items)
    _check_pairs(plan, _late(stand_in), len(items))
    tasks = with_more(plan.tasks, index, done, copies)
    if tasks is None:
        return None
    views, names = plan.task_views, CopyNames(stand_in.name, len(copies[0]) if copies else 0)
    if views:
        view = _view(plan, copies[0].first) if copies else {}
        views = views | dict.fromkeys(names, view) | {stand_in.name: list(names)}
    return replace(plan, revision=plan.revision + 1, source="", tasks=tasks, task_views=views)


def grown_like(new: Plan, old: Plan) -> Plan:
    """Return another plan of a run with the copies, and the tasks of blocks, that the plan so far has.

    That is where it has the same lists and blocks.
    """
    revision, source = new.revision, new.source
    for part in _each_after_its_partners(old):
        for before in part if isinstance(part, Copies) else (part,):
            new = _grown_by(new, old, before)
    return replace(new, revision=revision, source=source)


def _each_after_its_partners(plan: Plan) -> list[Part]:
    """Return the parts that a plan has grown by, or may grow by: each after those that its copies are paired with."""
    parts = [
        part
        for part in parts_of(plan.tasks)
        if not kind_of(part).removed_in
        and (late_list(kind_of(part)) is not None or kind_of(part).block is not None)
    ]
    by_name = {kind_of(part).name: part for part in parts}
    partners = {
        name: [base for base, _ in late.pairs if base in by_name]
        for name, part in by_name.items()
        if (late := late_list(kind_of(part))) is not None
    }
    if not any(partners.values()):
        return parts
    order = topological_order({name: partners.get(name, []) for name in by_name})
    return [by_name[name] for name in order]


def _grown_by(new: Plan, old: Plan, before: PlannedTask) -> Plan:
    """Return a plan that has grown by what another plan has in the place of a task."""
    task = ByName(new.tasks).get(before.name)
    if task is None:
        return new
    late = late_list(before)
    if late is not None:
        items = items_in(old, before.name)
        if late.size == len(items) and late_list(task) is not None:
            new = with_items(new, before.name, items)
    elif task.block is not None and before.block is not None:
        for step in _steps_that_count(task.block, before.block, steps_of(old, before)):
            new = with_step(new, before.name, step)
    return new


def _steps_that_count(now: BlockCall, before: BlockCall, steps: Sequence[BlockStep]) -> Sequence[BlockStep]:
    """Return the steps that a block would have come to by its own words as well, as far as these are the same as before.

    Another `until` or limit counts from the present iteration on, and decides about the end again.
    """
    head, old = now.head or PlannedBlock(), before.head or PlannedBlock()
    inputs = (now.block, now.given, now.given_names, head.inputs, now.loop is None)
    if inputs != (before.block, before.given, before.given_names, old.inputs, before.loop is None):
        return ()
    carry = (now.loop and now.loop.carry, now.carry_names, head.outputs, head.names)
    if carry != (before.loop and before.loop.carry, before.carry_names, old.outputs, old.names):
        return [step for step in steps[:1] if step.outputs is None]
    is_same = (now.loop, now.names) == (before.loop, before.names)
    return steps if is_same else [step for step in steps if step.outputs is None]


def items_in(plan: Plan, name: str) -> list[Any]:
    """Return the items that a plan has copies of a task for."""
    return ungrouped(one.item for one in _copies(plan, name) if one.item is not None)


def _late(stand_in: PlannedTask) -> LateItems:
    late = late_list(stand_in)
    assert late is not None, f"{stand_in.name} stands for no copies"
    return late


def _stand_in(plan: Plan, name: str) -> PlannedTask:
    return next(part for part in parts_of(plan.tasks) if isinstance(part, PlannedTask) and part.name == name)


def _known(stand_in: PlannedTask, items: Sequence[Any]) -> tuple[PlannedTask, list[Copies]]:
    """Return a task whose list is known, and its copies."""
    foreach, late = stand_in.foreach, _late(stand_in)
    assert foreach is not None
    if not items and late.fails_if_empty:
        raise ExpressionError("its list has no items, and on_empty is fail")
    done = replace(stand_in, foreach=replace(foreach, late=replace(late, size=len(items))))
    if not items:
        return done, []
    quorum = stand_in.quorum
    if quorum is not None:
        quorum = quorum.over(len(items))
        if quorum.needed > len(items):
            raise ExpressionError(
                f"{quorum.needed} copies must complete, and its list has {len(items)} items"
            )
    try:
        groups = grouped(foreach, items)
    except WrongItemsError as error:
        raise ExpressionError(str(error), error.hint) from None
    first = replace(
        flexible(stand_in),
        name=f"{stand_in.name}_0",
        foreach=replace(foreach, late=None),
        item=item_of(foreach, groups[0]),
        depends_on=(
            Dependency(task=stand_in.name, until="completed"),
            *stand_in.depends_on,
            *(Dependency(task=f"{base}_0", until=until, pair=base) for base, until in late.pairs),
        ),
        when=None if late.waits_for_when else stand_in.when,
        quorum=quorum,
    )
    return done, [Copies(first, len(groups), None, groups)]


def _check_pairs(plan: Plan, late: LateItems, size: int) -> None:
    """Check that the copies that others are paired with are as many. Raises: ExpressionError."""
    for base, _ in late.pairs:
        count = len(items_in(plan, base))
        if count != size:
            raise ExpressionError(
                f"its list has {size} items, and that of {base} has {count}, with whose copies its own are paired",
                "give both the same list, or leave out items: same",
            )


def _without_partners_of(parts: list[Part], name: str, size: int) -> list[Part]:
    """Return parts without the copies that are paired with copies of a task which is to have only so many."""
    done: list[Part] = []
    shorter: list[str] = []
    for part in parts:
        first = kind_of(part)
        is_paired = first.item is not None and any(one.pair == name for one in first.depends_on)
        if is_paired and isinstance(part, Copies) and len(part) > size:
            shorter.append(first.base)
            done += (
                [Copies(first, size, None, None if part.items is None else part.items[:size])] if size else []
            )
        elif is_paired and isinstance(part, PlannedTask) and part.replica_index >= size:
            shorter.append(first.base)
        else:
            done.append(part)
    for base in dict.fromkeys(shorter):
        done = _without_partners_of(done, base, size)
    return done


def _is_copy(part: Part, name: str) -> bool:
    """Return whether a part are copies of a task, or one of them."""
    first = part.first if isinstance(part, Copies) else part
    return first.base == name and first.item is not None


def _copies(plan: Plan, name: str) -> Iterator[PlannedTask]:
    """Yield the copies of a task that a plan has, in the order of their items."""
    found = []
    for part in parts_of(plan.tasks):
        if _is_copy(part, name):
            found += list(part) if isinstance(part, Copies) else [part] if not part.removed_in else []
    yield from sorted(found, key=lambda task: task.replica_index)


def _names(parts: Sequence[Part], name: str) -> set[str]:
    return {
        one.name
        for part in parts
        if _is_copy(part, name)
        for one in (part if isinstance(part, Copies) else (part,))
    }


def _view(plan: Plan, task: PlannedTask) -> dict[str, Any]:
    """Return what expressions see of a copy."""
    view: dict[str, Any] = {"backend": task.backend, "operator": task.operator}
    if task.placement.is_flexible:
        return view
    return view | place_view([plan.nodes[node] for node in task.placement.nodes], task.placement.gpus)
