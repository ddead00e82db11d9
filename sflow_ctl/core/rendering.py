"""Has the deferred values of attempts evaluated outside of the scheduler, and takes them in. Called by `dispatch` and `uploads`.

What an expression computes takes time, up to its budget. The scheduler orders it with `RenderTexts`, and puts the values in their
places once they are here.
"""

from typing import Literal

from sflow_ctl.core.commands import RenderTexts
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.events import TextsRendered
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.deferred import needs_rendering
from sflow_ctl.plan.errors import ExpressionError
from sflow_ctl.plan.model import PlannedTask

MAX_AT_ONCE = 256
"""Attempts that have begun and wait for their values: as many as an agent may have orders to start."""


def admits(run: Run, task: Task) -> bool:
    """Return whether a task may begin, as far as its deferred values are concerned."""
    return len(run.rendering) < MAX_AT_ONCE or is_quick(task.plan) or not needs_rendering(task.plan)


def is_quick(plan: PlannedTask) -> bool:
    """Return whether the deferred values of a task are nothing but its item, or parts of it: an order would cost more."""
    return plan.item is not None and plan.foreach is not None and plan.foreach.is_quick


def fill_now(run: Run, task: Task) -> bool:
    """Fill such values into an attempt; return whether that could be done: an order says why not."""
    try:
        task.attempt.fill_in(task.plan, run.deferred.rendered(task.plan, task.attempt.ports))
    except ExpressionError:
        return False
    return True


def retry_held(run: Run) -> None:
    """Queue again as many of the tasks that were not admitted as may be now."""
    free = MAX_AT_ONCE - len(run.rendering)
    if free > 0 and run.awaiting_rendering:
        for index in run.awaiting_rendering[:free]:
            run.queue.push(index)
        del run.awaiting_rendering[:free]


def begin(run: Run, out: Effects, task: Task) -> None:
    """Have the deferred values of a task's attempt evaluated, unless they are being."""
    if task.index not in run.rendering:
        run.rendering.add(task.index)
        run.changed.add(task.index)
        out.perform(RenderTexts(task=task.plan.name, attempt=task.attempt.number))


def is_open(task: Task) -> bool:
    """Return whether it is not known yet that a queued task runs, or what runs in its place."""
    return (task.plan.when is not None and not task.may_run) or _stands_for_others(task)


def decided_by(task: Task) -> Literal["when", "items", "block"]:
    """Return what has to be evaluated of a queued task before it starts: its condition, or what it stands for."""
    late = None if task.plan.foreach is None else task.plan.foreach.late
    is_open = task.plan.when is not None and not task.may_run
    if late is not None:
        return "when" if late.waits_for_when and is_open else "items"
    return "when" if is_open or task.plan.block is None else "block"


def _stands_for_others(task: Task) -> bool:
    plan = task.plan
    return plan.block is not None or (plan.foreach is not None and plan.foreach.late is not None)


def decide(run: Run, out: Effects, task: Task) -> None:
    """Have that evaluated, unless it is being; once a revision is over, if that may make another plan."""
    if run.revising is not None and decided_by(task) != "when":
        hold(run, task)
    elif task.index not in run.deciding:
        run.deciding.add(task.index)
        run.changed.add(task.index)
        out.perform(RenderTexts(task=task.plan.name, attempt=task.attempt.number, what=decided_by(task)))


def hold(run: Run, task: Task) -> None:
    """Keep a queued task that stands for others until the present revision is over."""
    assert run.revising is not None
    if task.index not in run.revising.held:
        run.revising.held.append(task.index)


def filled(run: Run, task: Task, event: TextsRendered) -> str:
    """Fill values into an attempt; return why that cannot be done, or nothing."""
    if event.problem:
        return event.problem
    texts = event.texts
    if texts is None:  # of a journal
        try:
            texts = run.deferred.rendered(task.plan, task.attempt.ports, task.attempt.checkpoint)
            task.attempt.fill_in(task.plan, texts)
        except ExpressionError:  # it needs a value that is secret: its processes have had it
            task.attempt.filled, task.attempt.is_unsent = task.plan, False
        return ""
    try:
        task.attempt.fill_in(task.plan, texts)
    except ExpressionError as error:
        return error.text
    return ""


def take_decided(run: Run, event: TextsRendered) -> Task | None:
    """Return the task that an event decides about, which waits for that no longer; None if it was stopped meanwhile."""
    index = run.index_of.get(event.task)
    if index is None or index not in run.deciding:
        return None
    run.deciding.discard(index)
    task = run.tasks[index]
    return task if task.state is TaskState.QUEUED else None
