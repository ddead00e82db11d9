"""Lets the plan grow by what runs in the place of a task: copies for items, or the tasks of a block. Called by `dispatch`.

What that is comes as an event, so a replay and a successor let the plan grow in the same way.
"""

from sflow_ctl.core import rendering
from sflow_ctl.core.actions.requested.graph import link_more
from sflow_ctl.core.actions.requested.revisions import add_tasks, put_in_force
from sflow_ctl.core.actions.stopping import cannot_start
from sflow_ctl.core.actions.transitions import change, enqueue, take_on
from sflow_ctl.core.commands import ReviseRun
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.events import TextsRendered
from sflow_ctl.core.model.ready_queue import turns_of
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.states import Reason, TaskState
from sflow_ctl.plan.copies.names import CopyNames
from sflow_ctl.plan.copies.task_list import tasks_since
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.parts.cells import BlockStep
from sflow_ctl.plan.revisions.blocks import call_of, with_next_step, with_step
from sflow_ctl.plan.revisions.growing import items_in, late_list, with_first_items, with_items

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
    if run.revising is not None:  # the answer may be of the plan before it
        rendering.hold(run, task)
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
    assert task.plan.foreach is not None
    names = CopyNames(name, task.plan.foreach.copies(len(items)))
    is_first = late.size is None and not any(one in run.index_of for one in names)
    plan = with_first_items(run.plan, task.index, items) if is_first else None
    if plan is not None:
        _extend(run, out, task, plan, text)
    elif late.size is None or items_in(run.plan, name) != list(items):  # another list has other copies
        put_in_force(run, out, with_items(run.plan, name, items), "", text, now)
    if task.state is TaskState.QUEUED:
        change(run, out, task, TaskState.COMPLETED, Reason(EXPANDED, text))


def proceed(run: Run, out: Effects, task: Task, step: BlockStep, now: float) -> None:
    """Put the plan in force that has the next iteration of a block, or complete the task that stands for it."""
    name = task.plan.name
    plan = with_next_step(run.plan, task.index, step)
    if plan is not None and any(one.name in run.index_of for one in tasks_since(plan.tasks, len(run.tasks))):
        plan = None  # of an earlier time
    loop = call_of(task.plan).loop
    text = "its block" if loop is None else f"iteration {step.iteration + 1} of at most {loop.max_iterations}"
    what = f"{name} has ended" if step.outputs is not None else f"{name}, {text}"
    if plan is not None:
        _extend(run, out, task, plan, what)
    else:  # iterations of an earlier time are others, or gone
        put_in_force(run, out, with_step(run.plan, name, step), "", what, now)
    if step.outputs is not None:
        run.outputs[name] = step.outputs
        change(run, out, task, TaskState.COMPLETED, Reason("block_ended", step.why))
    elif task.state is TaskState.QUEUED:
        change(run, out, task, TaskState.WAITING, Reason("iteration", text))


def _extend(run: Run, out: Effects, task: Task, plan: Plan, text: str) -> None:
    """Add what a plan has in the place of a task: nothing else that is there changes, or is looked at."""
    text = f"revision {plan.revision}: {text}"
    out.perform(ReviseRun(by="", source="", plan=plan, text=text, grown=task.index))
    known = len(run.tasks)
    run.plan = plan
    take_on(run, task, plan.tasks[task.index])
    new = add_tasks(run, tasks_since(plan.tasks, known))
    run.queue.shuffle(turns_of(new))
    run.cells.grow(new)
    run.leases.grow(plan, new)
    run.deferred = run.deferred.grown(plan, [one.plan for one in new])
    for one in (*link_more(run, task, new), *new):
        is_waiting = one.state is TaskState.WAITING and not one.is_delayed and one is not task
        if is_waiting and one.unmet == 0 and run.may_start(one):
            enqueue(run, out, one)
