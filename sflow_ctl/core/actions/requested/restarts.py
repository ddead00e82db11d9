"""Starts tasks again on request of an operator: what runs is stopped first, what has ended begins anew. Called by `requests`.

Neither counts as a retry or a restart of the policy, and a task that had ended has all of these again.
"""

from collections.abc import Sequence

from sflow_ctl.core.actions.stopping import following, stop_task, why_never
from sflow_ctl.core.actions.transitions import (
    change,
    end_delay,
    enqueue,
    free_places_waiting_for,
    release_kept,
)
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model.attempt import AttemptVerdict
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.policy import exit_policy
from sflow_ctl.core.requests import Effect, RequestAnswer
from sflow_ctl.core.states import TERMINAL, Reason, TaskState

_NOT_STARTED = (TaskState.WAITING, TaskState.QUEUED)
_PAUSED = "the run is paused: what starts again waits for `sflow-ctl unpause`"
_FAILED = (TaskState.FAILED, TaskState.TIMEOUT, TaskState.LOST)


def restart_tasks(run: Run, out: Effects, tasks: Sequence[Task], by: str, now: float) -> RequestAnswer:
    """Start tasks again, if each of them can be."""
    if run.outcome is not None:
        return RequestAnswer(error="the run is ending: nothing starts again")
    indices = {task.index for task in tasks}
    problems = [f"{task.plan.name} {why}" for task in tasks if (why := _why_not(run, task, indices))]
    if problems:
        return RequestAnswer(error="; ".join(problems))
    effects = [effect for task in tasks for effect in _restart(run, out, task, by, now)]
    text = _PAUSED if run.requests.is_paused else ""
    return RequestAnswer(text=text, effects=tuple(effects))


def _why_not(run: Run, task: Task, others: set[int]) -> str:
    """Say why a task cannot start again, as the end of a sentence; empty if it can. `others` start again as well."""
    attempt = task.attempt
    if task.plan.finally_when is not None:
        return "belongs to the end of the run"
    if not run.may_start(task):
        return "cannot start: a task with `on_failure: drain` has failed, and nothing new starts"
    if task.state in _NOT_STARTED:
        return "" if attempt.number else "has not started yet"
    if task.state in TERMINAL and attempt.uncleared:
        return "has ended, and what it left is being ended: ask again in a moment"
    if task.state is not TaskState.STOPPING and attempt.has_exited:
        return "has exited, and its end is being recorded: ask again in a moment"
    why = why_never(run, task, others)
    return f"cannot start: {why}" if why else ""


def _restart(run: Run, out: Effects, task: Task, by: str, now: float) -> list[Effect]:
    name = task.plan.name
    reason = Reason("restart", f"restarted on request of {by}")
    run.requests.stopped.discard(task.index)
    if task.state in _NOT_STARTED:
        if not task.is_delayed:
            return [Effect(task=name, text="starts again as soon as it may", is_changed=False)]
        end_delay(run, out, task)
        return [Effect(task=name, text="starts again at once")]
    if task.state in TERMINAL:
        return _begin_anew(run, out, task, reason)
    repeated = AttemptVerdict(TaskState.CANCELLED, reason, is_repeated=True)
    if task.state is not TaskState.STOPPING:
        stop_task(run, out, task, repeated, now)
        return [Effect(task=name, text="is being stopped, and starts again")]
    assert task.attempt.verdict is not None
    if following(run, task, task.attempt.verdict, now) is not None:
        return [Effect(task=name, text="is being stopped, and starts again already", is_changed=False)]
    task.attempt.verdict = repeated
    return [Effect(task=name, text="is being stopped already, and starts again")]


def _begin_anew(run: Run, out: Effects, task: Task, reason: Reason) -> list[Effect]:
    """Let a task that has ended start again, and with it those that never ran, or were stopped, because of its end."""
    old = task.state
    release_kept(run, task)
    task.follows_by = "rerun" if task.plan.checkpoint is not None else None
    task.retries_used, task.restarted_at, task.infra_used, task.shunned = 0, (), 0, frozenset()
    if task.attempt.number:
        run.leases.begin_anew(task)
        task.attempt.verdict = None
        change(run, out, task, TaskState.WAITING, reason)
        end_delay(run, out, task)
    else:  # without an attempt there is none to follow
        change(run, out, task, TaskState.WAITING, Reason("requested", reason.text))
        if task.unmet == 0:
            enqueue(run, out, task)
    free_places_waiting_for(run, task)
    forgive(run, task)
    effects = [Effect(task=task.plan.name, text=f"starts again; it was {old}")]
    for other in _held_back(run, task):
        if other.state not in TERMINAL:
            continue  # it has begun anew because of another of these
        why = Reason(reason.word, f"{task.plan.name}, which it needs, starts again")
        effects += _begin_anew(run, out, other, why)
    return effects


def _held_back(run: Run, task: Task) -> list[Task]:
    """Return the tasks that ended because this one had, and may run now."""
    restart = task.plan.restart
    also_stopped = restart is not None and restart.restarts_dependents
    found: dict[int, Task] = {}
    for requirement in task.requirements:
        for index in requirement.dependants:
            other = run.tasks[index]
            is_because = other.last_reason is not None and other.last_reason.word == "upstream"
            may_again = not other.attempt.number or (also_stopped and not other.attempt.uncleared)
            if other.state in TERMINAL and is_because and may_again and not why_never(run, other):
                found[index] = other
    return list(found.values())


def forgive(run: Run, task: Task) -> None:
    """Take back that this task's failure is that of the run; another one's may be."""
    if run.failure is None or run.failure.task != task.plan.name:
        return
    others = (one for one in run.tasks if one.state in _FAILED and one.plan.on_failure == "isolate")
    other = next(others, None)
    if other is None or other.last_reason is None:
        run.failure = None
    else:
        run.failure = exit_policy.cause_of(other, AttemptVerdict(other.state, other.last_reason))
