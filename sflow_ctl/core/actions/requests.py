"""Carries out what operators ask of a live run, each request once. Called by `Scheduler.handle`."""

from typing import assert_never

from sflow_ctl.core.actions.requested_stops import stop_tasks, stop_whole_run
from sflow_ctl.core.commands import AnswerRequest
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.events import OperatorRequest
from sflow_ctl.core.model.phase import RunPhase
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.requests import Answer, AnyAction, StopRun, StopTasks


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


def _carried_out(run: Run, out: Effects, action: AnyAction, by: str, now: float) -> Answer:
    if run.phase is RunPhase.LEAVING:
        return Answer(error="the run has ended: all that is left is to collect its logs")
    unknown = [name for name in getattr(action, "tasks", ()) if name not in run.index_of]
    if unknown:
        return Answer(error=f"the run has no task {', '.join(unknown)}")
    match action:
        case StopRun(is_killed=is_killed):
            return stop_whole_run(run, out, by, is_killed, now)
        case StopTasks(tasks=names, is_killed=is_killed):
            return stop_tasks(run, out, [run.task_named(name) for name in names], by, is_killed, now)
        case _:
            assert_never(action)
