"""Changes of a task's state and place. With those that change plans (`requested`), the only ones that change a run's tally."""

from collections.abc import Sequence

import msgspec

from sflow_ctl.core.effects import Effects
from sflow_ctl.core.model.attempt import Attempt
from sflow_ctl.core.model.port_leases import Orders
from sflow_ctl.core.model.run import InvalidTransitionError, Run
from sflow_ctl.core.model.stop_order import Freed
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.policy import dependencies
from sflow_ctl.core.states import NONE_MISSING, TERMINAL, TRANSITIONS, Reason, TaskState, Transition, is_again
from sflow_ctl.plan.model import Placement, PlannedTask


def change(
    run: Run, out: Effects, task: Task, new: TaskState, reason: Reason, runtime_s: float | None = None
) -> None:
    """Change a task's state, record it, and enqueue the tasks that may start because of it.

    Raises: InvalidTransitionError for a change that is not in the table.
    """
    old = task.state
    run.changed.add(task.index)
    if new not in TRANSITIONS[old]:
        raise InvalidTransitionError(f"{task.attempt_id}: {old} -> {new} ({reason.word} {reason.text})")
    run.tally.remove(task)
    task.is_delayed = is_again(new, reason)
    task.state, task.last_reason = new, reason
    run.tally.add(task)
    attempt = task.attempt
    if new is TaskState.READY:
        attempt.was_ready = True
    is_end = new in TERMINAL or task.is_delayed
    out.record(
        Transition(
            task=task.plan.name,
            attempt=attempt.number,
            old=old,
            new=new,
            reason=reason,
            node=attempt.node,
            gpus=attempt.gpus,
            pid=attempt.pid if new is TaskState.RUNNING else None,
            exit_code=attempt.exit_code if is_end else None,
            signal=attempt.signal if is_end else None,
            runtime_s=runtime_s,
            use=attempt.use if is_end else None,
        )
    )
    if new in TERMINAL and attempt.number and not attempt.uncleared:
        attempt.settle()
    if new is TaskState.READY and task.plan.lends_gpus:
        lend(run, task)
    if new is TaskState.READY and (run.claims.became_ready(task) or run.hosts.became_ready(task)):
        run.queue.retry_all()
    changes = dependencies.update(run.tasks, task, was_end=old in TERMINAL)
    if changes.unsatisfiable:
        run.unsatisfiable.extend(one for one in changes.unsatisfiable if run.may_start(one[0]))
    if task.plan.cell is not None or task.plan.foreach is not None:
        for index in run.cells.changed(task, was_end=old in TERMINAL):
            run.queue.push(index)
    for startable in changes.startable:
        if run.may_start(startable):
            enqueue(run, out, startable)


def enqueue(run: Run, out: Effects, task: Task) -> None:
    """Queue a task whose dependencies hold."""
    change(run, out, task, TaskState.QUEUED, NONE_MISSING)
    if task.is_reserved:
        run.reserved_ready.append(task.index)
    else:
        run.queue.push(task.index)


def enqueue_first(run: Run) -> None:
    """Queue the tasks that wait for nothing when a run begins: as `enqueue`, but for 100,000 at once, and unrecorded."""
    for task in run.tasks:
        if task.unmet == 0 and task.state is TaskState.WAITING:
            task.state, task.last_reason = TaskState.QUEUED, NONE_MISSING
            run.queue.push(task.index)


def end_delay(run: Run, out: Effects, task: Task) -> None:
    """Let a task start again whose delay between two attempts is over."""
    run.changed.add(task.index)
    run.tally.remove(task)
    task.is_delayed = False
    run.tally.add(task)
    if task.unmet == 0:
        enqueue(run, out, task)
    else:
        free_waiting_place(run, task)


def free_waiting_place(run: Run, task: Task) -> None:
    """Free the place that a task keeps for its next attempt, if it waits for a task that still has to find one.

    That task may need this very place, or the last one that `max_running` allows: both would wait for ever.
    """
    if not task.is_reserved or task.plan.keeps_gpus or may_keep_place(run, task):
        return
    release(run, task)
    free_places_waiting_for(run, task)


def free_places_waiting_for(run: Run, task: Task) -> None:
    """Free the places of the tasks that wait for one which is to start again, and has no place itself."""
    for requirement in task.requirements:
        for index in requirement.dependants:
            if run.tasks[index].state is TaskState.WAITING:
                free_waiting_place(run, run.tasks[index])


def may_keep_place(run: Run, task: Task) -> bool:
    """Return whether all that a task waits for has a place."""
    if task.unmet == 0:
        return True
    members = ((one.until, run.tasks[index]) for one in task.needs if not one.is_met for index in one.members)
    return all(
        until in member.met or member.state in TERMINAL or member.attempt.placement is not None
        for until, member in members
    )


def occupy(run: Run, task: Task, placement: Placement, now: float) -> None:
    """Begin an attempt of a queued task on a place that the ledger has taken, or that is reserved."""
    if task.is_reserved:
        for node in placement.nodes:
            run.nodes[node].reserved.discard(task.index)
    else:
        run.tally.occupy(task)
        run.cells.occupy(task, placement)
    task.begin_attempt(placement, now, _step_nodes(run, task, placement))
    run.claims.begin(task, placement)
    run.hosts.begin(task, placement.nodes)
    for node in task.attempt.nodes:
        run.nodes[node].live.add(task.index)


def occupy_for_uploads(run: Run, task: Task, placement: Placement, number: int) -> None:
    """Begin an attempt without processes on one node, which takes none of its GPUs."""
    run.tally.occupy(task)
    task.attempt = Attempt.of_uploads(placement, number)
    run.nodes[placement.nodes[0]].live.add(task.index)


def _step_nodes(run: Run, task: Task, placement: Placement) -> Sequence[int]:
    """Return the nodes on which a task's job step may have processes; none for what agents start."""
    if task.plan.launch_kind != "step":
        return ()
    if not task.plan.chooses_step_nodes:
        return placement.nodes
    return [
        node.index
        for node in run.plan.nodes
        if node.backend == task.plan.backend and not run.nodes[node.index].is_gone
    ]


def release(run: Run, task: Task) -> None:
    """Free what the attempt occupies."""
    placement = task.attempt.placement
    if placement is None:
        return
    run.changed.add(task.index)
    for node in {*placement.nodes, *task.attempt.nodes}:
        run.nodes[node].live.discard(task.index)
        run.nodes[node].reserved.discard(task.index)
    if run.outcome is None and task.plan.keeps_gpus and not placement.is_shared and task.next_plan is None:
        run.kept.append((task.index, placement))
    else:
        run.ledger.release(placement)
    run.claims.ended(task)
    run.hosts.ended(task)
    run.cells.release(task, placement)
    task.attempt.placement = None
    task.is_reserved = False
    run.tally.release(task)
    run.shutdown.order.gone(task.index)
    if task.next_plan is not None:
        _take_on_next_plan(run, task, task.next_plan)
    run.queue.retry_all()


def _take_on_next_plan(run: Run, task: Task, plan: PlannedTask) -> None:
    if run.revising is not None:
        run.revising.order.gone(task.index)
        run.revising.pending.discard(task.index)
        run.revising.freed.append(Freed(task.index, task.plan))
    take_on(run, task, plan)


def take_on(run: Run, task: Task, plan: PlannedTask) -> None:
    """Give a task another plan."""
    run.tally.remove(task)
    run.cells.leaves(task)
    if plan.placement != task.plan.placement:
        task.lent = None
    task.plan, task.next_plan = plan, None
    task.retries_used = min(task.retries_used, plan.retries.count)
    task.infra_used = min(task.infra_used, plan.retries.infra_count)
    run.tally.add(task)
    run.cells.joins(task)
    run.changed.add(task.index)


def lend(run: Run, task: Task) -> None:
    """Let other tasks have the GPUs of one that still uses them, also in its later attempts."""
    placement = task.attempt.placement
    if placement is None or placement.is_shared or not placement.gpus:
        return
    run.ledger.release(placement)
    run.cells.release(task, placement)
    task.lent = task.attempt.placement = msgspec.structs.replace(placement, is_shared=True)
    run.queue.retry_all()


def _give_up_kept(run: Run) -> None:
    """Free what tasks that have ended keep from others until the run ends: it does now."""
    for _, placement in run.kept:
        run.ledger.release(placement)
    run.kept.clear()
    run.claims.owners.clear()
    run.queue.retry_all()


def release_kept(run: Run, task: Task) -> None:
    """Free what a task that has ended keeps from others until the run ends: it starts again."""
    for entry in [one for one in run.kept if one[0] == task.index]:
        run.kept.remove(entry)
        run.ledger.release(entry[1])
        run.queue.retry_all()


def reserve(run: Run, task: Task) -> None:
    """Keep the place of an attempt that has ended for the next one."""
    assert task.attempt.placement is not None
    task.is_reserved = True
    for node in task.attempt.nodes:
        run.nodes[node].live.discard(task.index)
    for node in task.attempt.placement.nodes:
        run.nodes[node].live.discard(task.index)
        run.nodes[node].reserved.add(task.index)


def give_up_reservation(run: Run, task: Task) -> None:
    """Free the place of a task that has one reserved."""
    if task.is_reserved:
        release(run, task)


def skip_unsatisfiable(run: Run, out: Effects) -> None:
    """Skip the tasks whose dependencies can no longer be met."""
    while run.unsatisfiable:
        task, because = run.unsatisfiable.pop()
        if task.state in (TaskState.WAITING, TaskState.QUEUED):
            give_up_reservation(run, task)
            state = TaskState.CANCELLED if task.attempt.number else TaskState.SKIPPED
            word = dependencies.word_of_skip(run.tasks, task)
            change(run, out, task, state, Reason(word, because))


def cancel_waiting(run: Run, out: Effects, reason: Reason) -> None:
    """Cancel all tasks that have not started, except those that run although the run ends.

    These may have what other tasks have kept until then.
    """
    if run.outcome is not None:
        _give_up_kept(run)
    for task in run.tasks:
        is_spared = task.plan.finally_when is not None or task.index in run.shutdown.branch
        if task.state in (TaskState.WAITING, TaskState.QUEUED) and not is_spared:
            give_up_reservation(run, task)
            change(run, out, task, TaskState.CANCELLED, reason)


def send_leases(run: Run, out: Effects, orders: Orders) -> None:
    """Send orders about ports to the agents that are connected; the others get them when they join."""
    for node, order in orders:
        if run.nodes[node].is_up:
            out.send(node, order)
