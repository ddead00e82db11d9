"""Carries out what operators ask of a live run, each request once. Called by `Scheduler.handle`."""

from typing import assert_never

from sflow_ctl.core.actions.requested.restarts import restart_tasks
from sflow_ctl.core.actions.requested.revisions import apply_plan
from sflow_ctl.core.actions.requested.signals import signal_tasks
from sflow_ctl.core.actions.requested.stops import stop_tasks, stop_whole_run
from sflow_ctl.core.commands import AnswerRequest
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.events import OperatorRequest
from sflow_ctl.core.model.phase import RunPhase
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.requests import (
    AnyAction,
    Apply,
    Pause,
    RequestAnswer,
    RestartTasks,
    SignalTasks,
    StopRun,
    StopTasks,
    Unpause,
)
from sflow_ctl.core.states import TaskState


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
            return signal_tasks(run, out, tasks, number)
        case Pause() | Unpause():
            return _pause(run, isinstance(action, Pause))
        case Apply():
            return apply_plan(run, out, action, by, now)
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
