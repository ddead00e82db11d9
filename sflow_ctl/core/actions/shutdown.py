"""Takes a run that stops through its steps: waves of stops, tasks that run at the end, agents that leave.

`stopping.begin_stop` begins it; the order of the steps is in `policy.shutdown_steps`.
"""

from protocol.messages.orders import Leave
from sflow_ctl.core.actions.dispatch import start_queued
from sflow_ctl.core.actions.exit_gate import release_exits
from sflow_ctl.core.actions.stop_orders import expect_stop, send_stop
from sflow_ctl.core.actions.stopping import (
    begin_step,
    begin_stop,
    cancel_branch,
    cancel_finals,
    finals_limit,
    stop_limit,
    stop_task,
    stopped_verdict,
)
from sflow_ctl.core.actions.transitions import skip_unsatisfiable
from sflow_ctl.core.commands import FinishRun
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model.phase import RunPhase
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.steps import ALL_TASKS, BranchStep, FinalStep, StopStep
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.model.timers import LeaveOverdue
from sflow_ctl.core.policy import branches, explanations
from sflow_ctl.core.states import FirstCause, Outcome, Reason, TaskState

DEFAULT_GRACE_S = 5.0
"""Seconds between SIGTERM and SIGKILL for a leaving agent's processes; as in sflow."""
LEAVE_OVERDUE_S = 40.0
"""An agent may need 30 s to hand over the rest of its logs."""


def advance(run: Run, out: Effects, now: float) -> None:
    """Advance a stopping run as far as possible now."""
    _take_steps(run, out, now)
    out.send_spawns()
    if run.phase is RunPhase.STOPPING and run.tally.live == 0 and not run.shutdown.steps:
        _leave(run, out, now)
    if run.phase is RunPhase.LEAVING and not run.shutdown.leaving:
        run.enter(RunPhase.FINISHED)
        run.timers.clear()
        assert run.outcome is not None
        out.perform(
            FinishRun(
                outcome=run.outcome,
                cause=run.cause,
                survivors=tuple(run.survivors),
                is_ended_by_slurm=run.is_ended_by_slurm,
            )
        )


def _take_steps(run: Run, out: Effects, now: float) -> None:
    shutdown = run.shutdown
    while shutdown.steps:
        step = shutdown.steps[0]
        if isinstance(step, BranchStep):
            if not _run_branch(run, out, step, now):
                return
            continue
        if isinstance(step, FinalStep):
            skip_unsatisfiable(run, out)
            start_queued(run, out, now)
            if not step.is_over(run.tasks):
                return
        else:
            for index in shutdown.order.next_wave(run.tasks):
                _stop_in_wave(run, out, run.tasks[index], now)
            if not shutdown.order.is_over:
                return
        shutdown.steps.pop(0)
        begin_step(run, out, now)


def _run_branch(run: Run, out: Effects, step: BranchStep, now: float) -> bool:
    """Run what waits for the failure; return True, with the next step begun, when no more of it can run now.

    The rest may still have to be stopped before more can run: it has what they need, or they wait for its end.
    """
    skip_unsatisfiable(run, out)
    start_queued(run, out, now)
    if not step.is_over(run.tasks, run.deciding):
        return False
    run.shutdown.steps.pop(0)
    left = frozenset(step.left(run.tasks))
    if left and not step.is_last:
        alive = frozenset(branches.needed_alive(run.tasks, left))
        run.shutdown.steps[:0] = [StopStep(with_services=True, spared=alive), BranchStep(left, is_last=True)]
    else:
        cancel_branch(run, out, Reason("fail_fast", "what it waits for did not come about"))
    begin_step(run, out, now)
    return True


def end_branch(run: Run, out: Effects, reason: Reason, now: float) -> None:
    """Stop what waits for the failure that ends the run with everything else."""
    if run.outcome is not None and run.shutdown.branch:
        cancel_branch(run, out, reason)
        begin_step(run, out, now)


def _stop_in_wave(run: Run, out: Effects, task: Task, now: float) -> None:
    if run.shutdown.is_forced:
        release_exits(run, out, task, now)
        if not task.is_live:
            return
    if task.state is TaskState.STOPPING:
        send_stop(run, out, task)  # its verdict is known already; only the grace may be shorter
        if run.shutdown.is_forced:
            expect_stop(run, task, now)
        return
    stop_task(run, out, task, stopped_verdict(run, task), now)


def force(run: Run, out: Effects, reason: Reason, now: float) -> None:
    """Kill all remaining tasks of a stopping run; no task runs at the end any more."""
    if run.shutdown.is_forced:
        return
    run.shutdown.is_forced = True
    cancel_finals(run, out, (ALL_TASKS,), reason)
    run.shutdown.order.begin(run.tasks, ALL_TASKS.includes)
    for index in run.shutdown.order.force(run.tasks):
        _stop_in_wave(run, out, run.tasks[index], now)


def stop_run(run: Run, out: Effects, end: tuple[Outcome, FirstCause], *, is_forced: bool, now: float) -> None:
    """Stop a run with this outcome and cause. One that is ending continues to its end, unless the rest is to be killed."""
    reason = Reason("interrupted", end[1].text)
    at_end = explanations.unfinished_finals(run.tasks)
    if run.outcome is None:
        begin_stop(run, out, *end, now)
    else:
        end_branch(run, out, reason, now)
    if is_forced:
        if at_end and run.outcome is Outcome.COMPLETED and not run.shutdown.is_forced:
            run.outcome, run.cause = end  # what belongs to the run is killed
        force(run, out, reason, now)


def on_finals_over(run: Run, out: Effects, now: float) -> None:
    """Stop the tasks at the run's end when their time has passed."""
    if (limit := finals_limit(run)) is not None and now < limit:
        return  # the Slurm job was extended
    cancel_finals(run, out, (ALL_TASKS,), Reason("time_limit", "no time was left for it"))
    begin_step(run, out, now)


def on_stop_timeout(run: Run, out: Effects, now: float) -> None:
    """Force the end of a run that takes too long to stop."""
    if (limit := stop_limit(run)) is None or now < limit:
        return  # the Slurm job was extended
    late = explanations.stops_late(run.tasks)
    if run.shutdown.is_forced or run.phase is RunPhase.LEAVING or not (late or run.shutdown.steps):
        return
    limit_s = run.plan.stop_timeout_s
    is_own = limit_s is not None and (run.gone_at is None or now < run.gone_at - run.margins.force_s)
    what = f"stop_timeout of {limit_s:g} s" if is_own else "time that the Slurm job has left"
    text = f"the run did not end within its {what}"
    out.warn(f"{text}; killed: {late}" if late else text)
    force(run, out, Reason("time_limit", text), now)


def last_moment(run: Run) -> float | None:
    """Return when everything after the tasks must be over, in monotonic seconds; None without a limit.

    A run that was stopped keeps to its `stop_timeout`; one that came to its end by itself has what its job leaves.
    """
    if run.outcome in (Outcome.COMPLETED, Outcome.FAILED):
        return None if run.gone_at is None else run.gone_at - run.margins.force_s
    return stop_limit(run)


def _leave(run: Run, out: Effects, now: float) -> None:
    run.enter(RunPhase.LEAVING)
    run.shutdown.leaving = {index for index, node in enumerate(run.nodes) if node.is_up}
    for node in sorted(run.shutdown.leaving):
        send_leave(run, out, node)
    run.timers.set(now + LEAVE_OVERDUE_S, LeaveOverdue())


def send_leave(run: Run, out: Effects, node: int) -> None:
    """Order an agent to leave."""
    run.shutdown.leaving.add(node)
    out.send(node, Leave(grace_s=0.0 if run.shutdown.is_forced else DEFAULT_GRACE_S))
