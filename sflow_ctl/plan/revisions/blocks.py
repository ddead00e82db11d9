"""Plans that grow by the tasks of blocks: each use of a block, and each iteration of a loop, has tasks of its own. Pure.

A task that stands for a block waits for the tasks of its present iteration beside what it depends on itself. Called by
`core/actions/growing`, and for a new plan of the same run.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
from msgspec.structs import replace

from sflow_ctl.plan.copies.task_list import ByName, Copies, Part, kind_of, listed_tasks, parts_of, with_more
from sflow_ctl.plan.graph import dependency_names
from sflow_ctl.plan.model import Dependency, Plan, PlannedTask
from sflow_ctl.plan.parts.cells import BlockCall, BlockStep, Frame
from sflow_ctl.plan.revisions.merging import flexible
from sflow_ctl.plan.words import Until

MARK = "~"
"""After the name of a block in the names of its tasks as planned."""


def frame_name(owner: PlannedTask, iteration: int) -> str:
    """Return what the names of the tasks of an iteration begin with."""
    call = call_of(owner)
    return owner.name if call.loop is None else f"{owner.name}_{iteration}"


def call_of(owner: PlannedTask) -> BlockCall:
    """Return the block that a task stands for."""
    assert owner.block is not None, f"{owner.name} stands for no block"
    return owner.block


def with_step(plan: Plan, name: str, step: BlockStep) -> Plan:
    """Return the plan after a step of the task with this name: with another iteration, or its outputs.

    Iterations from that one on that were there before are gone.
    """
    parts = _parts_with(plan, name)
    owner = next(part for part in parts if isinstance(part, PlannedTask) and part.name == name)
    if step.outputs is not None:
        done = replace(owner, block=replace(call_of(owner), outputs=step.outputs))
        tasks: list[Part] = [done if part is owner else part for part in parts]
        return replace(plan, revision=plan.revision + 1, source="", tasks=listed_tasks(tasks))
    gone = _from_iteration(parts, name, step.iteration)
    before = [part for part in parts if not _is_gone(part, gone)]
    body = _body(plan, owner, step, _ends(before, name, step.iteration - 1))
    call = call_of(owner)
    waits = _waiting(owner, step, body)
    views = {key: view for key, view in plan.task_views.items() if key not in gone}
    views |= _views(plan, call.block, frame_name(owner, step.iteration))
    tasks = [*(waits if part is owner else part for part in before), *body]
    return replace(plan, revision=plan.revision + 1, source="", tasks=listed_tasks(tasks), task_views=views)


def with_next_step(plan: Plan, index: int, step: BlockStep) -> Plan | None:
    """Return the plan after the next step of the task at an index: what `with_step` returns, made of the new tasks alone.

    None where other tasks have to be looked at: iterations of an earlier time may be there.
    """
    owner = plan.tasks[index]
    call = call_of(owner)
    if step.outputs is not None:
        done = replace(owner, block=replace(call, outputs=step.outputs))
        tasks = with_more(plan.tasks, index, done, ())
        return None if tasks is None else replace(plan, revision=plan.revision + 1, source="", tasks=tasks)
    if step.iteration != (0 if call.iteration is None else call.iteration + 1) or call.outputs is not None:
        return None
    body = _body(plan, owner, step, owner.depends_on[call.own_needs :])
    tasks = with_more(plan.tasks, index, _waiting(owner, step, body), body)
    if tasks is None:
        return None
    views = {**plan.task_views, **_views(plan, call.block, frame_name(owner, step.iteration))}
    return replace(plan, revision=plan.revision + 1, source="", tasks=tasks, task_views=views)


def _waiting(owner: PlannedTask, step: BlockStep, body: Sequence[PlannedTask]) -> PlannedTask:
    """Return a task that stands for a block, and waits for the tasks of an iteration."""
    call = call_of(owner)
    return replace(
        owner,
        block=replace(call, iteration=step.iteration, inputs=step.inputs, outputs=None),
        depends_on=(*owner.depends_on[: call.own_needs], *_waits_for(body)),
    )


def _parts_with(plan: Plan, name: str) -> list[Part]:
    """Return the parts of a plan, of which this task is one by itself."""
    parts: list[Part] = []
    for part in parts_of(plan.tasks):
        if isinstance(part, Copies) and name in part.names:
            parts += list(part)
        else:
            parts.append(part)
    return parts


def steps_of(plan: Plan, owner: PlannedTask) -> list[BlockStep]:
    """Return the steps that a plan has of a task that stands for a block, in order."""
    inputs: dict[int, dict[str, Any]] = {}
    for part in parts_of(plan.tasks):
        task = kind_of(part)
        if task.frame is not None and task.frame.owner == owner.name and not task.removed_in:
            inputs[task.frame.iteration] = task.frame.inputs
    call = call_of(owner)
    known = sorted(number for number in inputs if call.iteration is not None and number <= call.iteration)
    steps = [BlockStep(iteration=number, inputs=inputs[number]) for number in known]
    return [*steps, BlockStep(outputs=call.outputs)] if call.outputs is not None and steps else steps


def without_stale(plan: Plan, is_same: Callable[[str], bool]) -> Plan:
    """Return the plan in which blocks continue where something is not the same as before: what follows was made of its outputs.

    A loop continues with the first iteration of which a task is not the same; a block begins anew if what it depends on is not.
    Services are not asked about.
    """
    revision, source = plan.revision, plan.source
    owners = [task.name for task in plan.tasks if task.block is not None and task.block.iteration is not None]
    for name in owners:
        owner = ByName(plan.tasks).get(name)
        if owner is None:
            continue  # of an iteration that is gone
        call, members = call_of(owner), plan.members()
        own = replace(owner, depends_on=owner.depends_on[: call.own_needs])
        tasks = {task.name: task for task in plan.tasks}
        if not all(is_same(one) or tasks[one].is_service for one in dependency_names(own, members)):
            plan = _begun_anew(plan, owner)
            continue
        for step in steps_of(plan, owner):
            is_last = step.iteration == call.iteration and call.outputs is None
            if (
                step.outputs is None
                and not is_last
                and not all(map(is_same, _members(plan, name, step.iteration)))
            ):
                plan = with_step(plan, name, step)
                break
    return replace(plan, revision=revision, source=source)


def _members(plan: Plan, name: str, iteration: int) -> list[str]:
    """Return the tasks of an iteration; those of blocks inside of it answer for themselves."""
    return [
        task.name
        for task in plan.tasks
        if task.frame is not None and (task.frame.owner, task.frame.iteration) == (name, iteration)
    ]


def _begun_anew(plan: Plan, owner: PlannedTask) -> Plan:
    """Return the plan in which a task that stands for a block has not begun."""
    parts = _parts_with(plan, owner.name)
    gone = _from_iteration(parts, owner.name, 0)
    call = call_of(owner)
    fresh = replace(
        owner,
        depends_on=owner.depends_on[: call.own_needs],
        block=replace(call, iteration=None, inputs={}, outputs=None),
    )
    tasks = [
        fresh if isinstance(part, PlannedTask) and part.name == owner.name else part
        for part in parts
        if not _is_gone(part, gone)
    ]
    views = {key: view for key, view in plan.task_views.items() if key not in gone}
    return replace(plan, tasks=listed_tasks(tasks), task_views=views)


def _from_iteration(parts: Sequence[Part], name: str, iteration: int) -> set[str]:
    """Return the names of the tasks of a block from an iteration on, and of blocks inside of it."""
    gone: set[str] = set()
    for part in parts:
        frame = kind_of(part).frame
        if frame is None:
            continue
        if (frame.owner == name and frame.iteration >= iteration) or frame.owner in gone:
            gone.update(part.names if isinstance(part, Copies) else (part.name,))
            gone.add(kind_of(part).base)
    return gone


def _is_gone(part: Part, gone: set[str]) -> bool:
    return kind_of(part).name in gone


def _ends(parts: Sequence[Part], name: str, iteration: int) -> tuple[Dependency, ...]:
    """Return what is to be waited for of an iteration."""
    members = [
        part
        for part in parts
        if (frame := kind_of(part).frame) is not None and (frame.owner, frame.iteration) == (name, iteration)
    ]
    return _waits_for(members)


def _waits_for(parts: Sequence[Part]) -> tuple[Dependency, ...]:
    """Return what waits for the ends of tasks that do not count against the run."""
    found: dict[Dependency, None] = {}
    for part in parts:
        task = kind_of(part)
        wanted = task.base if task.is_replicated else task.name
        until: Until = "settled" if task.quorum is None else "completed"
        found[Dependency(task=wanted, until=until, is_group=task.is_replicated)] = None
        if task.quorum is not None:
            found[Dependency(task=wanted, until="finished", is_group=True)] = None
    return tuple(found)


def _body(
    plan: Plan, owner: PlannedTask, step: BlockStep, after: tuple[Dependency, ...]
) -> list[PlannedTask]:
    """Return the tasks of an iteration, which begins after the ends of the one before."""
    call = call_of(owner)
    name = frame_name(owner, step.iteration)
    frame = Frame(owner=owner.name, name=name, iteration=step.iteration, inputs=step.inputs)
    outer = owner.depends_on[: call.own_needs]
    return [
        flexible(
            replace(task, frame=frame, depends_on=tuple(dict.fromkeys((*task.depends_on, *outer, *after))))
        )
        for task in _renamed(plan, call.block, name)
    ]


def _renamed(plan: Plan, block: str, name: str) -> tuple[PlannedTask, ...]:
    """Return the tasks of a block with the names that they have in one of its uses, wherever these stand."""
    content = msgspec.json.encode(plan.block_tasks[block], enc_hook=str)
    mark, here = f"{block}{MARK}".encode(), msgspec.json.encode(f"{name}.")[1:-1]
    return _decoder().decode(content.replace(mark, here))


@cache
def _decoder() -> "msgspec.json.Decoder[tuple[PlannedTask, ...]]":
    return msgspec.json.Decoder(tuple[PlannedTask, ...])


def _views(plan: Plan, block: str, name: str) -> Mapping[str, object]:
    """Return what expressions see of the tasks of a use."""
    mark, views = f"{block}{MARK}", plan.task_views
    keys = dict.fromkeys(key for task in plan.block_tasks[block] for key in (task.name, task.base))
    return {
        key.replace(mark, f"{name}.", 1): [one.replace(mark, f"{name}.", 1) for one in view]
        if isinstance(view := views[key], list)
        else view
        for key in keys
        if key in views
    }
