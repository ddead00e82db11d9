"""Ends of copies of a task of which a part is enough: what a failure means, and when the others are stopped.

Imported by `stopping` for the tasks that have a quorum.
"""

from collections.abc import Sequence

import msgspec

from sflow_ctl.core.actions.stopping import following, stop_task, task_failed
from sflow_ctl.core.actions.transitions import change, give_up_reservation, send_leases
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model.attempt import AttemptVerdict
from sflow_ctl.core.model.port_leases import needs_leases
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.policy import exit_policy, quorums
from sflow_ctl.core.states import Reason, TaskState

_ENOUGH = Reason("enough", "enough of its copies have completed")


def judge_copies(run: Run, out: Effects, task: Task, verdict: AttemptVerdict, now: float) -> None:
    """Apply the end of a copy of a task of which a part is enough: its failure counts once too few can complete."""
    quorum = task.plan.quorum
    assert quorum is not None
    if verdict.state is TaskState.COMPLETED:
        if quorum.stops_when_reached:
            _stop_rest(run, out, quorums.rest_if_reached(run.tasks, task), _ENOUGH, now)
        return
    why = quorums.why_unreachable(run.tasks, task)
    if not why:
        return
    cause = exit_policy.cause_of(task, verdict)
    cause = msgspec.structs.replace(cause, text=f"{cause.text}; {why}")
    task_failed(run, out, task, verdict, cause, now)
    if quorum.stops_if_unreachable and run.outcome is None:
        others = quorums.rest(run.tasks, task)
        _stop_rest(run, out, others, Reason("upstream", f"{task.plan.base}: {why}"), now)


def _stop_rest(run: Run, out: Effects, others: Sequence[Task], reason: Reason, now: float) -> None:
    for other in others:
        verdict = AttemptVerdict(TaskState.CANCELLED, reason, is_final=True)
        if other.state in (TaskState.WAITING, TaskState.QUEUED):
            give_up_reservation(run, other)
            if other.attempt.number and needs_leases(other.plan):
                send_leases(run, out, run.leases.ended(other))
            change(run, out, other, TaskState.CANCELLED, reason)
        elif other.state is not TaskState.STOPPING:
            stop_task(run, out, other, verdict, now)
        elif (known := other.attempt.verdict) is not None and following(run, other, known, now) is not None:
            other.attempt.verdict = verdict
