"""The scheduler: decides what starts, what an end means, and how a run stops. `handle(event, now) ->
commands`.

Work per event is proportional to what the event changes; nothing rescans the tasks. The rules about
single attempts
(retries, reasons) are in `attempts.py`, what is free in `resources.py`, who waits in `ready_queue.py`.
"""

from dataclasses import dataclass, field
from typing import Any, assert_never

from protocol.ids import AttemptId
from protocol.messages import (
    FromAgent,
    Goodbye,
    Hello,
    LaunchFailed,
    Leave,
    NodeDescribed,
    Notice,
    ProbeTriggered,
    ProbeWaiting,
    RankCleared,
    RankExited,
    RankSpec,
    RankStarted,
    Spawn,
    Stop,
)
from sflow_ctl.core import attempts, dependencies, waiting
from sflow_ctl.core.commands import (
    AbandonNode,
    AcceptAgent,
    Command,
    FinishRun,
    RecordTransition,
    RecordWaiting,
    SendToAgent,
    Warn,
)
from sflow_ctl.core.events import (
    AgentJoined,
    AgentLost,
    MessageReceived,
    OutputsCollected,
    SchedulerEvent,
    StopRequested,
    WakeUp,
)
from sflow_ctl.core.late import filled_in
from sflow_ctl.core.readiness import Readiness, ranks_needed
from sflow_ctl.core.ready_queue import ReadyQueue
from sflow_ctl.core.resources import GpuLedger
from sflow_ctl.core.states import (
    LIVE,
    TERMINAL,
    TRANSITIONS,
    FirstCause,
    Outcome,
    Reason,
    TaskState,
    Transition,
)
from sflow_ctl.core.stop_order import StopOrder
from sflow_ctl.core.tasks import DEFAULT_GRACE_S, End, Task, build_graph
from sflow_ctl.core.timers import TimerKind, Timers
from sflow_ctl.planner.plan import Plan
from sflow_ctl.spec.expressions import ExpressionError

STOP_OVERDUE_S = 15.0
"""After the grace: an agent that has not ended its tasks by then is ended itself. Its own verify limit
is 5 s.
"""
LEAVE_OVERDUE_S = 40.0
"""An agent may need 30 s to hand over the rest of its logs."""


@dataclass(slots=True)
class Node:
    """What the scheduler knows of one node's agent."""

    is_up: bool = False
    is_gone: bool = False
    has_joined: bool = False
    agent_incarnation: int = 0
    live: set[int] = field(default_factory=set)
    """Tasks whose current attempt has ranks, or leftovers, here."""


def _is_working(state: TaskState, is_delayed: bool) -> bool:
    return is_delayed or (state in LIVE and state is not TaskState.READY)


class InvalidTransitionError(Exception):
    """A change of state that does not exist: our bug."""


class Scheduler:
    """The state of one run. Same events at the same times give the same commands."""

    def __init__(
        self,
        plan: Plan,
        stream_logs: bool = False,
        ends_at: float | None = None,
        missing: frozenset[int] = frozenset(),
    ) -> None:
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
        self._timers = Timers()
        self.unsettled = len(self.tasks)
        self._live_count = 0
        self._working_count = 0
        """Live tasks that are not ready, and tasks whose next attempt has its time: they will end, or go on."""
        self._stuck_at: tuple[int, int] | None = None
        self._stop_order = StopOrder()
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
        for task in self.tasks:
            if task.unmet == 0:
                self._enqueue(task)
        self._out.clear()  # what is queued from the start is no change of state

    # ------------------------------------------------------------------ the interface

    def handle(self, event: SchedulerEvent, now: float) -> list[Command]:
        """Takes in one event; returns what to do, in order."""
        if self.is_finished:
            return []
        match event:
            case AgentJoined(hello=hello):
                self._on_hello(hello, now)
            case MessageReceived(node=node, message=message):
                self._on_message(node, message, now)
            case AgentLost(node=node, reason=reason):
                self._on_agent_lost(node, reason, now)
            case StopRequested(signal=signal, force=force):
                self._on_stop_requested(signal, force, now)
            case OutputsCollected(task=name, attempt=attempt, values=values):
                if self._is_current(name, attempt):
                    self._outputs[name] = values
            case WakeUp():
                self._on_wakeup(now)
            case _:
                assert_never(event)
        self._settle(now)
        out, self._out = self._out, []
        return out

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

    # ------------------------------------------------------------------ agents

    def _on_hello(self, hello: Hello, now: float) -> None:
        node = self.nodes[hello.node]
        if node.is_gone:
            self._out.append(AbandonNode(node=hello.node, reason="the run goes on without this node"))
            return
        self._awaited.discard(hello.node)
        is_restarted = node.has_joined and hello.agent_incarnation != node.agent_incarnation
        node.is_up = node.has_joined = True
        node.agent_incarnation = hello.agent_incarnation
        known = {(live.rank.attempt, live.rank.rank) for live in hello.live}
        known |= {(exited.rank.attempt, exited.rank.rank) for exited in hello.exited}
        kill = tuple(
            live.rank
            for live in hello.live
            if not self._is_current(live.rank.attempt.task, live.rank.attempt.number)
        )
        self._out.append(AcceptAgent(node=hello.node, session=hello.session, kill=kill))
        for live in hello.live:
            self._on_message(
                hello.node, RankStarted(rank=live.rank, pid=live.pid, started_at_ns=live.started_at_ns), now
            )
        for told in hello.triggered + hello.exited:
            self._on_message(hello.node, told, now)
        for index in sorted(node.live):
            self._reconcile(self.tasks[index], hello, known, is_restarted, now)
        if self._leaving is not None:
            self._leaving.add(hello.node)
            self._out.append(SendToAgent(node=hello.node, message=Leave(grace_s=self._grace())))
        self._queue.retry_all()

    def _reconcile(
        self, task: Task, hello: Hello, known: set[tuple[AttemptId, int]], is_restarted: bool, now: float
    ) -> None:
        """Orders again what a lost session may have lost, and gives up what the agent does not have."""
        here = task.ranks_on(hello.node)
        for rank in sorted(task.open_ranks & here):
            if (task.attempt_id, rank) in known:
                continue
            if rank in task.unstarted and not is_restarted:
                self._spawns.setdefault(hello.node, []).extend(
                    spec
                    for node, spec in task.rank_specs(self.plan, self._stream_logs)
                    if node == hello.node and spec.rank.rank == rank
                )
            elif task.state in LIVE:
                reason = Reason("node_lost", "the agent on its node was restarted")
                self._ranks_vanished(task, hello.node, reason, now)
                return
        clearing = {rank.rank for rank in hello.clearing if rank.attempt == task.attempt_id}
        task.uncleared -= here - task.open_ranks - clearing
        if not task.uncleared:
            self._all_cleared(task, now)
        elif task.is_stop_sent:
            self._send_stop(task, self._grace())

    def _on_agent_lost(self, index: int, reason: str, now: float) -> None:
        node = self.nodes[index]
        if node.is_gone:
            return
        node.is_up, node.is_gone = False, True
        self._awaited.discard(index)
        name = self.plan.nodes[index].name
        self._out.append(AbandonNode(node=index, reason=reason))
        if self._leaving is not None:
            self._leaving.discard(index)
        sentence = f"node {name} was lost: {reason}"
        for task_index in sorted(node.live):
            self._ranks_vanished(self.tasks[task_index], index, Reason("node_lost", sentence), now)
        if not node.has_joined and self.outcome is None:
            cause = FirstCause(text=f"the agent of node {name} did not report: {reason}", node=index)
            self._begin_stop(Outcome.INFRASTRUCTURE, cause, now)
        self._queue.retry_all()

    # ------------------------------------------------------------------ facts

    def _on_message(self, node: int, message: FromAgent, now: float) -> None:
        match message:
            case RankStarted():
                self._on_started(message)
            case RankExited():
                self._on_exited(message, now)
            case RankCleared():
                self._on_cleared(message, now)
            case LaunchFailed():
                self._on_launch_failed(message, now)
            case ProbeTriggered():
                self._on_probe(node, message, now)
            case ProbeWaiting():
                self._on_waiting(node, message)
            case Goodbye(survivors=survivors):
                self.survivors.extend(survivors)
                if self._leaving is not None:
                    self._leaving.discard(node)
                    self.nodes[node].is_up = False
            case NodeDescribed() | Notice() | Hello():
                pass  # the shell's: facts for people, and hellos arrive as AgentJoined
            case _:
                assert_never(message)

    def _current(self, task_name: str, attempt: int) -> Task | None:
        """The task whose current attempt this is; stale and foreign ones are counted."""
        if self._is_current(task_name, attempt):
            return self.tasks[self._index_of[task_name]]
        self.stale_messages += 1
        return None

    def _is_current(self, task_name: str, attempt: int) -> bool:
        index = self._index_of.get(task_name)
        return index is not None and self.tasks[index].attempt == attempt and self.tasks[index].is_live

    def _on_started(self, message: RankStarted) -> None:
        task = self._current(*message.rank.attempt)
        if task is None or message.rank.rank not in task.unstarted:
            return
        task.unstarted.discard(message.rank.rank)
        if message.rank.rank == 0:
            task.pid = message.pid
        if task.state is TaskState.STARTING and not task.unstarted:
            self._change(task, TaskState.RUNNING, Reason("started"))
            if task.early_readiness is not None:
                self._change(task, TaskState.READY, Reason("ready", task.early_readiness))

    def _on_exited(self, message: RankExited, now: float) -> None:
        task = self._current(*message.rank.attempt)
        if task is None or message.rank.rank not in task.open_ranks:
            return
        if task.state is TaskState.STARTING:
            self._change(task, TaskState.RUNNING, Reason("started"))
        task.open_ranks.discard(message.rank.rank)
        task.unstarted.discard(message.rank.rank)
        attempts.note_exit(task, message)
        if message.cleared:
            task.uncleared.discard(message.rank.rank)
        if not task.open_ranks:
            self._attempt_exited(task, now)
        else:
            self._one_of_several_exited(task, message, now)

    def _one_of_several_exited(self, task: Task, message: RankExited, now: float) -> None:
        """The others run on, unless the task says otherwise."""
        if task.state is TaskState.STOPPING:
            return
        is_hopeless = task.readiness.rank_gone(message.rank.rank) and task.state is TaskState.RUNNING
        if message.exit_code != 0 and (task.plan.kill_on_bad_exit or is_hopeless):
            end = attempts.judge(task)
            because = ", and its readiness waits for that rank" if is_hopeless else ""
            text = f"rank {message.rank.rank}: {end.reason.text}{because}"
            self._stop_task(task, End(end.state, Reason(end.reason.word, text), end.may_retry), now)
        elif task.plan.wait_s is not None and len(task.open_ranks) == task.plan.world_size - 1:
            self._timers.set(now + task.plan.wait_s, "ranks", task.index, task.attempt)

    def _on_cleared(self, message: RankCleared, now: float) -> None:
        task = self._current(*message.rank.attempt)
        if task is None or message.rank.rank not in task.uncleared:
            return
        self.survivors.extend(message.survivors)
        task.uncleared.discard(message.rank.rank)
        if not task.open_ranks and not task.uncleared:
            self._all_cleared(task, now)

    def _on_launch_failed(self, message: LaunchFailed, now: float) -> None:
        task = self._current(*message.rank.attempt)
        if task is None or message.rank.rank not in task.open_ranks:
            return
        task.open_ranks.discard(message.rank.rank)
        task.uncleared.discard(message.rank.rank)
        task.launch_error = task.launch_error or message.reason
        if not task.open_ranks:
            self._attempt_exited(task, now)
        elif task.state is not TaskState.STOPPING:
            self._stop_task(task, attempts.judge(task), now)

    def _on_probe(self, node: int, message: ProbeTriggered, now: float) -> None:
        task = self._current(*message.attempt)
        if task is None:
            return
        if message.kind == "readiness":
            if not task.readiness.seen(node, message.rank):
                return
            if task.state is TaskState.RUNNING:
                self._change(task, TaskState.READY, Reason("ready", message.detail))
            elif task.state is TaskState.STARTING:  # of several ranks, one is quicker than the others' start
                task.early_readiness = message.detail
        elif task.state in (TaskState.STARTING, TaskState.RUNNING, TaskState.READY):
            # The format: a failure probe ends the task whatever retries it has.
            self._stop_task(task, End(TaskState.FAILED, Reason("probe", message.detail)), now)

    def _on_waiting(self, node: int, message: ProbeWaiting) -> None:
        task = self._current(*message.attempt)
        if task is None or task.state is not TaskState.RUNNING:
            return
        if task.readiness.waits(node, message.detail):
            text = waiting.waits_for(task, self._node_names)
            self._out.append(RecordWaiting(task=task.plan.name, attempt=task.attempt, text=text))

    # ------------------------------------------------------------------ ends of attempts

    def _attempt_exited(self, task: Task, now: float) -> None:
        """All main processes have ended: judge the attempt, now or when its tree is gone."""
        end = task.end or attempts.judge(task)
        if self.outcome is not None:
            end = attempts.end_while_stopping(self.outcome, task, end)
        will_retry = self._may_retry(task, end)
        if task.uncleared and (will_retry or task.state is TaskState.STOPPING):
            task.end = end
            if task.state is not TaskState.STOPPING:
                self._change(task, TaskState.STOPPING, end.reason)
            return
        self._conclude(task, end, will_retry, now)

    def _ranks_vanished(self, task: Task, node: int, reason: Reason, now: float) -> None:
        """What the attempt had on this node is gone; what it has elsewhere is ended."""
        here = task.ranks_on(node)
        elsewhere = (task.open_ranks | task.uncleared) - here
        if not elsewhere:
            self._attempt_vanished(task, reason, now)
            return
        was_open = bool(task.open_ranks & here)
        task.open_ranks -= here
        task.uncleared -= here
        if was_open and task.state in LIVE and task.state is not TaskState.STOPPING:
            self._stop_task(task, End(TaskState.LOST, reason, may_retry=True), now)
        elif not task.open_ranks and task.state in LIVE and task.end is None:
            self._attempt_exited(task, now)

    def _attempt_vanished(self, task: Task, reason: Reason, now: float) -> None:
        """The attempt's processes are gone or out of reach, without a word about how they ended."""
        was_open = bool(task.open_ranks)
        task.open_ranks.clear()
        task.uncleared.clear()
        if task.state in LIVE and (was_open or task.state is TaskState.STOPPING):
            end = task.end or End(TaskState.LOST, reason, may_retry=True)
            if self.outcome is not None:
                end = attempts.end_while_stopping(self.outcome, task, end)
            self._conclude(task, end, self._may_retry(task, end), now)
        else:
            self._release(task)

    def _all_cleared(self, task: Task, now: float) -> None:
        task.uncleared.clear()
        if task.state is TaskState.STOPPING:
            assert task.end is not None
            self._conclude(task, task.end, self._may_retry(task, task.end), now)
        else:
            self._release(task)

    def _may_retry(self, task: Task, end: End) -> bool:
        return end.may_retry and self.outcome is None and task.attempt <= task.plan.retries.count

    def _conclude(self, task: Task, end: End, will_retry: bool, now: float) -> None:
        """The attempt is over for good: retry, or end the task and what depends on that."""
        runtime_s = None if task.started_at is None else now - task.started_at
        if not task.uncleared:
            self._release(task)
        if will_retry:
            delay_s = attempts.retry_delay_s(task)
            following = f"attempt {task.attempt + 1} of {task.plan.retries.count + 1}"
            text = f"{end.reason.text}; {following} in {delay_s:g} s"
            self._change(task, TaskState.WAITING, Reason("retry", text), runtime_s)
            task.end = None
            self._timers.set(now + delay_s, "retry", task.index, task.attempt)
            return
        self._change(task, end.state, end.reason, runtime_s)
        if end.state is not TaskState.COMPLETED and self.outcome is None:
            cause = FirstCause(
                text=attempts.cause_text(task, end),
                task=task.plan.name,
                attempt=task.attempt,
                node=task.node,
                reason=end.reason,
            )
            self._begin_stop(Outcome.FAILED, cause, now)

    # ------------------------------------------------------------------ starting

    def _enqueue(self, task: Task) -> None:
        self._change(task, TaskState.QUEUED, Reason("dependencies"))
        self._queue.push(task.index)

    def _start_queued(self, now: float) -> None:
        limit = self.plan.max_running
        while limit is None or self._live_count < limit:
            index = self._queue.pop()
            if index is None:
                break
            task = self.tasks[index]
            if task.state is not TaskState.QUEUED:
                continue
            placement = task.plan.placement
            if task.unmet > 0:
                self._change(
                    task, TaskState.WAITING, Reason("dependencies", "a service it needs is restarting")
                )
                self._queue.retry_like(placement)
                continue
            if task.plan.late and not self._fill_in(task, now):
                return
            is_early = self._awaited and placement.is_flexible and not placement.gpus_per_node
            taken = None if is_early else self._ledger.take(placement, self._is_up)
            if taken is None:
                if not self._can_ever_fit(task):
                    reason = Reason("node_lost", "the nodes it could run on are lost")
                    self._cannot_start(task, TaskState.LOST, reason, now)
                    return
                self._queue.block(index, placement)
                continue
            self._queue.retry_like(placement)
            task.begin_attempt(taken, now)
            self._live_count += 1
            self._has_started = True
            self._change(task, TaskState.STARTING, Reason("placed"))
            if task.plan.timeout_s is not None:
                self._timers.set(now + task.plan.timeout_s, "timeout", task.index, task.attempt)
            if task.plan.deadline_s is not None:
                self._timers.set(now + task.plan.deadline_s, "deadline", task.index, task.attempt)
            specs = task.rank_specs(self.plan, self._stream_logs)
            task.readiness = Readiness.of(specs, ranks_needed(task.plan.probes, task.plan.world_size))
            for node, spec in specs:
                self.nodes[node].live.add(index)
                self._spawns.setdefault(node, []).append(spec)

    def _warn_if_stuck(self) -> None:
        """Only ready services run, and somebody waits for what they hold: people should know, once."""
        first = self._queue.first_blocked()
        if first is None or self._stuck_at == (first, self._live_count):
            return
        self._stuck_at = (first, self._live_count)
        task = self.tasks[first]
        self._out.append(Warn(text=waiting.finds_no_room(task, self.tasks)))

    def _fill_in(self, task: Task, now: float) -> bool:
        """Evaluates what waited for the outputs of others; False when that failed the task."""
        try:
            task.plan = filled_in(task.plan, self.plan, self._outputs)
        except ExpressionError as error:
            self._cannot_start(task, TaskState.FAILED, Reason("expression", error.text), now)
            return False
        return True

    def _cannot_start(self, task: Task, state: TaskState, reason: Reason, now: float) -> None:
        self._change(task, state, reason)
        cause = FirstCause(
            text=f"task {task.plan.name} cannot start: {reason.text}", task=task.plan.name, reason=reason
        )
        self._begin_stop(Outcome.FAILED, cause, now)

    def _is_up(self, node: int) -> bool:
        return self.nodes[node].is_up

    def _can_ever_fit(self, task: Task) -> bool:
        placement = task.plan.placement
        alive = sum(not self.nodes[node].is_gone for node in placement.nodes)
        return alive >= (placement.node_count if placement.is_flexible else len(placement.nodes))

    def _release(self, task: Task) -> None:
        """The attempt occupies nothing any more."""
        if task.taken is None:
            return
        for node in task.taken.nodes:
            self.nodes[node].live.discard(task.index)
        self._ledger.release(task.taken)
        task.taken = None
        self._live_count -= 1
        self._stop_order.gone(task.index)
        self._queue.retry_all()

    # ------------------------------------------------------------------ stopping

    def _grace(self) -> float:
        return 0.0 if self._is_forced else DEFAULT_GRACE_S

    def _stop_task(self, task: Task, end: End, now: float) -> None:
        """Ends a live attempt; it is judged as `end` when its tree is gone."""
        task.end = end
        if task.state in LIVE and task.state is not TaskState.STOPPING:
            self._change(task, TaskState.STOPPING, end.reason)
        self._send_stop(task, self._grace())
        self._timers.set(now + self._grace() + STOP_OVERDUE_S, "overdue", task.index, task.attempt)

    def _send_stop(self, task: Task, grace_s: float) -> None:
        task.is_stop_sent = True
        assert task.taken is not None
        for node in task.nodes_left:
            if self.nodes[node].is_up:
                self._out.append(
                    SendToAgent(node=node, message=Stop(attempt=task.attempt_id, grace_s=grace_s))
                )

    def _on_stop_requested(self, signal: str, force: bool, now: float) -> None:
        if self.outcome is None:
            outcome = Outcome.TERMINATED if signal == "SIGTERM" else Outcome.INTERRUPTED
            self._begin_stop(outcome, FirstCause(text=f"stopped by {signal}"), now)
        if force and not self._is_forced:
            self._is_forced = True
            for index in self._stop_order.force(self.tasks):
                self._stop_in_wave(self.tasks[index], now)

    def _begin_stop(self, outcome: Outcome, cause: FirstCause | None, now: float) -> None:
        """The run ends: nothing new starts, what lives is stopped in reverse dependency order."""
        self.outcome, self.cause = outcome, cause
        reason = Reason(
            "interrupted" if outcome in (Outcome.INTERRUPTED, Outcome.TERMINATED) else "fail_fast"
        )
        for task in self.tasks:
            if task.state in (TaskState.WAITING, TaskState.QUEUED):
                self._change(task, TaskState.CANCELLED, reason)
        unsent = [spec.rank for specs in self._spawns.values() for spec in specs]
        self._spawns.clear()
        for rank in unsent:  # decided in this very step, and never told to an agent
            task = self.task_named(rank.attempt.task)
            task.open_ranks.discard(rank.rank)
            task.uncleared.discard(rank.rank)
            if not task.uncleared:
                self._conclude(task, attempts.run_end(self.outcome, self.cause), will_retry=False, now=now)
        self._stop_order.begin(self.tasks)

    def _stop_in_wave(self, task: Task, now: float) -> None:
        if task.state is TaskState.STOPPING:
            self._send_stop(task, self._grace())  # its end is decided already; only the grace may be shorter
            return
        self._stop_task(task, attempts.run_end(self.outcome, self.cause), now)

    # ------------------------------------------------------------------ time

    def _on_wakeup(self, now: float) -> None:
        while (timer := self._timers.pop_due(now)) is not None:
            if timer.kind == "workflow":
                if self.outcome is None:
                    still = waiting.not_ready(self.tasks, self._node_names)
                    text = f"the workflow's time limit of {self.plan.timeout_s:g} s is over{still}"
                    self._begin_stop(Outcome.TIMEOUT, FirstCause(text=text), now)
            elif timer.kind == "allocation":
                if self.outcome is None:
                    text = "the Slurm job's time is nearly over"
                    self._begin_stop(Outcome.TIMEOUT, FirstCause(text=text, reason=Reason("time_limit")), now)
            elif timer.kind == "leave":
                for node in sorted(self._leaving or ()):
                    self._on_agent_lost(node, "it did not leave in time", now)
            elif self.tasks[timer.task].attempt == timer.attempt:
                self._on_task_time(self.tasks[timer.task], timer.kind, now)

    def _on_task_time(self, task: Task, kind: TimerKind, now: float) -> None:
        match kind:
            case "retry" if task.state is TaskState.WAITING:
                task.is_delayed = False
                self._working_count -= 1
                if task.unmet == 0:
                    self._enqueue(task)
            case "timeout" | "deadline" if task.state in (TaskState.STARTING, TaskState.RUNNING):
                self._stop_task(task, waiting.too_late(task, kind, self._node_names), now)
            case "ranks" if task.open_ranks and task.state is not TaskState.STOPPING:
                self._stop_task(task, waiting.too_late(task, kind, self._node_names), now)
            case "overdue" if task.is_live and task.taken is not None:
                for node in task.nodes_left:
                    self._on_agent_lost(node, f"it did not end {task.attempt_id} in time", now)
            case _:
                pass  # the attempt has moved on

    # ------------------------------------------------------------------ after every event

    def _settle(self, now: float) -> None:
        if self.outcome is None:
            self._start_queued(now)
            if self._working_count == 0 and self._live_count:
                self._warn_if_stuck()
            if self._has_started and self.plan.timeout_s is not None and not self._is_time_armed:
                self._is_time_armed = True
                self._timers.set(now + self.plan.timeout_s, "workflow", -1, 0)
            if self.unsettled == 0 and self.outcome is None:
                self._begin_stop(Outcome.COMPLETED, None, now)
        for node, specs in self._spawns.items():
            self._out.append(SendToAgent(node=node, message=Spawn(ranks=tuple(specs))))
        self._spawns.clear()
        if self.outcome is not None:
            for index in self._stop_order.next_wave(self.tasks):
                self._stop_in_wave(self.tasks[index], now)
            if self._live_count == 0 and self._leaving is None:
                self._leave(now)
            if self._leaving is not None and not self._leaving:
                self.is_finished = True
                self._timers.clear()
                self._out.append(
                    FinishRun(outcome=self.outcome, cause=self.cause, survivors=tuple(self.survivors))
                )

    def _leave(self, now: float) -> None:
        self._leaving = {index for index, node in enumerate(self.nodes) if node.is_up}
        for node in sorted(self._leaving):
            self._out.append(SendToAgent(node=node, message=Leave(grace_s=self._grace())))
        self._timers.set(now + LEAVE_OVERDUE_S, "leave", -1, 0)

    def _change(self, task: Task, new: TaskState, reason: Reason, runtime_s: float | None = None) -> None:
        old = task.state
        if new not in TRANSITIONS[old]:
            raise InvalidTransitionError(f"{task.attempt_id}: {old} -> {new} ({reason.word} {reason.text})")
        was_settled = task.is_settled
        self._working_count -= _is_working(old, task.is_delayed)
        task.is_delayed = reason.word == "retry"
        self._working_count += _is_working(new, task.is_delayed)
        task.state = new
        self.unsettled += was_settled - task.is_settled
        is_end = new in TERMINAL or reason.word == "retry"
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
        for startable in dependencies.update(self.tasks, task):
            if self.outcome is None:
                self._enqueue(startable)
