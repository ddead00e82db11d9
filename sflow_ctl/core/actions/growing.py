"""Lets the plan grow by what runs in the place of a task: copies for items, or the tasks of a block. Called by `dispatch`.

What that is comes as an event, so a replay and a successor let the plan grow in the same way.
"""

from sflow_ctl.core import rendering
from sflow_ctl.core.actions.requested.graph import link_anew
from sflow_ctl.core.actions.requested.revisions import add_tasks, put_in_force
from sflow_ctl.core.actions.stopping import cannot_start
from sflow_ctl.core.actions.transitions import change, enqueue, take_on
from sflow_ctl.core.commands import ReviseRun
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.events import TextsRendered
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.states import Reason, TaskState
from sflow_ctl.plan.copies.task_list import names_of
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.parts.cells import BlockStep
from sflow_ctl.plan.revisions.blocks import call_of, with_step
from sflow_ctl.plan.revisions.growing import items_in, late_list, with_items

EXPANDED = "expanded"
"""The reason of a task that stood for others, which are there now."""


def on_known(run: Run, out: Effects, event: TextsRendered, now: float) -> None:
    """Let the plan grow by what runs in the place of a task, now that it is known, or fail the task."""
    task = rendering.take_decided(run, event)
    if task is None or rendering.decided_by(task) != event.what:
        return  # stopped meanwhile, or waiting again
    if task.unmet:  # what it depends on starts again
        run.queue.push(task.index)
        return
    problem = event.problem
    if not problem:
        try:
            if event.what == "items":
                items = run.deferred.items(task.plan) if event.items is None else event.items
                grow(run, out, task, items, now)
            else:
                step = run.deferred.block_step(task.plan) if event.step is None else event.step
                proceed(run, out, task, step, now)
        except ExpressionError as error:
            problem = error.text
    if problem:
        text = f"{problem}; in {task.plan.where}" if task.plan.where else problem
        has_begun = task.plan.block is not None and task.plan.block.iteration is not None
        reason = Reason("input_error", text)
        cannot_start(run, out, task, TaskState.FAILED, reason, now, "failed" if has_begun else "cannot start")


def grow(run: Run, out: Effects, task: Task, items: list[object], now: float) -> None:
    """Put the plan in force that has a copy of a task for each item. Raises: ExpressionError; nothing is changed then."""
    name, late = task.plan.name, late_list(task.plan)
    assert late is not None
    text = f"{name} has {len(items)} item{'' if len(items) == 1 else 's'}"
    if late.size is not None:  # of an earlier time: another list has other copies
        if items_in(run.plan, name) != list(items):
            put_in_force(run, out, with_items(run.plan, name, items), "", text, now)
    else:
        _extend(run, out, task, with_items(run.plan, name, items), text)
    if task.state is TaskState.QUEUED:
        change(run, out, task, TaskState.COMPLETED, Reason(EXPANDED, text))


def proceed(run: Run, out: Effects, task: Task, step: BlockStep, now: float) -> None:
    """Put the plan in force that has the next iteration of a block, or complete the task that stands for it."""
    name = task.plan.name
    plan = with_step(run.plan, name, step)
    if step.outputs is not None:
        _extend(run, out, task, plan, f"{name} has ended")
        run.outputs[name] = step.outputs
        change(run, out, task, TaskState.COMPLETED, Reason("block_ended", step.why))
        return
    loop = call_of(task.plan).loop
    text = "its block" if loop is None else f"iteration {step.iteration + 1} of at most {loop.max_iterations}"
    if len(plan.tasks) > len(run.plan.tasks) and _names(run.plan) <= _names(plan):
        _extend(run, out, task, plan, f"{name}, {text}")
    else:  # iterations of an earlier time are others, or gone
        put_in_force(run, out, plan, "", f"{name}, {text}", now)
    if task.state is TaskState.QUEUED:
        change(run, out, task, TaskState.WAITING, Reason("iteration", text))


def _names(plan: Plan) -> set[str]:
    return set(names_of(plan.tasks))


def _extend(run: Run, out: Effects, task: Task, plan: Plan, text: str) -> None:
    """Add what a plan has in the place of a task: nothing else that is there changes."""
    out.perform(ReviseRun(by="", source="", plan=plan, text=f"revision {plan.revision}: {text}"))
    known = len(run.tasks)
    run.plan = plan
    take_on(run, task, plan.tasks[task.index])
    add_tasks(run, plan.tasks[known:])
    new = run.tasks[known:]
    run.cells.grow(plan, new)
    run.leases.use(plan)
    run.deferred = run.deferred.of_plan(plan)
    link_anew(run.tasks)
    for one in new:
        if one.unmet == 0 and run.may_start(one):
            enqueue(run, out, one)
