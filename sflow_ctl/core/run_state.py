"""The state of one run: tasks, nodes, what is free, who waits, what is due; and the one way to change a task's state.

The first of the scheduler's layers: each builds on those below it (`run_state`, `ends`,
`starting`, `scheduler`) and calls nothing above. Work per event is proportional to what the event changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from protocol.messages.orders import Spawn
from protocol.messages.rank_spec import RankSpec
from sflow_ctl.core import dependencies
from sflow_ctl.core.commands import (
    Command,
    RecordTransition,
    SendToAgent,
)
from sflow_ctl.core.port_leases import Leases, Orders
from sflow_ctl.core.ready_queue import ReadyQueue
from sflow_ctl.core.resources import GpuLedger
from sflow_ctl.core.resume import PriorResult
from sflow_ctl.core.shutdown_steps import Step
from sflow_ctl.core.states import (
    LIVE,
    TERMINAL,
    TRANSITIONS,
    FirstCause,
    Outcome,
    Reason,
    TaskState,
    Transition,
    is_again,
)
from sflow_ctl.core.stop_order import StopOrder
from sflow_ctl.core.tasks import Task, build_graph
from sflow_ctl.core.timers import Timers
from sflow_ctl.plan.deferred import NO_EXPRESSIONS, DeferredValues, Evaluator
from sflow_ctl.plan.model import Plan


@dataclass(slots=True)
class Node:
    """What the scheduler knows of one node's agent."""

    is_up: bool = False
    is_gone: bool = False
    has_joined: bool = False
    agent_incarnation: int = 0
    clock_ahead_ns: int = 0
    """To be added to the node's times; 0 where its clock agrees with the controller's."""
    live: set[int] = field(default_factory=set)
    """Tasks whose current attempt has ranks, or leftovers, here."""
    kept: set[int] = field(default_factory=set)
    """Tasks that have their place here between two attempts."""


def _is_working(task: Task) -> bool:
    return task.is_delayed or (
        task.state in LIVE and not (task.state is TaskState.READY and task.plan.is_service)
    )


class InvalidTransitionError(Exception):
    """A change of state that does not exist: our bug."""


class RunState:
    """What every layer of the scheduler works on."""

    def __init__(
        self,
        plan: Plan,
        stream_logs: bool = False,
        ends_at: float | None = None,
        gone_at: float | None = None,
        missing: frozenset[int] = frozenset(),
        earlier: Mapping[str, PriorResult] | None = None,
        evaluator: Evaluator = NO_EXPRESSIONS,
    ) -> None:
        """`ends_at` is when the run must begin to end, `gone_at` when its nodes are taken away; `earlier` is what a
        resumed run has behind it.
        """
        self.plan = plan
        self._stream_logs = stream_logs
        self.tasks = build_graph(plan)
        self.nodes = [Node() for _ in plan.nodes]
        self._awaited = set(range(len(plan.nodes))) - missing
        """Nodes that have neither joined nor been given up: what may go anywhere waits for them, to be spread."""
        self.outcome: Outcome | None = None
        """Set when the run begins to stop."""
        self.cause: FirstCause | None = None
        self.is_finished = False
        self.survivors: list[str] = []
        self.stale_messages = 0
        self._index_of = {task.plan.name: task.index for task in self.tasks}
        self._node_names = [node.name for node in plan.nodes]
        self._ledger = GpuLedger(plan.nodes)
        self._queue = ReadyQueue()
        self._outputs: dict[str, dict[str, Any]] = {}
        self._leases = Leases(plan, self.tasks)
        self._late = DeferredValues(plan, self._outputs, self._leases.ports_of, evaluator)
        self._timers = Timers()
        self._gone_at = gone_at
        self.unsettled = sum(not task.is_settled for task in self.tasks)
        self._mains_left = sum(task.plan.is_main for task in self.tasks)
        self._has_mains = self._mains_left > 0
        self._failure: FirstCause | None = None
        """The first failure that counts, of those that did not end the run at once."""
        self._is_draining = False
        self._is_done = False
        """The run ends because there is nothing left to do."""
        self._hopeless: list[tuple[Task, str]] = []
        self._kept_ready: list[int] = []
        """Tasks that may start again in the place they have kept."""
        self._live_count = 0
        """Tasks that occupy a place."""
        self._job_count = 0
        """Those of them that are no services."""
        self._working_count = 0
        """Live tasks that are not ready, and tasks whose next attempt has its time: they will end, or go on."""
        self._stuck_at: tuple[int, int] | None = None
        self._stop_order = StopOrder()
        self._ending: list[Step] = []
        """Steps of the end that are not over; the first one has begun."""
        self._is_forced = False
        self._leaving: set[int] | None = None
        self._has_started = False
        self._is_time_armed = False
        self._out: list[Command] = []
        self._spawns: dict[int, list[RankSpec]] = {}
        for index in missing:  # the run was begun without them, on purpose
            self.nodes[index].is_gone = True
        if ends_at is not None:
            self._timers.set(ends_at, "allocation", -1, 0)
        again = self._resume(earlier) if earlier else []
        for task in self.tasks:
            if task.unmet == 0 and task.state is TaskState.WAITING:
                self._enqueue(task)
        self._out = again  # what is queued from the start is no change of state

    def _resume(self, earlier: Mapping[str, PriorResult]) -> list[Command]:
        """Takes over what has completed; returns what is to be said of all else, which begins again."""
        again: list[Command] = []
        for task in self.tasks:
            before = earlier.get(task.plan.name)
            if before is None:
                continue
            task.attempt = before.attempt
            if before.is_done:
                self._outputs[task.plan.name] = before.outputs or {}
                self._change(task, TaskState.COMPLETED, Reason("resumed", "it had completed before"))
            elif before.state is not TaskState.WAITING:
                transition = Transition(
                    task=task.plan.name,
                    attempt=before.attempt,
                    old=before.state,
                    new=TaskState.WAITING,
                    reason=Reason("resumed", f"it was {before.state}; the run goes on"),
                )
                again.append(RecordTransition(transition=transition))
        return again

    def next_wakeup(self) -> float | None:
        """When `handle(WakeUp(), ...)` is due, or None."""
        return self._timers.next_at()

    def task_named(self, name: str) -> Task:
        """The record of a concrete task. Raises: KeyError."""
        return self.tasks[self._index_of[name]]

    def counts(self) -> dict[TaskState, int]:
        """Tasks per state. Linear; for viewers, not for the loop."""
        result: dict[TaskState, int] = {}
        for task in self.tasks:
            result[task.state] = result.get(task.state, 0) + 1
        return result

    def _current(self, task_name: str, attempt: int) -> Task | None:
        """The task whose current attempt this is; stale and foreign ones are counted."""
        if self._is_current(task_name, attempt):
            return self.tasks[self._index_of[task_name]]
        self.stale_messages += 1
        return None

    def _is_current(self, task_name: str, attempt: int) -> bool:
        index = self._index_of.get(task_name)
        return index is not None and self.tasks[index].attempt == attempt and self.tasks[index].is_live

    def _is_ending_for(self, task: Task) -> bool:
        """True once the run ends, but for those tasks that run then."""
        return self.outcome is not None and (task.plan.finally_when is None or self._is_forced)

    def _cancel_what_waits(self, reason: Reason) -> None:
        for task in self.tasks:
            if task.state in (TaskState.WAITING, TaskState.QUEUED) and task.plan.finally_when is None:
                self._give_up_place(task)
                self._change(task, TaskState.CANCELLED, reason)

    def _enqueue(self, task: Task) -> None:
        self._change(task, TaskState.QUEUED, Reason("dependencies"))
        if task.is_kept:
            self._kept_ready.append(task.index)
        else:
            self._queue.push(task.index)

    def _send_leases(self, orders: Orders) -> None:
        """To agents that are there; the others are told when they come."""
        self._out += [
            SendToAgent(node=node, message=order) for node, order in orders if self.nodes[node].is_up
        ]

    def _is_up(self, node: int) -> bool:
        return self.nodes[node].is_up

    def _release(self, task: Task) -> None:
        """The attempt occupies nothing any more."""
        if task.taken is None:
            return
        for node in task.taken.nodes:
            self.nodes[node].live.discard(task.index)
            self.nodes[node].kept.discard(task.index)
        self._ledger.release(task.taken)
        task.taken = None
        task.is_kept = False
        self._live_count -= 1
        self._job_count -= not task.plan.is_service
        self._stop_order.gone(task.index)
        self._queue.retry_all()

    def _give_up_place(self, task: Task) -> None:
        if task.is_kept:
            self._release(task)

    def _send_spawns(self) -> None:
        for node, specs in self._spawns.items():
            self._out.append(SendToAgent(node=node, message=Spawn(ranks=tuple(specs))))
        self._spawns.clear()

    def _change(self, task: Task, new: TaskState, reason: Reason, runtime_s: float | None = None) -> None:
        old = task.state
        if new not in TRANSITIONS[old]:
            raise InvalidTransitionError(f"{task.attempt_id}: {old} -> {new} ({reason.word} {reason.text})")
        was_settled = task.is_settled
        self._working_count -= _is_working(task)
        task.is_delayed = is_again(new, reason)
        task.state, task.last_reason = new, reason
        self._working_count += _is_working(task)
        self.unsettled += was_settled - task.is_settled
        self._mains_left -= task.plan.is_main and new in TERMINAL
        task.was_ready = task.was_ready or new is TaskState.READY
        is_end = new in TERMINAL or task.is_delayed
        transition = Transition(
            task=task.plan.name,
            attempt=task.attempt,
            old=old,
            new=new,
            reason=reason,
            node=task.node,
            gpus=task.gpus,
            pid=task.pid if new is TaskState.RUNNING else None,
            exit_code=task.exit_code if is_end else None,
            signal=task.signal if is_end else None,
            runtime_s=runtime_s,
        )
        self._out.append(RecordTransition(transition=transition))
        changes = dependencies.update(self.tasks, task)
        if not self._is_ending_for(task) and not self._is_draining:
            self._hopeless.extend(changes.hopeless)
            for startable in changes.startable:
                self._enqueue(startable)
