"""Sends signals to tasks on request of an operator. Called by `requests`."""

from collections.abc import Sequence
from signal import Signals

from protocol.messages.orders import SignalAttempt
from protocol.text.signal_names import signal_name
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.requests import Effect, RequestAnswer
from sflow_ctl.core.states import LIVE, TaskState

_BY_SRUN = frozenset({Signals.SIGUSR1, Signals.SIGUSR2})
"""What `srun` passes on to the processes of its step; others make it end the step. Source: srun(1), Slurm 22.05."""


def signal_tasks(run: Run, out: Effects, tasks: Sequence[Task], number: int) -> RequestAnswer:
    """Send a signal to all processes of running tasks, if each of them can be sent one."""
    problems = [f"{task.plan.name} {why}" for task in tasks if (why := _why_not(run, task, number))]
    if problems:
        return RequestAnswer(error="; ".join(problems))
    for task in tasks:
        for node in sorted(set(task.attempt.node_of_rank)):
            out.send(node, SignalAttempt(attempt=task.attempt_id, signal=number))
    text = f"gets {signal_name(number)}"
    return RequestAnswer(effects=tuple(Effect(task=task.plan.name, text=text) for task in tasks))


def _why_not(run: Run, task: Task, number: int) -> str:
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
