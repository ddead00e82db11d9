"""Decides whether another attempt follows one that has ended, when, and where. Pure."""

from msgspec import Struct

from sflow_ctl.core.model.attempt import AttemptVerdict
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.parts.again import MAX_BACKOFF_S, Restart

MAX_RENEWALS = 3
"""How often a task gets other ports because a foreign process has its own, without using up a retry."""


MAX_MOVES = 16
"""How often a task starts elsewhere after the loss of a node, without using up a retry: one that itself brings down its nodes
must not take all of them."""
NODES_FAULT = ("node_lost", "agent_died")
"""Reasons that are not the task's doing. A policy that names one of them means both: the processes are gone in both cases."""


class NextAttempt(Struct, frozen=True):
    """The next attempt."""

    delay_s: float
    text: str
    """ "attempt 2 of 3 in 5 s": the end of a sentence."""
    in_place: bool
    """On the same nodes and GPUs, which stay taken meanwhile."""
    has_other_ports: bool = False
    """It counts neither as a retry nor as a restart."""
    is_move: bool = False
    """A node was lost; it counts neither as a retry nor as a restart."""
    is_revised: bool = False
    """It is of another plan, and begins without retries used."""


def following(task: Task, end: AttemptVerdict, now: float) -> NextAttempt | None:
    """Return the next attempt after `end` in a run that is not stopping, or None when the task has ended."""
    if task.next_plan is not None:
        return None if task.next_plan.removed_in else NextAttempt(0.0, "", False, is_revised=True)
    if end.is_final:
        return None
    if end.is_repeated:
        return NextAttempt(0.0, "it is restarted", True)
    if task.attempt.port_conflicts and end.may_retry and task.renewals < MAX_RENEWALS:
        return NextAttempt(
            0.0, "again with another port, which does not count as a retry", True, has_other_ports=True
        )
    if end.reason.word in NODES_FAULT and task.plan.on_node_lost is not None:
        if task.plan.on_node_lost == "fail":
            return None
        if task.moves < MAX_MOVES:
            where = " elsewhere" if end.reason.word == "node_lost" else ""
            return NextAttempt(0.0, f"again{where}, which does not count as a retry", False, is_move=True)
    restart = task.plan.restart
    if restart is not None:
        return _restart(task, restart, end, now)
    retries = task.plan.retries
    words = NODES_FAULT if end.reason.word in NODES_FAULT else (end.reason.word,)
    is_covered = not set(words).isdisjoint(retries.reasons) if retries.reasons else end.may_retry
    if not is_covered or task.retries_used >= retries.count:
        return None
    delay_s = retries.interval_s * retries.backoff**task.retries_used
    return NextAttempt(
        delay_s, f"attempt {task.retries_used + 2} of {retries.count + 1} in {delay_s:g} s", False
    )


def begin_without_past(task: Task) -> None:
    """Forget the retries, restarts, renewals and moves of a task that starts again because that is asked for."""
    task.retries_used, task.restarted_at, task.renewals, task.moves = 0, (), 0, 0


def _restart(task: Task, restart: Restart, end: AttemptVerdict, now: float) -> NextAttempt | None:
    if end.state is TaskState.COMPLETED:
        if restart.policy != "always":
            return None
    elif end.state is TaskState.CANCELLED:
        return None
    recent = recent_restarts(task, restart, now)
    if recent >= restart.count:
        return None
    delay_s = min(restart.backoff_s * 2.0**recent, max(MAX_BACKOFF_S, restart.backoff_s))
    return NextAttempt(delay_s, f"restart {recent + 1} of {restart.count} in {delay_s:g} s", True)


def recent_restarts(task: Task, restart: Restart, now: float) -> int:
    """Return how many restarts lie within the policy's window."""
    if restart.window_s is None:
        return len(task.restarted_at)
    return sum(at > now - restart.window_s for at in task.restarted_at)


def note(task: Task, end: AttemptVerdict, next_one: NextAttempt, now: float) -> None:
    """Count the attempt that `following` returned."""
    if next_one.is_revised:
        begin_without_past(task)
        return
    if end.is_repeated:
        return
    if next_one.has_other_ports:
        task.renewals += 1
    elif next_one.is_move:
        task.moves += 1
    elif next_one.in_place:
        task.restarted_at += (now,)
    else:
        task.retries_used += 1
