"""Decides whether queued tasks run, by their conditions. Called by `dispatch` for tasks with `when`.

What a condition is made of takes time to evaluate, so that is done outside of the scheduler; the answer is an event.
"""

from sflow_ctl.core import rendering
from sflow_ctl.core.actions.stopping import cannot_start
from sflow_ctl.core.actions.transitions import change, skip_unsatisfiable
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.events import TextsRendered
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.policy import explanations
from sflow_ctl.core.states import Reason, TaskState
from sflow_ctl.plan.parts.conditions import why_skipped


def decide(run: Run, out: Effects, task: Task) -> None:
    """Skip a task whose condition was false when it was planned; have another one, or a list of items, evaluated now."""
    when = task.plan.when
    if when is None or when.value is None or rendering.decided_by(task) != "when":
        rendering.decide(run, out, task)
        return
    assert not when.value, "the plan has no condition that always holds"
    _skip(run, out, task, why_skipped(when.text, {}))


def on_decided(run: Run, out: Effects, event: TextsRendered, now: float) -> None:
    """Queue a task again whose condition holds; skip it otherwise."""
    task = rendering.take_decided(run, event)
    if task is None or task.plan.when is None:
        return  # stopped meanwhile, or waiting for a service again
    if event.problem:
        text = explanations.of_expression(event.problem, task.plan, event.field)
        word = "input_error" if event.problem.startswith("its input ") else "expression"
        cannot_start(run, out, task, TaskState.FAILED, Reason(word, text), now)
    elif event.holds:
        task.may_run = True
        run.changed.add(task.index)
        run.queue.push(task.index)
    else:
        _skip(run, out, task, why_skipped(task.plan.when.text, event.operands))


def _skip(run: Run, out: Effects, task: Task, text: str) -> None:
    change(run, out, task, TaskState.SKIPPED, Reason("when", text))
    skip_unsatisfiable(run, out)
