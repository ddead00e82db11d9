"""Decides whether another attempt follows one that has ended, when, and where. Pure."""

from msgspec import Struct

from sflow_ctl.core.model.attempt import AttemptVerdict
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.parts.again import MAX_BACKOFF_S, Restart, Retries

MAX_RENEWALS = 3
"""How often a task gets other ports because a foreign process has its own, without using up a retry."""


MAX_MOVES = 16
"""How often a task starts elsewhere after the loss of a node, without using up a retry: one that itself brings down its nodes
must not take all of them."""
NODES_FAULT = ("node_lost", "agent_died")
"""Reasons that are not the task's doing. A policy that names one of them means both: the processes are gone in both cases."""


INFRASTRUCTURE = (*NODES_FAULT, "gpu_lost", "ports", "job_node_failed", "job_preempted")
"""Reasons for which `retries` may have a budget of its own."""
_AVOIDED = ("launch", "gpu_lost", "ports", "node_lost")
"""Reasons after which another node may do better."""


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
    is_infra: bool = False
    """It is of the budget for faults of nodes."""
    is_revised: bool = False
    """It is of another plan, and begins without retries used."""


def following(task: Task, end: AttemptVerdict, now: float) -> NextAttempt | None:
    """Return the next attempt after `end` in a run that is not stopping, or None when the task has ended."""
    found = _following(task, end, now)
    is_asked_for = end.is_repeated or (found is not None and found.is_revised)
    return None if found is None or (_is_too_late(task, now + found.delay_s) and not is_asked_for) else found


def _following(task: Task, end: AttemptVerdict, now: float) -> NextAttempt | None:
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
    return _retry(task, task.plan.retries, end)


def _is_too_late(task: Task, at: float) -> bool:
    """Return whether the time for all attempts of a task has passed then."""
    total_s, since = task.plan.retries.total_s, task.tries_since
    return total_s is not None and since is not None and at >= since + total_s


def _retry(task: Task, retries: Retries, end: AttemptVerdict) -> NextAttempt | None:
    if end.state in (TaskState.COMPLETED, TaskState.CANCELLED):
        return None  # their reasons are words that failures have, too
    if end.reason.word in INFRASTRUCTURE and task.infra_used < retries.infra_count:
        text = f"attempt after a fault of its node, {task.infra_used + 1} of {retries.infra_count}, not counted as a retry"
        return NextAttempt(_delay_s(retries, task.infra_used), text, False, is_infra=True)
    code = _own_status(task, end)
    if code in retries.fatal_codes or task.retries_used >= retries.count:
        return None
    words = NODES_FAULT if end.reason.word in NODES_FAULT else (end.reason.word,)
    is_covered = end.may_retry if retries.reasons is None else not set(words).isdisjoint(retries.reasons)
    if not is_covered and code not in retries.transient_codes:
        return None
    delay_s = _delay_s(retries, task.retries_used)
    return NextAttempt(
        delay_s, f"attempt {task.retries_used + 2} of {retries.count + 1} in {delay_s:g} s", False
    )


def _own_status(task: Task, end: AttemptVerdict) -> int | None:
    """Return the status with which a program ended by itself; None for every other end."""
    attempt = task.attempt
    is_own = (
        end.state is TaskState.FAILED
        and attempt.failed_first is not None
        and not attempt.failed_first.was_asked
    )
    return attempt.exit_code if is_own and end.reason.word not in ("probe", *INFRASTRUCTURE) else None


def _delay_s(retries: Retries, used: int) -> float:
    delay_s = retries.interval_s * retries.backoff**used
    return delay_s if retries.max_interval_s is None else min(delay_s, retries.max_interval_s)


def begin_without_past(task: Task) -> None:
    """Forget the retries, restarts, renewals and moves of a task that starts again because that is asked for."""
    task.retries_used, task.restarted_at, task.renewals, task.moves = 0, (), 0, 0
    task.infra_used, task.shunned, task.tries_since = 0, frozenset(), None


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
        task.tries_since = None
        return
    if task.plan.retries.avoids_nodes and end.reason.word in _AVOIDED and not next_one.in_place:
        task.shunned |= _nodes_at_fault(task)
    if next_one.has_other_ports:
        task.renewals += 1
    elif next_one.is_move:
        task.moves += 1
    elif next_one.is_infra:
        task.infra_used += 1
    elif next_one.in_place:
        task.restarted_at += (now,)
    else:
        task.retries_used += 1


def _nodes_at_fault(task: Task) -> frozenset[int]:
    """Return the node that ended an attempt; all of its nodes where that is not known."""
    attempt = task.attempt
    if attempt.node_of_cause is not None:
        return frozenset((attempt.node_of_cause,))
    return frozenset(attempt.placement.nodes) if attempt.placement is not None else frozenset()
