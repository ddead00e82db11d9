"""Stops the tasks that a revision has changed or removed, dependants first; starts again what had ended. Called by `reactor`."""

from sflow_ctl.core.actions.requested.graph import never_met
from sflow_ctl.core.actions.stopping import stop_task
from sflow_ctl.core.actions.transitions import (
    change,
    enqueue,
    free_places_waiting_for,
    release_kept,
    send_leases,
)
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model.attempt import AttemptVerdict
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.stop_order import Freed, Revising
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.policy.restart_policy import begin_without_past
from sflow_ctl.core.states import TERMINAL, Reason, TaskState


def revise_further(run: Run, out: Effects, now: float) -> None:
    """Take the steps of a revision that can be taken now; forget it when all are."""
    revising = run.revising
    assert revising is not None
    freed, revising.freed = revising.freed, []
    for one in freed:
        _free(run, out, revising, one)
    if run.outcome is not None:  # the run stops everything in its own order
        run.revising = None
        return
    for index in revising.order.next_wave(run.tasks):
        _stop(run, out, revising, run.tasks[index], now)
    if revising.order.is_over and not revising.pending and not revising.freed:
        run.revising = None
        for index in revising.held:
            if run.tasks[index].state is TaskState.QUEUED:
                run.queue.push(index)
        run.unsatisfiable.extend(
            never_met(run.tasks)
        )  # what a task needs may have failed while it was stopped


def _stop(run: Run, out: Effects, revising: Revising, task: Task, now: float) -> None:
    reason = revising.why[task.index]
    verdict = AttemptVerdict(TaskState.CANCELLED, reason, is_repeated=not task.wanted.removed_in)
    if task.state is TaskState.STOPPING:
        task.attempt.verdict = verdict
    elif task.state not in TERMINAL:
        stop_task(run, out, task, verdict, now)


def _free(run: Run, out: Effects, revising: Revising, freed: Freed) -> None:
    """Take in that a task has left its place: its ports may be others from now on, and if it had ended it begins anew."""
    task = run.tasks[freed.task]
    ports = (freed.before.ports, freed.before.has_master_port)
    if ports != (task.plan.ports, task.plan.has_master_port) or task.plan.removed_in:
        send_leases(run, out, run.leases.ended(task))
        run.leases.forget(task)
    if task.state in TERMINAL and run.outcome is None and not task.plan.removed_in:
        wait_anew(run, out, task, revising.why[task.index])
        if task.unmet == 0:
            enqueue(run, out, task)


def wait_anew(run: Run, out: Effects, task: Task, reason: Reason) -> None:
    """Let a task that has ended wait for its next attempt, which is its first with this plan."""
    release_kept(run, task)
    begin_without_past(task)
    if not task.attempt.number:  # without an attempt there is none to follow
        change(run, out, task, TaskState.WAITING, Reason("requested", reason.text))
        return
    run.leases.begin_anew(task)
    task.attempt.verdict = None
    change(run, out, task, TaskState.WAITING, reason)
    run.tally.remove(task)
    task.is_delayed = False
    run.tally.add(task)
    free_places_waiting_for(run, task)
