"""Plans tasks that stand for blocks, and takes the tasks of blocks out of the plan: each use of a block makes some of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import EXPRESSION_START, names_used
from sflow_ctl.plan.copies.task_list import Copies, Part, kind_of, listed_tasks, parts_of
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.plan.parts.cells import BlockCall, PlannedBlock, PlannedLoop
from sflow_ctl.planner.deferred import known_names
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.numbers import as_int, at
from sflow_ctl.planner.source import Scope
from sflow_ctl.planner.tasks.scopes import TaskScope
from sflow_ctl.planner.tasks.scripts import BLOCK_MARK, Scripts

MAX_ITERATIONS = 100_000


def with_block(planned: PlannedTask, task: schema.Task, scope: TaskScope, scripts: Scripts) -> PlannedTask:
    """Return a planned task that stands for a block. Raises: UnplannableError, NumberError, ExpressionError."""
    assert task.block is not None
    for name, value in task.with_.items():
        _check(scripts, task, planned, value, ("with", name), scope)
    loop = None
    texts: list[Any] = [task.with_]
    if task.loop is not None:
        place = ("loop", "max_iterations")
        most = at(place, as_int, scope.value(task.loop.max_iterations), 1)
        if most > MAX_ITERATIONS:
            what = f'task "{task.name}": max_iterations must be at most {MAX_ITERATIONS}, is {most}'
            raise UnplannableError("wrong-value", what, path=place)
        texts += [task.loop.until, task.loop.carry]
        loop = PlannedLoop(
            max_iterations=most,
            until=task.loop.until,
            carry=task.loop.carry,
            fails_at_limit=task.loop.at_limit == "fail",
        )
    call = BlockCall(
        block=task.block,
        given=task.with_,
        loop=loop,
        names=known_names(_names(texts), scope.names),
        given_names=known_names(_names(task.with_), scope.names),
        carry_names={} if task.loop is None else known_names(_names(task.loop.carry), scope.names),
        own_needs=len(planned.depends_on),
    )
    return replace(planned, block=call)


def _check(
    scripts: Scripts, task: schema.Task, planned: PlannedTask, value: Any, path: Any, scope: TaskScope
) -> None:
    """Check expressions of what a block is given, as far as that can be known. Raises: UnplannableError, ExpressionError."""
    if isinstance(value, dict):
        for key, one in value.items():
            _check(scripts, task, planned, one, (*path, key), scope)
    else:
        scripts.value(task, planned.name, value, path, scope.names)


def _names(value: Any) -> set[str]:
    """Return the names that the expressions in a value use."""
    if isinstance(value, str):
        return set(names_used(value)) if EXPRESSION_START in value else set()
    if isinstance(value, dict | list):
        return {
            name for one in (value.values() if isinstance(value, dict) else value) for name in _names(one)
        }
    return set()


def with_blocks(plan: Plan, blocks: Sequence[schema.TaskBlock], scope: Scope, findings: Findings) -> Plan:
    """Return a plan in which the tasks of blocks stand beside the others."""
    inside = {block.name: list[Part]() for block in blocks}
    rest: list[Part] = []
    for part in parts_of(plan.tasks):
        block, mark, _ = kind_of(part).base.partition(BLOCK_MARK)
        (inside[block] if mark and block in inside else rest).append(part)
    if not rest:
        findings.add(
            "nothing-to-run", "no task stands for a block, and there is no other one", None, "add tasks:"
        )
        findings.stop_if_any()
    heads = {
        block.name: PlannedBlock(
            inputs={name: (one.type, scope.value(one.default)) for name, one in block.inputs.items()},
            outputs=block.outputs,
            names=known_names(_names(block.outputs), scope.names),
        )
        for block in blocks
    }
    tasks = {name: tuple(listed_tasks(_with_heads(parts, heads))) for name, parts in inside.items()}
    return replace(plan, tasks=listed_tasks(_with_heads(rest, heads)), blocks=heads, block_tasks=tasks)


def _with_heads(parts: Sequence[Part], heads: Mapping[str, PlannedBlock]) -> list[Part]:
    """Return tasks of which those that stand for blocks know what goes into these and comes out of them."""
    done: list[Part] = []
    for part in parts:
        task = kind_of(part)
        if task.block is not None:
            task = replace(task, block=replace(task.block, head=heads[task.block.block]))
            part = part.like(task) if isinstance(part, Copies) else task
        done.append(part)
    return done
