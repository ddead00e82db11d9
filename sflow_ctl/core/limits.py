"""What follows when a timer of an attempt is due. Called by `reactor`.

A limit that would end an attempt is judged once the agents of its nodes have confirmed that they run. A node that stands still
(SIGSTOP, `scontrol suspend`, a paused machine) does not answer; when it moves again, its first word is for how long it did not.
"""

from typing import assert_never

from protocol.messages.orders import ConfirmLife
from sflow_ctl.core.actions.exit_gate import on_log_overdue, on_server_heard
from sflow_ctl.core.actions.reconciliation import on_agent_lost
from sflow_ctl.core.actions.stopping import cannot_start, stop_task
from sflow_ctl.core.actions.transitions import end_delay
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.model.timers import (
    AttemptTimer,
    DeadlineDue,
    Limit,
    LogOverdue,
    OtherRanksDue,
    QueueTimeoutDue,
    RetryDue,
    ServerHeard,
    StopOverdue,
    TimeoutDue,
    TotalTimeoutDue,
)
from sflow_ctl.core.policy import timeouts
from sflow_ctl.core.states import TaskState


def on_attempt_timer(run: Run, out: Effects, timer: AttemptTimer, due_at: float, now: float) -> None:
    """Act on a timer that is due since `due_at`, unless it is outdated, or has to wait for agents."""
    task = run.tasks[timer.task]
    if task.attempt.number != timer.attempt:
        return
    match timer:
        case RetryDue():
            if task.state is TaskState.WAITING:
                end_delay(run, out, task)
        case QueueTimeoutDue():
            if task.state is TaskState.QUEUED and task.placeless_since is not None:
                task.placeless_since = None
                cannot_start(run, out, task, TaskState.FAILED, timeouts.found_no_place(task), now)
        case LogOverdue(rank=rank):
            on_log_overdue(run, out, task, rank, now)
        case ServerHeard(rank=rank):
            on_server_heard(run, out, task, rank, now)
        case TimeoutDue() | TotalTimeoutDue() | DeadlineDue() | OtherRanksDue() | StopOverdue():
            if _applies(task, timer) and not _asks(run, out, task, timer, due_at, now):
                _judge(run, out, task, timer, now)
        case _:
            assert_never(timer)


def on_confirmed(run: Run, out: Effects, node: int, number: int, now: float) -> None:
    """Judge the limits that have waited for this agent alone."""
    _judge_all(run, out, run.timers.confirmed(node, number), now)


def release_limits(run: Run, out: Effects, now: float) -> None:
    """Judge the limits that need no agent's word any more: nodes are lost, or live though their loops stand still."""
    while (
        node := next((one for one in run.timers.asked_nodes() if not _answers(run, one)), None)
    ) is not None:
        _judge_all(run, out, run.timers.confirmed(node), now)


def ask_again(run: Run, out: Effects, node: int) -> None:
    """Repeat what an agent that has said hello was asked: the question, or its answer, is lost."""
    number = run.timers.question_of(node)
    if number is not None:
        out.send(node, ConfirmLife(number=number))


def _applies(task: Task, limit: Limit) -> bool:
    """Return whether a limit would end the attempt, or give up its nodes."""
    attempt = task.attempt
    is_starting = task.state in (TaskState.STARTING, TaskState.RUNNING)
    match limit:
        case TimeoutDue() | TotalTimeoutDue():
            return is_starting or (task.state is TaskState.READY and not task.plan.is_service)
        case DeadlineDue(part=part):
            # Met, and some rank has still not started, is late as well.
            is_late = attempt.readiness.is_late(part) or attempt.readiness.is_met
            return is_starting and is_late and not attempt.uploading
        case OtherRanksDue():
            is_done = bool(attempt.uploading)
            return bool(attempt.open_ranks) and not is_done and task.state is not TaskState.STOPPING
        case StopOverdue():
            return task.is_live and attempt.placement is not None
        case _:
            assert_never(limit)


def _judge_all(run: Run, out: Effects, limits: list[Limit], now: float) -> None:
    for limit in limits:
        task = run.tasks[limit.task]
        if task.attempt.number == limit.attempt and _applies(task, limit):
            _judge(run, out, task, limit, now)


def _judge(run: Run, out: Effects, task: Task, limit: Limit, now: float) -> None:
    names = run.node_names
    match limit:
        case TimeoutDue():
            stop_task(run, out, task, timeouts.timed_out(task, names), now)
        case TotalTimeoutDue():
            stop_task(run, out, task, timeouts.timed_out_in_total(task, names), now)
        case DeadlineDue(part=part):
            verdict = timeouts.not_ready_in_time(task, names, part, is_final=run.plan.late_is_final)
            stop_task(run, out, task, verdict, now)
        case OtherRanksDue():
            stop_task(run, out, task, timeouts.ranks_ran_on(task), now)
        case StopOverdue():
            for node in task.attempt.nodes_left:
                on_agent_lost(run, out, node, f"it did not end {task.attempt_id} in time", now)
        case _:
            assert_never(limit)


def _asks(run: Run, out: Effects, task: Task, limit: Limit, due_at: float, now: float) -> bool:
    """Ask the agents of an attempt whether they run, and keep the limit until they answer; return whether one is asked."""
    if task.plan.finally_when is not None:
        return False  # the time of the run's end is over at the same moment, and waits for no agent
    nodes = [node for node in task.attempt.nodes_left if _answers(run, node)]
    for node in nodes:
        number = run.timers.ask(node, limit, due_at, now)
        if number is not None:
            out.send(node, ConfirmLife(number=number))
    return bool(nodes)


def _answers(run: Run, node: int) -> bool:
    """Return whether a node's agent answers if it runs: it is connected, and its loop is not known to be held up."""
    here = run.nodes[node]
    return here.is_up and not here.is_gone and not here.is_held_up
