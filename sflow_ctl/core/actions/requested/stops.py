"""Stops the run, or tasks of it, on request of an operator. Called by `requests` and, at the end of a run, by the reactor.

What is stopped so has not failed: no failure policy applies. What needs it alive is stopped as well, unless its policy is
`on_failure: continue`, and what has not started and needs it is skipped.
"""

from collections.abc import Iterable, Iterator, Sequence

from sflow_ctl.core.actions.shutdown import stop_run
from sflow_ctl.core.actions.stop_orders import expect_stop, send_stop
from sflow_ctl.core.actions.stopping import following, stop_task, stopped_verdict
from sflow_ctl.core.actions.transitions import change, give_up_reservation, send_leases
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model.attempt import AttemptVerdict
from sflow_ctl.core.model.port_leases import needs_leases
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.policy import exit_policy
from sflow_ctl.core.requests import Effect, RequestAnswer
from sflow_ctl.core.states import TERMINAL, FirstCause, Reason, TaskState

_NOT_STARTED = (TaskState.WAITING, TaskState.QUEUED)


def stop_whole_run(run: Run, out: Effects, by: str, is_killed: bool, now: float) -> RequestAnswer:
    """Stop the run in order, or kill what is left of it."""
    was_ending = run.outcome is not None
    live = run.tally.live
    stop_run(run, out, exit_policy.stopped_on_request(by), is_forced=is_killed, now=now)
    tasks = f"{live} live task" if live == 1 else f"{live} live tasks"
    if is_killed:
        return RequestAnswer(text=f"killing the run: {tasks}")
    if was_ending:
        return RequestAnswer(text=f"the run is ending already, with {tasks}; stop --kill ends it at once")
    return RequestAnswer(text=f"stopping the run: {tasks}")


def stop_tasks(
    run: Run, out: Effects, tasks: Sequence[Task], by: str, is_killed: bool, now: float
) -> RequestAnswer:
    """Stop tasks, and do not start them again."""
    if run.outcome is not None and not is_killed:
        return RequestAnswer(
            error="the run is ending, and stops its tasks in their order",
            hint="stop --kill kills these tasks now",
        )
    return RequestAnswer(effects=tuple(_stop(run, out, task, by, is_killed, now) for task in tasks))


def _stop(run: Run, out: Effects, task: Task, by: str, is_killed: bool, now: float) -> Effect:
    name, reason = task.plan.name, Reason("stopped", f"stopped on request of {by}")
    if task.state in TERMINAL:
        return Effect(task=name, text=f"has ended already: {task.state}", is_changed=False)
    if run.is_ending_for(task):
        verdict = stopped_verdict(run, task)
    else:
        verdict = AttemptVerdict(TaskState.CANCELLED, reason, is_final=True)
        run.requests.stopped.add(task.index)
    if task.state in _NOT_STARTED:
        return _withdraw(run, out, task, reason)
    attempt = task.attempt
    has_exited = attempt.has_exited and not attempt.uploading and task.state is not TaskState.STOPPING
    if is_killed and not attempt.is_unsent and not has_exited:
        return _kill(run, out, task, verdict, now)
    if task.state is not TaskState.STOPPING:
        stop_task(run, out, task, verdict, now)
        text = "has exited already, and its end is being recorded" if has_exited else "is being stopped"
        return Effect(task=name, text=text, is_changed=not has_exited)
    assert attempt.verdict is not None
    if following(run, task, attempt.verdict, now) is None:
        return Effect(task=name, text="is being stopped already", is_changed=False)
    attempt.verdict = verdict
    return Effect(task=name, text="is being stopped already, and does not start again")


def _withdraw(run: Run, out: Effects, task: Task, reason: Reason) -> Effect:
    """Cancel a task that has not started, or waits for its next attempt."""
    give_up_reservation(run, task)
    if task.attempt.number and needs_leases(task.plan):
        send_leases(run, out, run.leases.ended(task))
    change(run, out, task, TaskState.CANCELLED, reason)
    text = "does not start again" if task.attempt.number else "does not start"
    return Effect(task=task.plan.name, text=text)


def _kill(run: Run, out: Effects, task: Task, verdict: AttemptVerdict, now: float) -> Effect:
    """End a task without its grace, also one that is being stopped."""
    attempt = task.attempt
    if attempt.is_killed:
        return Effect(task=task.plan.name, text="is being killed already", is_changed=False)
    attempt.is_killed = True
    if task.state is not TaskState.STOPPING:
        stop_task(run, out, task, verdict, now)
    else:
        assert attempt.verdict is not None
        if following(run, task, attempt.verdict, now) is not None:
            attempt.verdict = verdict
        send_stop(run, out, task)
        expect_stop(run, task, now)
    return Effect(task=task.plan.name, text="is being killed")


def job_that_was_stopped(run: Run) -> FirstCause | None:
    """Return the cause of a run of which a job did not complete because an operator stopped it, or what it needs."""
    for task, stopped in _with_dependants(run, sorted(run.requests.stopped)):
        is_job = not task.plan.is_service and task.plan.finally_when is None
        if is_job and task.plan.on_failure != "continue" and task.last_reason is not None:
            text = f"task {task.plan.name} did not complete: {task.last_reason.text}"
            if stopped is not task and stopped.last_reason is not None:
                text = f"{stopped.plan.name} was {stopped.last_reason.text}, and {task.plan.name}, which needs it, "
                text += "did not complete"
                return FirstCause(text=text, task=stopped.plan.name, reason=stopped.last_reason)
            return FirstCause(text=text, task=task.plan.name, reason=task.last_reason)
    return None


def _with_dependants(run: Run, indices: Iterable[int]) -> Iterator[tuple[Task, Task]]:
    """Yield the tasks that ended because of a request, and those that ended because of these, each with that first one."""
    pending = [
        (index, run.tasks[index]) for index in indices if run.tasks[index].state is TaskState.CANCELLED
    ]
    seen = {index for index, _ in pending}
    while pending:
        number, first = pending.pop(0)
        task = run.tasks[number]
        yield task, first
        for requirement in task.requirements:
            for index in requirement.dependants:
                other = run.tasks[index]
                is_because = other.last_reason is not None and other.last_reason.word == "upstream"
                if index not in seen and is_because and other.state in TERMINAL:
                    seen.add(index)
                    pending.append((index, first))
