"""Starts tasks: the queue, reserved places, and ports that are leased before an attempt's ranks are ordered.

What an attempt's deferred values need is in `rendering`.
"""

from protocol.messages.facts import Leased
from sflow_ctl.core import rendering
from sflow_ctl.core.actions import uploads
from sflow_ctl.core.actions.stopping import cannot_start, stop_task, stopped_verdict
from sflow_ctl.core.actions.transitions import (
    change,
    free_waiting_place,
    occupy,
    send_leases,
    skip_unsatisfiable,
)
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.events import TextsRendered
from sflow_ctl.core.model import moves
from sflow_ctl.core.model.attempt import AttemptVerdict
from sflow_ctl.core.model.port_leases import needs_leases
from sflow_ctl.core.model.rank_specs import rank_specs
from sflow_ctl.core.model.readiness import Readiness, ranks_needed
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Address, Task
from sflow_ctl.core.model.timers import DeadlineDue, QueueTimeoutDue, TimeoutDue, TotalTimeoutDue
from sflow_ctl.core.policy import dependencies, explanations
from sflow_ctl.core.states import PLACED, Reason, TaskState
from sflow_ctl.plan.deferred import NO_TEXTS, needs_rendering
from sflow_ctl.plan.model import Placement


def start_queued(run: Run, out: Effects, now: float) -> None:
    """Start the queued tasks for which there is room, in plan order; skip what needs one that can never start."""
    _start_those_with_room(run, out, now)
    while run.unsatisfiable:
        skip_unsatisfiable(run, out)
        _start_those_with_room(run, out, now)


def _start_those_with_room(run: Run, out: Effects, now: float) -> None:
    if run.reserved_ready:
        _start_in_reserved_places(run, out, now)
    rendering.retry_held(run)
    while run.awaiting_places:
        run.queue.push(run.awaiting_places.pop())
    limit = run.plan.max_running
    outcome = run.outcome  # a task that cannot start may stop the run
    while (limit is None or run.tally.live < limit) and run.outcome is outcome:
        if run.windows.are_all_full(len(run.nodes)):
            break
        index = run.queue.pop()
        if index is None:
            break
        task = run.tasks[index]
        placement = moves.wanted(run, task)
        room = (placement, task.plan.heeds_claims, task.plan.needs)
        if (
            task.state is not TaskState.QUEUED
        ):  # it has ended while it was blocked: the next of its kind is tried
            run.queue.retry_like(room)
            continue
        if _is_put_off(run, out, task):
            run.queue.retry_like(room)
            continue
        if not run.cells.admits(task):
            run.cells.hold(task)
            run.queue.retry_like(room)
            continue
        if (waiting := _waits_among(run, task)) is not None:
            waiting.append(index)
            run.queue.retry_like(room)
            continue
        is_early = run.outcome is None and run.awaited and _may_be_anywhere(placement)
        is_kept_back = is_early or not run.cells.may_take(run.tasks, task, placement, jobs=run.tally.jobs)
        taken = None if is_kept_back else moves.take(run, task, placement)
        if taken is None:
            why_never = moves.why_never(run, task)
            if why_never:
                reason = explanations.lost_its_place(lost_nodes(run, task), why_never)
                state = TaskState.LOST if reason.word == "node_lost" else TaskState.FAILED
                cannot_start(run, out, task, state, reason, now)
                run.queue.retry_like(room)
                continue
            run.queue.block(index, room)
            _limit_wait(run, task, now)
            run.cells.found_no_room(run.tasks, task, placement)
            continue
        run.queue.retry_like(room)
        _begin_attempt(run, out, task, taken, now)


def _limit_wait(run: Run, task: Task, now: float) -> None:
    """Limit the time of a task that finds no free place, if the file does."""
    limit_s = task.plan.retries.queue_s
    if limit_s is not None and task.placeless_since is None:
        task.placeless_since = now
        run.timers.set(now + limit_s, QueueTimeoutDue(task.index, task.attempt.number))


def _is_put_off(run: Run, out: Effects, task: Task) -> bool:
    """Return whether a queued task may not start now: what it needs starts again, or its condition is not known to hold."""
    if task.unmet > 0:
        _wait_again(run, out, task)
        return True
    if not rendering.is_open(task):
        return False
    from sflow_ctl.core.actions.handover.conditions import decide  # few tasks have any

    decide(run, out, task)
    return True


def _waits_among(run: Run, task: Task) -> list[int] | None:
    """Return those that a queued task waits with, for another task's place or for fewer tasks that are rendered; else None."""
    if run.leases.awaits_place(task):
        return run.awaiting_places
    return None if rendering.admits(run, task) else run.awaiting_rendering


def _start_in_reserved_places(run: Run, out: Effects, now: float) -> None:
    waiting, run.reserved_ready = run.reserved_ready, []
    for index in waiting:
        task = run.tasks[index]
        if task.state is not TaskState.QUEUED or not task.is_reserved:
            continue
        placement = task.attempt.placement
        assert placement is not None
        if task.unmet > 0:
            _wait_again(run, out, task)
        elif all(map(run.takes_orders, placement.nodes)):
            _begin_attempt(run, out, task, placement, now)
        else:
            # An agent is away, and returns or is lost; or it has enough orders.
            run.reserved_ready.append(index)


def _wait_again(run: Run, out: Effects, task: Task) -> None:
    task.placeless_since = None
    change(run, out, task, TaskState.WAITING, Reason("dependencies", "what it needs is starting again"))
    free_waiting_place(run, task)


def lost_nodes(run: Run, task: Task) -> list[str]:
    """Return the names of the nodes of a task's planned place that are lost."""
    return [run.node_names[node] for node in task.plan.placement.nodes if run.nodes[node].is_gone]


def _may_be_anywhere(placement: Placement) -> bool:
    return placement.is_flexible and not placement.gpus_per_node


def _begin_attempt(run: Run, out: Effects, task: Task, placement: Placement, now: float) -> None:
    occupy(run, task, placement, now)
    run.has_started = True
    task.placeless_since = None
    change(run, out, task, TaskState.STARTING, PLACED)
    number = task.attempt.number
    if task.plan.timeout_s is not None:
        run.timers.set(now + task.plan.timeout_s, TimeoutDue(task.index, number))
    if task.plan.retries.total_s is not None:
        task.tries_since = now if task.tries_since is None else task.tries_since
        due_at = task.tries_since + task.plan.retries.total_s
        run.timers.set(max(now, due_at), TotalTimeoutDue(task.index, number))
    for part, deadline_s in enumerate(task.plan.deadlines_s):
        if deadline_s is not None:
            run.timers.set(now + deadline_s, DeadlineDue(task.index, number, part))
    if needs_leases(task.plan):
        send_leases(run, out, run.leases.begin(task))
        give_up_leases(
            run, out, {node for node in run.leases.nodes_lacking(task) if run.nodes[node].is_gone}, now
        )
    if task.plan.checkpoint is not None and task.attempt.is_unsent:
        from sflow_ctl.core.actions.checkpoints import begin_search  # few tasks have any

        begin_search(run, out, task)
    prepare_if_ready(run, out, task)


def prepare_if_ready(run: Run, out: Effects, task: Task) -> None:
    """Order the ranks of an attempt that has begun, once its ports and its checkpoint are known."""
    attempt = task.attempt
    is_asking = attempt.is_seeking or attempt.checking
    if attempt.is_unsent and not is_asking and not run.leases.is_waiting(task):
        _prepare(run, out, task)


def _prepare(run: Run, out: Effects, task: Task) -> None:
    """Order the ranks of an attempt whose ports are all known, or first have its deferred values evaluated."""
    task.attempt.ports = run.leases.own_of(task)
    if not needs_rendering(task.plan):
        task.attempt.fill_in(task.plan, NO_TEXTS)
    elif not (rendering.is_quick(task.plan) and rendering.fill_now(run, task)):
        rendering.begin(run, out, task)
        return
    _check_or_spawn(run, out, task)


def on_rendered(run: Run, out: Effects, event: TextsRendered, now: float) -> None:
    """Take the deferred values of an attempt, and order its ranks, or its uploads."""
    if event.what in ("items", "block"):
        from sflow_ctl.core.actions.growing import on_known  # few tasks stand for others

        on_known(run, out, event, now)
        return
    if event.what == "when":
        from sflow_ctl.core.actions.handover.conditions import on_decided  # few tasks have any

        on_decided(run, out, event, now)
        return
    task = run.current(event.attempt_id)
    if task is None or task.index not in run.rendering:
        return
    run.rendering.discard(task.index)
    if not task.attempt.is_unsent:
        uploads.on_rendered(run, out, task, rendering.filled(run, task, event), now)
        return
    if run.is_ending_for(task):
        stop_task(run, out, task, stopped_verdict(run, task), now)
        return
    if needs_leases(task.plan):
        send_leases(run, out, run.leases.begin(task))  # those of an agent that was restarted are void
        if run.leases.is_waiting(task):
            return
        if run.leases.own_of(task) != task.attempt.ports:
            _prepare(run, out, task)
            return
    problem = rendering.filled(run, task, event)
    if problem:
        text = explanations.of_expression(problem, task.plan, event.field)
        word = "input_error" if problem.startswith("its input ") else "expression"
        stop_task(run, out, task, AttemptVerdict(TaskState.FAILED, Reason(word, text)), now)
    else:
        _check_or_spawn(run, out, task)


def _check_or_spawn(run: Run, out: Effects, task: Task) -> None:
    """Have the files checked that an attempt is given, or order its ranks if there are none."""
    if task.attempt.given_files:
        from sflow_ctl.core.actions.handover.files import check_inputs  # few tasks have any

        check_inputs(run, out, task)
    else:
        _spawn(run, out, task)


def go_on(run: Run, out: Effects, task: Task) -> None:
    """Order the ranks of an attempt whose inputs were checked, or begin again with ports that it was given meanwhile."""
    if needs_leases(task.plan):
        send_leases(run, out, run.leases.begin(task))
        if run.leases.is_waiting(task):
            return
        if run.leases.own_of(task) != task.attempt.ports:
            _prepare(run, out, task)
            return
    task.attempt.is_unsent = False
    _spawn(run, out, task)


def _spawn(run: Run, out: Effects, task: Task) -> None:
    """Order the ranks of an attempt that has its deferred values."""
    _note_address(run, out, task)
    specs = rank_specs(task, run.plan, run.streams(task))
    needed = ranks_needed(task.plan.probes, task.plan.world_size)
    task.attempt.readiness = Readiness.of(specs, needed)
    for node, spec in specs:
        run.windows.ordered(node, spec)
        out.spawn(node, spec)


def _note_address(run: Run, out: Effects, task: Task) -> None:
    """Warn of running tasks that have another address of a service than its present one."""
    if not task.plan.is_service:
        return
    assert task.attempt.placement is not None
    address = Address(task.attempt.placement.nodes, run.leases.own_of(task))
    if task.address not in (None, address):
        users = list(dependencies.running_users(run.tasks, task))
        if users:
            out.warn(explanations.server_moved(task, users, run.node_names))
    task.address = address


def on_leased(run: Run, out: Effects, node: int, message: Leased, now: float) -> None:
    """Take an agent's answer about ports, and start the attempts that waited for it."""
    for task in run.leases.on_leased(node, message):
        if not task.attempt.is_unsent:
            continue  # ended because of another one here
        if run.is_ending_for(task):
            stop_task(run, out, task, stopped_verdict(run, task), now)
        elif message.problem:
            text = f"no ports for {message.task} on node {run.node_names[node]}: {message.problem}"
            stop_task(
                run, out, task, AttemptVerdict(TaskState.FAILED, Reason("ports", text), may_retry=True), now
            )
        else:
            prepare_if_ready(run, out, task)


def give_up_leases(run: Run, out: Effects, gone: set[int], now: float) -> None:
    """Stop the attempts that wait for ports of lost nodes."""
    for task in run.leases.waiting_for(gone) if gone else ():
        if task.attempt.is_unsent:  # not ended by the end of another of them
            reason = Reason("node_lost", "a node whose ports it needs is lost")
            stop_task(run, out, task, AttemptVerdict(TaskState.LOST, reason, may_retry=True), now)


def fail_if_kept_out(run: Run, out: Effects, now: float) -> None:
    """Fail the tasks that wait for what is kept from them until the run ends, when nothing else is left to run."""
    while run.outcome is None and run.tally.live == 0 and (run.kept or run.claims.owners):
        index = run.queue.first_blocked()
        is_away = any(not node.is_up and not node.is_gone for node in run.nodes)
        if index is None or is_away or any(task.is_delayed for task in run.tasks):
            return
        task = run.tasks[index]
        if task.state is TaskState.QUEUED:
            reason = Reason("kept", explanations.kept_from(task, run.tasks, run.kept, run.claims.owners))
            cannot_start(run, out, task, TaskState.FAILED, reason, now)
        run.queue.retry_all()
        if run.outcome is None:
            start_queued(run, out, now)


def warn_if_stuck(run: Run, out: Effects) -> None:
    """Warn once when only ready services run and a task waits for their resources."""
    first = run.queue.first_blocked()
    if first is None or run.stuck_at == (first, run.tally.live):
        return
    run.stuck_at = (first, run.tally.live)
    out.warn(explanations.finds_no_room(run.tasks[first], run.tasks))
