"""Compares an agent's state, when it joins or is lost, with the scheduler's record of its node."""

import math
from collections.abc import Sequence
from itertools import pairwise

from protocol.ids import AttemptId
from protocol.messages.facts import Hello
from protocol.messages.orders import Spawn
from sflow_ctl.core.actions.attempt_ends import all_cleared, ranks_vanished
from sflow_ctl.core.actions.dispatch import give_up_leases
from sflow_ctl.core.actions.exit_gate import give_up_node
from sflow_ctl.core.actions.stop_orders import end_step_parts, send_stop
from sflow_ctl.core.actions.stopping import begin_stop, lift_fence, stop_task
from sflow_ctl.core.actions.transitions import release
from sflow_ctl.core.commands import AbandonNode, AcceptAgent
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.gpu_groups import NodeGroups
from sflow_ctl.core.model.attempt import AttemptVerdict
from sflow_ctl.core.model.phase import RunPhase
from sflow_ctl.core.model.rank_specs import rank_specs
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.model.task import Task
from sflow_ctl.core.model.timers import FenceOver
from sflow_ctl.core.policy import explanations
from sflow_ctl.core.states import LIVE, FirstCause, Outcome, Reason, TaskState

AGENTS_COUNTED_S = 600.0
"""The time in which an agent may be started again as often as the run's settings say, as its guardian counts it."""
CLOCKS_AGREE_NS = 1_000_000_000
"""A smaller difference may be the time that the hello took."""


def accept_agent(run: Run, out: Effects, hello: Hello, clock_ahead_ns: int, now: float) -> bool:
    """Answer a hello, naming the ranks that must not live; return whether the agent was restarted."""
    node = run.nodes[hello.node]
    node.clock_ahead_ns = clock_ahead_ns if abs(clock_ahead_ns) > CLOCKS_AGREE_NS else 0
    node.shares_run_directory = hello.shares_run_directory
    run.awaited.discard(hello.node)
    run.ledger.topology.nodes[hello.node] = NodeGroups.of(hello.inventory.gpus)
    run.hosts.capacity[hello.node] = run.host_share(hello)
    is_restarted = node.has_joined and hello.agent_incarnation != node.agent_incarnation
    if hello.follows and hello.agent_incarnation != node.agent_incarnation:
        node.followed_at.append(now)
    node.is_up = node.has_joined = True
    node.is_held_up = False  # its loop has said hello
    node.is_ending = False
    run.windows.forget(hello.node)  # what the agent does not have is ordered anew
    node.agent_incarnation = hello.agent_incarnation
    kill = tuple(live.rank for live in hello.live if not run.is_here(hello.node, live.rank))
    out.perform(AcceptAgent(node=hello.node, session=hello.session, kill=kill))
    return is_restarted


def agents_followed(run: Run, node: int, begun: Sequence[float], now: float) -> int:
    """Return how often an agent has taken the place of one that died on a node, in the last `AGENTS_COUNTED_S`.

    `begun` are the times, in their order, at which the controller had one started there: those that have not joined count too.
    """
    since = now - AGENTS_COUNTED_S
    followed = run.nodes[node].followed_at
    missing = sum(
        begin > since and not any(begin <= at < end for at in followed)
        for begin, end in pairwise((*begun, math.inf))
    )
    return missing + sum(at > since for at in followed)


def reconcile_node(run: Run, out: Effects, hello: Hello, *, is_restarted: bool, now: float) -> None:
    """Bring all tasks on an agent's node in line with the agent's state."""
    if is_restarted and hello.follows:
        out.warn(explanations.agent_restarted(run.node_names[hello.node], hello.follows))
    known = {(live.rank.attempt, live.rank.rank) for live in hello.live}
    known |= {(exited.rank.attempt, exited.rank.rank) for exited in hello.exited}
    for index in sorted(run.nodes[hello.node].live):
        _reconcile(run, out, run.tasks[index], hello, known, is_restarted=is_restarted, now=now)


def _reconcile(
    run: Run,
    out: Effects,
    task: Task,
    hello: Hello,
    known: set[tuple[AttemptId, int]],
    *,
    is_restarted: bool,
    now: float,
) -> None:
    """Repeat orders that a lost session may have lost, and give up ranks that the agent does not have.

    A held exit is known here: the agent forgets a rank whose exit has been acknowledged.
    """
    attempt = task.attempt
    if attempt.is_unsent:
        return
    here = attempt.ranks_on(hello.node)
    running = attempt.open_ranks - attempt.held.keys()
    for rank in sorted(running & here):
        if (task.attempt_id, rank) in known:
            continue
        if rank in attempt.unstarted and not is_restarted:
            for node, spec in rank_specs(task, run.plan, run.streams(task)):
                if node == hello.node and spec.rank.rank == rank:
                    run.windows.ordered(node, spec)
                    if (
                        task.state is TaskState.STOPPING
                    ):  # the order may have come after the hello was written
                        out.send(node, Spawn(ranks=(spec,), is_withdrawn=True))
                    else:
                        out.spawn(node, spec)
        elif task.state in LIVE:
            sentence = explanations.agent_died(run.node_names[hello.node], hello.follows)
            ranks_vanished(run, out, task, hello.node, Reason("agent_died", sentence), now)
            return
    clearing = {rank.rank for rank in hello.clearing if rank.attempt == task.attempt_id}
    attempt.uncleared -= here - running - clearing - attempt.node_of_part.keys()
    if not attempt.uncleared and not attempt.open_ranks:
        all_cleared(run, out, task, now)
    elif attempt.is_stop_sent:
        send_stop(run, out, task)
    elif attempt.has_parts_ended:
        end_step_parts(run, out, task)


def _use_spare(run: Run, out: Effects, lost: int) -> bool:
    """Let a spare node take the place of a lost one; return whether there is one."""
    spare = run.spare_for(lost) if run.outcome is None else None
    if spare is None:
        return False
    run.nodes[spare].is_held = False
    if not run.nodes[spare].has_joined:
        run.awaited.add(spare)
    left = sum(node.is_held and not node.is_gone for node in run.nodes)
    out.warn(explanations.spare_used(run.node_names[lost], run.node_names[spare], left))
    return True


def use_spares_for_missing(run: Run, out: Effects) -> None:
    """Let spare nodes take the places of those that the run begins without."""
    for index, node in enumerate(run.nodes):
        if node.is_gone and not node.is_held:
            _use_spare(run, out, index)


def on_agent_ending(run: Run, out: Effects, index: int, reason: str, now: float) -> None:
    """Take in that an agent ends by itself, and ends what it has: those attempts are not to blame."""
    node = run.nodes[index]
    node.is_ending = True
    for task_index in sorted(node.live):
        task = run.tasks[task_index]
        ends = task.attempt.ranks_on(index) & task.attempt.open_ranks - task.attempt.held.keys()
        if ends and task.state in LIVE - {TaskState.STOPPING} and not run.is_ending_for(task):
            sentence = explanations.agent_ended(run.node_names[index], reason)
            verdict = AttemptVerdict(TaskState.LOST, Reason("agent_died", sentence), may_retry=True)
            stop_task(run, out, task, verdict, now)


def on_node_cleared(run: Run, out: Effects, index: int, survivors: tuple[str, ...], now: float) -> None:
    """Take in that a lost node has nothing of the run any more."""
    if run.nodes[index].fenced_until is not None:
        run.survivors.extend(survivors)
        lift_fence(run, out, index, now)


def on_agent_lost(
    run: Run, out: Effects, index: int, reason: str, now: float, *, is_cleared: bool = False
) -> None:
    """Give up a node: what runs there is lost, and its places elsewhere are decided anew.

    Its processes may live until their agent notices that it is on its own. Until then the node is fenced: no task that has
    processes there starts again. A run that ends waits for that only with tasks of its end.
    """
    node = run.nodes[index]
    if node.is_gone:
        return
    node.is_up, node.is_gone = False, True
    run.windows.forget(index)
    run.awaited.discard(index)
    name = run.plan.nodes[index].name
    out.perform(AbandonNode(node=index, reason=reason))
    run.shutdown.leaving.discard(index)
    sentence = f"node {name} was lost: {reason}"
    if (
        node.has_joined
        and run.fence_s
        and not is_cleared
        and (run.outcome is None or run.may_return_from(index))
    ):
        node.fenced_until = now + run.fence_s
        run.timers.set(node.fenced_until, FenceOver(index))
    for task_index in sorted(node.reserved):
        task = run.tasks[task_index]
        release(run, task)
        if task.state is TaskState.QUEUED:
            run.queue.push(task_index)  # elsewhere, if it may; else it is lost when its turn comes
    for task_index in sorted(node.live):
        task = run.tasks[task_index]
        give_up_node(run, out, task, index, now)
        if task_index in node.live:
            ranks_vanished(run, out, task, index, Reason("node_lost", sentence), now)
    give_up_leases(run, out, {index}, now)
    if run.seeking:
        from sflow_ctl.core.actions.checkpoints import give_up_node as give_up_search  # few runs have any

        give_up_search(run, out, index)
    is_needed = not node.is_held and not _use_spare(run, out, index)
    if is_needed and not node.has_joined and run.phase in (RunPhase.RUNNING, RunPhase.DRAINING):
        cause = FirstCause(text=f"the agent of node {name} did not report: {reason}", node=index)
        begin_stop(run, out, Outcome.INFRASTRUCTURE, cause, now)
    run.queue.retry_all()
