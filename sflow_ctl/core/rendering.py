"""Has the deferred values of attempts evaluated outside of the scheduler, and takes them in. Called by `dispatch` and `uploads`.

What an expression computes takes time, up to its budget. The scheduler orders it with `RenderTexts`, and puts the values in their
places once they are here.
"""

from sflow_ctl.core.commands import RenderTexts
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.events import TextsRendered
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.plan.deferred import needs_rendering
from sflow_ctl.plan.errors import ExpressionError

MAX_AT_ONCE = 256
"""Attempts that have begun and wait for their values: as many as an agent may have orders to start."""


def admits(run: Run, task: Task) -> bool:
    """Return whether a task may begin, as far as its deferred values are concerned."""
    return len(run.rendering) < MAX_AT_ONCE or not needs_rendering(task.plan)


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
