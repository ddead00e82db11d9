"""Carries out what operators ask of a live run, each request once. Called by `Scheduler.handle`."""

from collections.abc import Sequence
from signal import Signals
from typing import assert_never

from protocol.messages.orders import SignalAttempt
from protocol.text.signal_names import signal_name
from sflow_ctl.core.actions.requested_restarts import restart_tasks
from sflow_ctl.core.actions.requested_stops import stop_tasks, stop_whole_run
from sflow_ctl.core.commands import AnswerRequest
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.events import OperatorRequest
from sflow_ctl.core.model.phase import RunPhase
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.requests import (
    AnyAction,
    Effect,
    Pause,
    RequestAnswer,
    RestartTasks,
    SignalTasks,
    StopRun,
    StopTasks,
    Unpause,
)
from sflow_ctl.core.states import LIVE, TaskState

_BY_SRUN = frozenset({Signals.SIGUSR1, Signals.SIGUSR2})
"""What `srun` passes on to the processes of its step; others make it end the step. Source: srun(1), Slurm 22.05."""


def on_request(run: Run, out: Effects, event: OperatorRequest, now: float) -> None:
    """Carry out a request and answer it; one that has been answered before is only answered again."""
    known = run.requests.answers.get(event.id)
    answer = known or _carried_out(run, out, event.action, event.by, now)
    if known is None:
        run.requests.remember(event.id, answer)
    out.perform(
        AnswerRequest(
            id=event.id, by=event.by, action=event.action, answer=answer, is_repeated=known is not None
        )
    )


def _carried_out(run: Run, out: Effects, action: AnyAction, by: str, now: float) -> RequestAnswer:
    if run.phase is RunPhase.LEAVING:
        return RequestAnswer(error="the run has ended: all that is left is to collect its logs")
    unknown = [name for name in getattr(action, "tasks", ()) if name not in run.index_of]
    if unknown:
        return RequestAnswer(error=f"the run has no task {', '.join(unknown)}")
    tasks = [run.task_named(name) for name in getattr(action, "tasks", ())]
    match action:
        case StopRun(is_killed=is_killed):
            return stop_whole_run(run, out, by, is_killed, now)
        case StopTasks(is_killed=is_killed):
            return stop_tasks(run, out, tasks, by, is_killed, now)
        case RestartTasks():
            return restart_tasks(run, out, tasks, by, now)
        case SignalTasks(signal=number):
            return _signal_tasks(run, out, tasks, number)
        case Pause() | Unpause():
            return _pause(run, isinstance(action, Pause))
        case _:
            assert_never(action)


def _pause(run: Run, is_paused: bool) -> RequestAnswer:
    """Start nothing new from now on, or start tasks again."""
    if run.outcome is not None:
        return RequestAnswer(error="the run is ending: nothing new starts but what belongs to its end")
    was_paused, run.requests.is_paused = run.requests.is_paused, is_paused
    if not is_paused:
        run.queue.retry_all()
        return RequestAnswer(text="tasks start again" if was_paused else "the run was not paused")
    waiting = sum(task.state in (TaskState.WAITING, TaskState.QUEUED) for task in run.tasks)
    already = "the run is paused already" if was_paused else "the run is paused: nothing new starts"
    return RequestAnswer(text=f"{already}; {run.tally.live} live, {waiting} not started")


def _signal_tasks(run: Run, out: Effects, tasks: Sequence[Task], number: int) -> RequestAnswer:
    """Send a signal to all processes of running tasks, if each of them can be sent one."""
    problems = [f"{task.plan.name} {why}" for task in tasks if (why := _why_no_signal(run, task, number))]
    if problems:
        return RequestAnswer(error="; ".join(problems))
    for task in tasks:
        for node in sorted(set(task.attempt.node_of_rank)):
            out.send(node, SignalAttempt(attempt=task.attempt_id, signal=number))
    text = f"gets {signal_name(number)}"
    return RequestAnswer(effects=tuple(Effect(task=task.plan.name, text=text) for task in tasks))


def _why_no_signal(run: Run, task: Task, number: int) -> str:
    if task.state not in LIVE:
        return f"does not run: it is {task.state}"
    attempt = task.attempt
    if task.state is TaskState.STARTING:
        return "is starting: ask again in a moment"
    if attempt.has_exited:
        return "has exited, and its end is being recorded"
    away = [run.node_names[node] for node in sorted(set(attempt.node_of_rank)) if not run.is_up(node)]
    if away:
        return f"cannot be reached: the agent of {', '.join(away)} is not connected now"
    if task.plan.launch_kind == "step" and number not in _BY_SRUN:
        names = " and ".join(sorted(one.name for one in _BY_SRUN))
        return f"is a job step, to which srun passes on {names} only"
    return ""
