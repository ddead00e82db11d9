"""Stops attempts, and decides what follows an attempt's end: another attempt, the task's end, the run's stop.

How an attempt is judged is in `policy.exit_policy`; the steps of a run that stops are in `shutdown`.
"""

from collections.abc import Collection, Sequence
from typing import assert_never

import msgspec

from sflow_ctl.core.actions.stop_orders import expect_stop, send_stop
from sflow_ctl.core.actions.transitions import (
    cancel_waiting,
    change,
    enqueue,
    free_places_waiting_for,
    may_keep_place,
    release,
    reserve,
    send_leases,
)
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model import moves
from sflow_ctl.core.model.attempt import AttemptVerdict
from sflow_ctl.core.model.phase import RunPhase
from sflow_ctl.core.model.port_leases import needs_leases
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.steps import BranchStep, FinalStep, Step, StopStep
from sflow_ctl.core.model.stop_order import Revising
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.model.timers import FinalsOver, RetryDue, StopTimeout
from sflow_ctl.core.policy import branches, dependencies, exit_policy, restart_policy
from sflow_ctl.core.policy.restart_policy import NextAttempt
from sflow_ctl.core.policy.shutdown_steps import ending_steps
from sflow_ctl.core.states import LIVE, FirstCause, Outcome, Reason, TaskState

NO_FAILURE = frozenset({"upstream", "upstream_skipped", "when", "stopped", "removed", "enough"})
"""Words of ends to which no failure policy applies: they follow from another end, or an operator wanted them."""


# ---------------------------------------------------------------------- attempts


def stop_task(run: Run, out: Effects, task: Task, verdict: AttemptVerdict, now: float) -> None:
    """Stop a live attempt; it is judged by `verdict` when its tree is gone.

    An attempt whose ranks have all exited, and whose exit only waits to count, is judged by that exit instead; uploads that
    it waits for are ended.
    """
    attempt = task.attempt
    if attempt.is_unsent:  # no agent knows of it
        run.leases.withdraw(task)
        run.rendering.discard(task.index)
        attempt.withdraw()
        conclude(run, out, task, verdict, now)
        return
    if attempt.has_exited and task.state is not TaskState.STOPPING:
        if attempt.uploading and (run.shutdown.is_forced or not attempt.is_stop_sent):
            out.warn(f"{task.plan.name}: its uploads are ended: {verdict.reason.text}")
            send_stop(run, out, task)
            expect_stop(run, task, now)
        return
    attempt.verdict = verdict
    note_down(task, now)
    if task.state in LIVE and task.state is not TaskState.STOPPING:
        change(run, out, task, TaskState.STOPPING, verdict.reason)
    send_stop(run, out, task)
    expect_stop(run, task, now)


def note_down(task: Task, now: float) -> None:
    """Note that a service that was ready serves no more, for what its clients make of it."""
    if task.plan.is_service and task.attempt.was_ready and not task.attempt.is_down:
        task.attempt.is_down = True
        task.down_since = now


def lift_fence(run: Run, out: Effects, node: int, now: float) -> None:
    """Count what ran on a lost node as gone: tasks that wait for that may start again."""
    if run.nodes[node].fenced_until is None:
        return
    run.nodes[node].fenced_until = None
    for index in sorted(run.nodes[node].live):
        task = run.tasks[index]
        attempt = task.attempt
        over = attempt.fenced & attempt.ranks_on(node)
        attempt.fenced -= over
        attempt.uncleared -= over
        if attempt.uncleared or attempt.open_ranks:
            continue
        if task.state is TaskState.STOPPING:
            assert attempt.verdict is not None
            conclude(run, out, task, attempt.verdict, now)
        else:
            release(run, task)


def _lift_all_fences(run: Run, out: Effects, now: float) -> None:
    """Wait for no lost node any more, as the run ends, but for tasks that continue; say what may be left."""
    for index, node in enumerate(run.nodes):
        if node.fenced_until is not None and not run.may_return_from(index):
            left_s = max(0.0, node.fenced_until - now)
            out.warn(
                f"node {run.node_names[index]} was lost: what the run may have left there ends by itself within {left_s:.0f} s"
            )
            lift_fence(run, out, index, now)


def following(run: Run, task: Task, verdict: AttemptVerdict, now: float) -> NextAttempt | None:
    """Return the attempt that follows one with this verdict, or None."""
    return _possible(run, task, restart_policy.following(task, verdict, now))


def _possible(run: Run, task: Task, due: NextAttempt | None) -> NextAttempt | None:
    """Return the attempt that is due after the task's own rules, if the run and its nodes allow it."""
    if due is None or not run.may_start(task):
        return None
    return due if due.is_revised or not why_never(run, task) else None


def why_never(run: Run, task: Task, restarted: Collection[int] = ()) -> str:
    """Say why a task can never start again, even if `restarted` do, as the end of a sentence; empty if it can."""
    return moves.why_never(run, task) or dependencies.never_met(run.tasks, task, restarted)


def conclude(run: Run, out: Effects, task: Task, verdict: AttemptVerdict, now: float) -> None:
    """Begin another attempt, or end the task and apply its failure policy."""
    started_at = task.attempt.started_at
    runtime_s = None if started_at is None else now - started_at
    if task.next_plan is not None and run.revising is not None:
        verdict = _of_removed(run.revising, task, verdict)
    due = restart_policy.following(task, verdict, now)
    if due is not None:
        next_one = _possible(run, task, due)
        if next_one is not None:
            _begin_again(run, out, task, verdict, next_one, runtime_s, now)
            return
        verdict = _with_why_it_stays(run, task, verdict)
    if not task.attempt.uncleared:
        release(run, task)
    change(run, out, task, verdict.state, verdict.reason, runtime_s)
    if needs_leases(task.plan) and not run.is_ending_for(task):
        send_leases(run, out, run.leases.ended(task))
    if task.plan.quorum is not None and run.outcome is None:
        from sflow_ctl.core.actions.copies import judge_copies  # few tasks have one

        judge_copies(run, out, task, verdict, now)
    elif verdict.state is not TaskState.COMPLETED:
        task_failed(run, out, task, verdict, exit_policy.cause_of(task, verdict), now)


def _of_removed(revising: Revising, task: Task, verdict: AttemptVerdict) -> AttemptVerdict:
    """Return the verdict of a task that is not wanted any more: its end does not count as a failure."""
    is_removed = task.wanted.removed_in and verdict.state is not TaskState.COMPLETED
    return AttemptVerdict(TaskState.CANCELLED, revising.why[task.index]) if is_removed else verdict


def _with_why_it_stays(run: Run, task: Task, verdict: AttemptVerdict) -> AttemptVerdict:
    """Return the verdict of a task's last attempt, with the reason why another one that is due cannot run anywhere."""
    why = why_never(run, task)
    if not why:
        return verdict
    reason = msgspec.structs.replace(verdict.reason, text=f"{verdict.reason.text}; {why}")
    return msgspec.structs.replace(verdict, reason=reason)


def _begin_again(
    run: Run,
    out: Effects,
    task: Task,
    verdict: AttemptVerdict,
    next_one: NextAttempt,
    runtime_s: float | None,
    now: float,
) -> None:
    """Wait for the next attempt; no process of this one is left."""
    attempt = task.attempt
    was_ready = attempt.was_ready
    restart_policy.note(task, verdict, next_one, now)
    for node in attempt.port_conflicts:
        run.leases.renew(task, node)
    assert attempt.placement is not None
    is_there = not run.has_lost(attempt.placement)
    why = run.revising.why[task.index] if next_one.is_revised and run.revising is not None else None
    keeps_place = task.plan.keeps_gpus or (next_one.in_place and may_keep_place(run, task))
    if is_there and keeps_place and not next_one.is_revised:
        reserve(run, task)
    else:
        release(run, task)
        free_places_waiting_for(run, task)
    word = "restart" if next_one.in_place else "retry"
    reason = why or exit_policy.again(verdict, word, next_one.text)
    change(run, out, task, TaskState.WAITING, reason, runtime_s)
    attempt.verdict = None
    run.timers.set(now + next_one.delay_s, RetryDue(task.index, attempt.number))
    restart = task.plan.restart
    if restart is not None and restart.restarts_dependents and was_ready and not next_one.is_revised:
        for other in dependencies.needers(run.tasks, task):
            if other.state in LIVE and other.state is not TaskState.STOPPING:
                reason = Reason("restart", f"{task.plan.name}, which it needs, is restarted")
                stop_task(run, out, other, AttemptVerdict(TaskState.CANCELLED, reason, is_repeated=True), now)


# ---------------------------------------------------------------------- failures


def task_failed(
    run: Run, out: Effects, task: Task, verdict: AttemptVerdict, cause: FirstCause, now: float
) -> None:
    """Apply the failure policy of a task that has ended without success."""
    if run.outcome is not None:
        # A task that runs at the end, or one whose failure was decided before everything else was done.
        is_own = run.outcome is Outcome.COMPLETED and verdict.state is not TaskState.CANCELLED
        if is_own and task.plan.on_failure != "continue":
            run.outcome, run.cause = Outcome.FAILED, cause
        return
    if verdict.reason.word in NO_FAILURE:
        if verdict.reason.word == "upstream" or task.plan.on_failure != "continue":
            _stop_needers(run, out, task, now)
        return
    match task.plan.on_failure:
        case "cancel":
            begin_stop(run, out, Outcome.FAILED, run.failure or cause, now, failed=[task])
        case "drain":
            run.failure = run.failure or cause
            if run.phase is RunPhase.RUNNING:
                run.enter(RunPhase.DRAINING)
            branch = branches.of_failures(run.tasks, [task], may_others_end=True)
            run.shutdown.branch |= branch
            cancel_waiting(run, out, Reason("fail_fast", cause.text))
        case "isolate":
            run.failure = run.failure or cause
            _stop_needers(run, out, task, now)
        case "continue":
            pass  # tasks that have not started and need it are skipped
        case _:
            assert_never(task.plan.on_failure)


def cannot_start(
    run: Run,
    out: Effects,
    task: Task,
    state: TaskState,
    reason: Reason,
    now: float,
    what: str = "cannot start",
) -> None:
    """End a task that can never start, or, in words of its own, one that stands for others which have run."""
    change(run, out, task, state, reason)
    text = f"task {task.plan.name} {what}: {reason.text}"
    cause = FirstCause(text=text, task=task.plan.name, reason=reason)
    task_failed(run, out, task, AttemptVerdict(state, reason), cause, now)


def _stop_needers(run: Run, out: Effects, task: Task, now: float) -> None:
    for other in dependencies.needers(run.tasks, task):
        if other.state in LIVE and other.state is not TaskState.STOPPING:
            reason = Reason("upstream", f"needs {task.plan.name}, which is {task.state}")
            stop_task(run, out, other, AttemptVerdict(TaskState.CANCELLED, reason), now)


# ---------------------------------------------------------------------- the run begins to stop


def begin_stop(
    run: Run,
    out: Effects,
    outcome: Outcome,
    cause: FirstCause | None,
    now: float,
    *,
    failed: Sequence[Task] = (),
) -> None:
    """Begin to stop the run: nothing new starts, live tasks are stopped in reverse dependency order.

    What waits for the failure of one of `failed` runs before the rest is stopped.
    """
    spared = run.shutdown.branch if outcome is Outcome.FAILED else frozenset()
    if failed:
        spared |= branches.of_failures(run.tasks, failed, may_others_end=False)
    run.shutdown.branch = spared
    run.enter(RunPhase.STOPPING)
    run.outcome, run.cause = outcome, cause
    cancel_waiting(run, out, exit_policy.never_started(outcome))
    _lift_all_fences(run, out, now)
    rendered = (run.tasks[index] for index in sorted(run.rendering))
    for task in [*run.leases.all_waiting(), *run.seekers(), *rendered]:
        if task.index not in run.shutdown.branch and task.attempt.is_unsent:
            stop_task(run, out, task, stopped_verdict(run, task), now)
    spared_names = {run.tasks[index].plan.name for index in spared}
    for rank in out.withdraw_spawns(spared_names):  # decided in this very event, and never sent to an agent
        task = run.task_named(rank.attempt.task)
        task.attempt.rank_never_ran(rank.rank)
        run.windows.answered(task.attempt.node_of_rank[rank.rank], rank)
        if not task.attempt.uncleared:
            conclude(run, out, task, stopped_verdict(run, task), now)
    run.shutdown.steps = ending_steps(run.tasks)
    if run.shutdown.branch:
        run.shutdown.steps.insert(0, BranchStep(run.shutdown.branch))
    if not run.has_started:
        cancel_finals(run, out, tuple(run.shutdown.steps), Reason("interrupted", "nothing had started"))
    run.shutdown.began_at = now
    limit_stop(run)
    begin_step(run, out, now)


def limit_stop(run: Run) -> None:
    """Set the timer for the time that the run may take to stop, if there is a limit."""
    if (limit := stop_limit(run)) is not None:
        run.timers.set(limit, StopTimeout())


def stop_limit(run: Run) -> float | None:
    """Return when the run must have stopped, in monotonic seconds."""
    limits = [] if run.plan.stop_timeout_s is None else [run.shutdown.began_at + run.plan.stop_timeout_s]
    limits += [] if run.gone_at is None else [run.gone_at - run.margins.force_s]
    return min(limits, default=None)


def stopped_verdict(run: Run, task: Task) -> AttemptVerdict:
    """Return the verdict of a task that is stopped because the run stops."""
    return exit_policy.run_end(task, run.outcome, run.cause, run.shutdown.is_done)


def cancel_finals(run: Run, out: Effects, steps: tuple[Step, ...], reason: Reason) -> None:
    """Cancel the tasks that run at the run's end and have not started; `steps` are those that are left."""
    run.shutdown.are_finals_over = True
    cancel_branch(run, out, reason)
    for task in run.tasks:
        if task.plan.finally_when is not None and task.state in (TaskState.WAITING, TaskState.QUEUED):
            change(run, out, task, TaskState.CANCELLED, reason)
    run.shutdown.steps = [step for step in steps if isinstance(step, StopStep)]


def cancel_branch(run: Run, out: Effects, reason: Reason) -> None:
    """Start no more tasks that wait for the failure which ends the run; those that run are stopped with the others."""
    if not run.shutdown.branch:
        return
    run.shutdown.branch = frozenset()
    run.shutdown.steps = [step for step in run.shutdown.steps if not isinstance(step, BranchStep)]
    cancel_waiting(run, out, reason)


def begin_step(run: Run, out: Effects, now: float) -> None:
    """Begin the next step of the shutdown, if there is one."""
    if not run.shutdown.steps:
        return
    step = run.shutdown.steps[0]
    if isinstance(step, StopStep):
        run.shutdown.order.begin(run.tasks, step.includes)
        return
    if isinstance(step, BranchStep):
        return
    run.shutdown.step_began_at = now
    limit_finals(run)
    facts = exit_policy.run_facts(run.outcome, run.cause)
    for index in step.tasks:
        task = run.tasks[index]
        task.run_env = facts
        if dependencies.end_has_come(task):
            enqueue(run, out, task)


def limit_finals(run: Run) -> None:
    """Set the timer for the time that the tasks of a step at the run's end may take."""
    if (limit := finals_limit(run)) is not None:
        run.timers.set(limit, FinalsOver(len(run.shutdown.steps)))


def finals_limit(run: Run) -> float | None:
    """Return when the tasks of the current step at the run's end must have ended, in monotonic seconds."""
    if not run.shutdown.steps or not isinstance(step := run.shutdown.steps[0], FinalStep):
        return None
    limit = run.shutdown.step_began_at + step.limit_s(run.tasks)
    return limit if run.gone_at is None else min(limit, run.gone_at - run.margins.finals_s)
