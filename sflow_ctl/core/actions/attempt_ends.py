"""The effects of ranks' ends on their attempt: ranks that exited, vanished with a node, or were cleared.

`exit_gate` decides when an exit counts, `stopping` what follows from a verdict.
"""

import msgspec

from protocol.messages.facts import LaunchFailed, RankCleared, RankExited, RankIdle
from sflow_ctl.core.actions.stop_orders import end_step_parts
from sflow_ctl.core.actions.stopping import conclude, following, note_down, stop_task
from sflow_ctl.core.actions.transitions import change, release
from sflow_ctl.core.commands import RecordStall
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model.attempt import AttemptVerdict
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.model.timers import OtherRanksDue
from sflow_ctl.core.policy import dependencies, exit_policy, explanations, server_failures, timeouts
from sflow_ctl.core.states import LIVE, STARTED, Outcome, Reason, TaskState


def count_exit(run: Run, out: Effects, task: Task, message: RankExited, now: float) -> None:
    """Let the exit of an open rank count."""
    attempt, rank = task.attempt, message.rank.rank
    if task.state is TaskState.STARTING:
        change(run, out, task, TaskState.RUNNING, STARTED)
    attempt.open_ranks.discard(rank)
    attempt.unstarted.discard(rank)
    exit_policy.note_exit(task, message)
    attempt.note_port_conflict(rank, message.port_conflict)
    if message.use is not None:
        attempt.use = message.use if attempt.use is None else attempt.use.plus(message.use)
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
    has_begun = message.cause is None or message.cause.word != exit_policy.BOOTSTRAP
    ends_all = task.plan.kill_on_bad_exit or is_never_ready or message.port_conflict or not has_begun
    if exit_policy.is_bad(task, message) and ends_all:
        because = f", and its readiness waits for rank {rank}" if is_never_ready else ""
        stop_task(run, out, task, exit_policy.judge_rank(task, because), now)
    elif task.plan.wait_s is not None and len(attempt.open_ranks) == task.plan.world_size - 1:
        run.timers.set(now + task.plan.wait_s, OtherRanksDue(task.index, attempt.number))


def on_launch_failed(run: Run, out: Effects, node: int, message: LaunchFailed, now: float) -> None:
    """Take in that a rank could not be started."""
    task = run.current_on(node, message.rank)
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


def on_cleared(run: Run, out: Effects, node: int, message: RankCleared, now: float) -> None:
    """Take in that the process tree of a rank is gone."""
    task = run.current_on(node, message.rank)
    if task is None or message.rank.rank not in task.attempt.uncleared:
        return
    attempt, rank = task.attempt, message.rank.rank
    run.survivors.extend(message.survivors)
    if message.left and task.state is TaskState.COMPLETED and task.plan.base not in run.leaving_processes:
        run.leaving_processes.add(task.plan.base)
        out.warn(explanations.stopped_leftovers(task, message.left, message.ended))
    attempt.uncleared.discard(rank)
    if rank in attempt.open_ranks - attempt.held.keys():
        _could_not_be_ended(run, out, task, message, now)
        return
    if not task.attempt.open_ranks and not _awaited_trees(run, task, now):
        all_cleared(run, out, task, now)


def _could_not_be_ended(run: Run, out: Effects, task: Task, message: RankCleared, now: float) -> None:
    """Take in that a rank's main process outlives SIGKILL, in a system call: its exit may never be reported.

    It executes nothing of its program any more, so the attempt is concluded without it; its node has other tasks.
    """
    attempt = task.attempt
    out.warn(explanations.could_not_be_ended(task, message.survivors))
    attempt.open_ranks.discard(message.rank.rank)
    attempt.unstarted.discard(message.rank.rank)
    if attempt.verdict is None:  # its agent ended it by itself
        text = f"its agent could not end it: {', '.join(message.survivors)}"
        attempt.verdict = AttemptVerdict(TaskState.LOST, Reason("agent_died", text), may_retry=True)
    if not attempt.open_ranks:
        if attempt.parts_left:
            end_step_parts(run, out, task)
        attempt_exited(run, out, task, now)
    elif task.state is not TaskState.STOPPING:
        stop_task(run, out, task, attempt.verdict, now)


def _awaited_trees(run: Run, task: Task, now: float) -> set[int]:
    """Return the ranks whose trees must be gone before the attempt is concluded.

    Those on lost nodes matter only where another attempt follows: two attempts must never run at once.
    """
    attempt = task.attempt
    if (
        not attempt.fenced
        or attempt.verdict is None
        or following(run, task, attempt.verdict, now) is not None
    ):
        return attempt.uncleared
    return attempt.uncleared - attempt.fenced


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
    else:
        exited_at = now if attempt.failure_heard_at is None else attempt.failure_heard_at
        verdict = server_failures.explained(run.tasks, task, verdict, exited_at) or verdict
    if verdict.state is not TaskState.COMPLETED:
        note_down(task, now)
    verdict = exit_policy.with_port_conflict(task, verdict)
    if attempt.uncleared and _must_be_cleared_first(run, task, verdict, now):
        attempt.verdict = verdict
        if task.state is not TaskState.STOPPING:
            change(run, out, task, TaskState.STOPPING, verdict.reason)
        return
    conclude(run, out, task, verdict, now)


def _must_be_cleared_first(run: Run, task: Task, verdict: AttemptVerdict, now: float) -> bool:
    """Return whether what an attempt has left behind must be gone before it is concluded."""
    if following(run, task, verdict, now) is not None:
        return True
    return task.state is TaskState.STOPPING and bool(task.attempt.uncleared - task.attempt.fenced)


def ranks_vanished(run: Run, out: Effects, task: Task, node: int, reason: Reason, now: float) -> None:
    """Take in that the attempt's processes on a node are gone, and stop those elsewhere."""
    attempt = task.attempt
    if attempt.is_unsent:
        stop_task(run, out, task, AttemptVerdict(TaskState.LOST, reason, may_retry=True), now)
        return
    here = attempt.ranks_on(node)
    if run.nodes[node].fenced_until is not None:
        attempt.fenced |= attempt.uncleared & here
    attempt.uncleared -= (here & attempt.held.keys()) - attempt.fenced
    vanished = here - attempt.held.keys()
    # A held exit of this node counts as it is, once its outputs are read or its server is heard of.
    elsewhere = (attempt.open_ranks - vanished) | (attempt.uncleared - vanished - attempt.fenced)
    if not elsewhere:
        _attempt_vanished(run, out, task, reason, now)
        return
    was_open = bool(attempt.open_ranks & vanished)
    attempt.open_ranks -= vanished
    attempt.uncleared -= vanished - attempt.fenced
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
    attempt.uncleared &= attempt.fenced
    if task.state in LIVE and (was_open or task.state is TaskState.STOPPING):
        note_down(task, now)
        verdict = attempt.verdict or AttemptVerdict(TaskState.LOST, reason, may_retry=True)
        if run.is_ending_for(task):
            assert run.outcome is not None
            verdict = exit_policy.end_while_stopping(run.outcome, task, verdict)
        if attempt.uncleared and following(run, task, verdict, now) is not None:
            _await_fences(run, out, task, verdict, now)
        else:
            conclude(run, out, task, verdict, now)
    elif not attempt.uncleared:
        release(run, task)


def _await_fences(run: Run, out: Effects, task: Task, verdict: AttemptVerdict, now: float) -> None:
    """Wait with the next attempt until nothing of this one can live on lost nodes."""
    task.attempt.verdict = verdict
    if task.state is not TaskState.STOPPING:
        wait_s = run.fenced_for_s(task.attempt.nodes, now)
        text = f"{verdict.reason.text}; started again within {wait_s:.0f} s, when what may still run there has ended"
        change(run, out, task, TaskState.STOPPING, msgspec.structs.replace(verdict.reason, text=text))


def all_cleared(run: Run, out: Effects, task: Task, now: float) -> None:
    """Conclude a stopped attempt whose process tree is gone, or free the resources of an ended one."""
    attempt = task.attempt
    attempt.uncleared &= attempt.fenced
    if task.state is TaskState.STOPPING:
        assert attempt.verdict is not None
        conclude(run, out, task, attempt.verdict, now)
    elif not attempt.uncleared:
        release(run, task)


def note_inactivity(run: Run, out: Effects, task: Task, message: RankIdle, now: float) -> None:
    """Take in that a rank of a current attempt shows no activity, or some again; end a hang, or tell of silence."""
    idle = task.attempt.idle.setdefault(message.kind, set())
    is_news = message.is_quiet and message.rank.rank not in idle
    (idle.add if message.is_quiet else idle.discard)(message.rank.rank)
    if message.kind != "progress":
        stop_if_hung(run, out, task, now)
    elif is_news and (silent_s := timeouts.stalled_s(task)) is not None:
        out.perform(RecordStall(task=task.plan.name, attempt=task.attempt.number, silent_s=silent_s))


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
