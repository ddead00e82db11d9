"""Orders agents to stop an attempt, and gives up those that do not. When one is stopped, `stopping` decides."""

from protocol.ids import RankId
from protocol.messages.orders import EndStep, Stop
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.model.timers import StopOverdue
from sflow_ctl.core.policy import timeouts

STOP_OVERDUE_S = 15.0
"""After the task's own stop time: an agent that has not stopped its tasks by then is given up. An agent's own limit
for verifying that a tree is gone is 5 s.
"""


def send_stop(run: Run, out: Effects, task: Task) -> None:
    """Order the agents of an attempt to stop its remaining processes."""
    attempt = task.attempt
    attempt.is_stop_sent = True
    is_forced = run.shutdown.is_forced or attempt.is_killed
    grace_s = 0.0 if is_forced else timeouts.grace_s(run.plan, run.cause, task)
    order = Stop(attempt=task.attempt_id, grace_s=grace_s, is_forced=is_forced, is_hang=attempt.has_hung)
    parts = attempt.parts_left
    for node in attempt.nodes_left:
        is_for_part = node in parts.values() and node not in attempt.uploading
        if run.nodes[node].is_up and not is_for_part:
            out.send(node, order)
    end_step_parts(run, out, task)


def end_step_parts(run: Run, out: Effects, task: Task) -> None:
    """Order the agents of other nodes to end what a job step has there; its `srun` has ended, or is being stopped.

    While commands of the task run beside the `srun`, the others wait as long as those may take.
    """
    attempt, stopping = task.attempt, task.plan.stopping
    attempt.has_parts_ended = True
    is_forced = run.shutdown.is_forced or attempt.is_killed
    has_srun = bool(attempt.open_ranks - attempt.held.keys())
    for part, node in attempt.parts_left.items():
        if run.nodes[node].is_up:
            order = EndStep(
                part=RankId(task.attempt_id, part),
                mark_of=RankId(task.attempt_id, 0),
                signal=stopping.signal,
                patience_s=task.stop_commands_s if has_srun and not is_forced else 0.0,
                grace_s=0.0 if is_forced else timeouts.grace_s(run.plan, run.cause, task),
            )
            out.send(node, order)


def expect_stop(run: Run, task: Task, now: float) -> None:
    """Give up the agents of an attempt if they do not stop it in time."""
    limit_s = task.stop_commands_s + timeouts.grace_s(run.plan, run.cause, task)
    limit_s = 0.0 if run.shutdown.is_forced or task.attempt.is_killed else limit_s
    run.timers.set(now + limit_s + STOP_OVERDUE_S, StopOverdue(task.index, task.attempt.number))
