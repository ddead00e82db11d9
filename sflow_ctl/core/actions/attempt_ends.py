"""The effects of ranks' ends on their attempt: ranks that exited, vanished with a node, or were cleared.

`exit_gate` decides when an exit counts, `stopping` what follows from a verdict.
"""

from protocol.messages.facts import LaunchFailed, RankCleared, RankExited
from sflow_ctl.core.actions.stopping import conclude, end_step_parts, following, stop_task
from sflow_ctl.core.actions.transitions import change, release
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model.attempt import AttemptVerdict
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.model.timers import OtherRanksDue
from sflow_ctl.core.policy import dependencies, exit_policy, timeouts
from sflow_ctl.core.states import LIVE, Outcome, Reason, TaskState


def count_exit(run: Run, out: Effects, task: Task, message: RankExited, now: float) -> None:
    """Let the exit of an open rank count."""
    attempt, rank = task.attempt, message.rank.rank
    if task.state is TaskState.STARTING:
        change(run, out, task, TaskState.RUNNING, Reason("started"))
    attempt.open_ranks.discard(rank)
    attempt.unstarted.discard(rank)
    exit_policy.note_exit(task, message)
    attempt.note_port_conflict(rank, message.port_conflict)
    if message.cleared:
        attempt.uncleared.discard(rank)
    if not attempt.open_ranks:
        if attempt.parts_left:
            end_step_parts(run, out, task)
        attempt_exited(run, out, task, now)
    else:
        _one_of_several_exited(run, out, task, message, now)


def _one_of_several_exited(run: Run, out: Effects, task: Task, message: RankExited, now: float) -> None:
    """Stop the other ranks if the task asks for it; else they continue."""
    stop_if_hung(run, out, task, now)
    if task.state is TaskState.STOPPING:
        return
    attempt, rank = task.attempt, message.rank.rank
    is_never_ready = attempt.readiness.rank_gone(rank) and task.state is TaskState.RUNNING
    ends_all = task.plan.kill_on_bad_exit or is_never_ready or message.port_conflict
    if exit_policy.is_bad(task, message) and ends_all:
        because = f", and its readiness waits for rank {rank}" if is_never_ready else ""
        stop_task(run, out, task, exit_policy.judge_rank(task, because), now)
    elif task.plan.wait_s is not None and len(attempt.open_ranks) == task.plan.world_size - 1:
        run.timers.set(now + task.plan.wait_s, OtherRanksDue(task.index, attempt.number))


def on_launch_failed(run: Run, out: Effects, message: LaunchFailed, now: float) -> None:
    """Take in that a rank could not be started."""
    task = run.current(message.rank.attempt)
    if task is None or message.rank.rank not in task.attempt.open_ranks:
        return
    attempt, rank = task.attempt, message.rank.rank
    attempt.rank_never_ran(rank)
    if attempt.launch_error is None:
        attempt.launch_error, attempt.failed_rank = message, rank
    attempt.note_port_conflict(rank, message.port_conflict)
    if not attempt.open_ranks:
        attempt_exited(run, out, task, now)
    elif task.state is not TaskState.STOPPING:
        stop_task(run, out, task, exit_policy.judge(task), now)


def on_cleared(run: Run, out: Effects, message: RankCleared, now: float) -> None:
    """Take in that the process tree of a rank is gone."""
    task = run.current(message.rank.attempt)
    if task is None or message.rank.rank not in task.attempt.uncleared:
        return
    run.survivors.extend(message.survivors)
    task.attempt.uncleared.discard(message.rank.rank)
    if not task.attempt.open_ranks and not task.attempt.uncleared:
        all_cleared(run, out, task, now)


def attempt_exited(run: Run, out: Effects, task: Task, now: float) -> None:
    """Judge an attempt whose ranks have all exited, now or when its process tree is gone."""
    attempt = task.attempt
    verdict = attempt.verdict or exit_policy.judge(task)
    if run.is_ending_for(task):
        assert run.outcome is not None
        verdict = _if_it_was_first(run, task) or exit_policy.end_while_stopping(run.outcome, task, verdict)
    elif verdict.state is TaskState.COMPLETED and task.plan.is_service and not run.plan.services_may_leave:
        needers = dependencies.needers(run.tasks, task)
        verdict = exit_policy.left_too_early(task, needers, run.node_names) or verdict
    verdict = exit_policy.with_port_conflict(task, verdict)
    has_next = following(run, task, verdict, now) is not None
    if attempt.uncleared and (has_next or task.state is TaskState.STOPPING):
        attempt.verdict = verdict
        if task.state is not TaskState.STOPPING:
            change(run, out, task, TaskState.STOPPING, verdict.reason)
        return
    conclude(run, out, task, verdict, now)


def ranks_vanished(run: Run, out: Effects, task: Task, node: int, reason: Reason, now: float) -> None:
    """Take in that the attempt's processes on a node are gone, and stop those elsewhere."""
    attempt = task.attempt
    if attempt.is_unsent:
        stop_task(run, out, task, AttemptVerdict(TaskState.LOST, reason, may_retry=True), now)
        return
    here = attempt.ranks_on(node)
    attempt.uncleared -= here & attempt.held.keys()
    vanished = here - attempt.held.keys()
    elsewhere = (attempt.open_ranks | attempt.uncleared) - vanished
    if not elsewhere:
        _attempt_vanished(run, out, task, reason, now)
        return
    was_open = bool(attempt.open_ranks & vanished)
    attempt.open_ranks -= vanished
    attempt.uncleared -= vanished
    if was_open and task.state in LIVE and task.state is not TaskState.STOPPING:
        verdict = AttemptVerdict(TaskState.LOST, reason, may_retry=True)
        if attempt.has_exited:  # the other exits are known, and cannot make up for these ranks
            attempt.verdict = verdict
            change(run, out, task, TaskState.STOPPING, reason)
        else:
            stop_task(run, out, task, verdict, now)
    elif not attempt.open_ranks and task.state in LIVE and attempt.verdict is None:
        attempt_exited(run, out, task, now)


def _attempt_vanished(run: Run, out: Effects, task: Task, reason: Reason, now: float) -> None:
    """Conclude an attempt whose processes are gone or out of reach, without knowing how they ended."""
    attempt = task.attempt
    was_open = bool(attempt.open_ranks)
    attempt.open_ranks.clear()
    attempt.uncleared.clear()
    if task.state in LIVE and (was_open or task.state is TaskState.STOPPING):
        verdict = attempt.verdict or AttemptVerdict(TaskState.LOST, reason, may_retry=True)
        if run.is_ending_for(task):
            assert run.outcome is not None
            verdict = exit_policy.end_while_stopping(run.outcome, task, verdict)
        conclude(run, out, task, verdict, now)
    else:
        release(run, task)


def all_cleared(run: Run, out: Effects, task: Task, now: float) -> None:
    """Conclude a stopped attempt whose process tree is gone, or free the resources of an ended one."""
    attempt = task.attempt
    attempt.uncleared.clear()
    if task.state is TaskState.STOPPING:
        assert attempt.verdict is not None
        conclude(run, out, task, attempt.verdict, now)
    else:
        release(run, task)


def stop_if_hung(run: Run, out: Effects, task: Task, now: float) -> None:
    """Stop an attempt whose ranks are all inactive, if its hang policy requires that."""
    verdict = timeouts.hang(task)
    if verdict is not None:
        stop_task(run, out, task, verdict, now)


def _if_it_was_first(run: Run, task: Task) -> AttemptVerdict | None:
    """Judge a task that failed before the task whose failure stops the run, but was reported later.

    The crash of a service and the failures of its clients are reported in any order.
    """
    first = run.cause.task if run.cause is not None else None
    failed_at_ns = task.attempt.failed_at_ns
    if first is None or failed_at_ns is None or task.plan.on_failure == "continue":
        return None
    known_ns = run.task_named(first).attempt.failed_at_ns
    if run.outcome is not Outcome.FAILED or known_ns is None or failed_at_ns >= known_ns:
        return None
    verdict = exit_policy.judge(task)
    run.cause = exit_policy.cause_of(task, verdict)
    return AttemptVerdict(verdict.state, verdict.reason)
