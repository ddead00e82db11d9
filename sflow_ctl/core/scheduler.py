"""The scheduler: decides what starts, what an end means, and how a run stops. `handle(event, now) -> commands`.

Work per event is proportional to what the event changes; nothing rescans the tasks. What an end means is in
`attempts.py`, what follows it in `following.py`, the steps at the run's end in `ending.py`, what is free in
`resources.py`, who waits in `ready_queue.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, assert_never

from protocol.ids import AttemptId
from protocol.messages import (
    Examined,
    FromAgent,
    Goodbye,
    Hello,
    LaunchFailed,
    Leased,
    Leave,
    LogSearch,
    NodeDescribed,
    Notice,
    ProbeTriggered,
    ProbeWaiting,
    RankCleared,
    RankExited,
    RankQuiet,
    RankSpec,
    RankStarted,
    SideCommandEnded,
    Spawn,
    Stop,
)
from sflow_ctl.core import attempts, dependencies, following, waiting
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
from sflow_ctl.core.earlier import Earlier
from sflow_ctl.core.ending import (
    EVERYBODY,
    FORCE_MARGIN_S,
    GONE_MARGIN_S,
    FinalStep,
    Step,
    StopStep,
    ending_steps,
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
from sflow_ctl.core.following import Following
from sflow_ctl.core.late import LateValues
from sflow_ctl.core.leases import Leases, Orders
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
    is_again,
)
from sflow_ctl.core.stop_order import StopOrder
from sflow_ctl.core.tasks import DEFAULT_GRACE_S, End, Task, build_graph
from sflow_ctl.core.timers import TimerKind, Timers
from sflow_ctl.planner.plan import Placement, Plan
from sflow_ctl.spec.expressions import ExpressionError

STOP_OVERDUE_S = 15.0
"""After the task's own time: an agent that has not ended its tasks by then is ended itself. Its own verify limit
is 5 s.
"""
CLOCKS_AGREE_NS = 1_000_000_000
"""A difference below this may as well be the time that the hello took."""
LEAVE_OVERDUE_S = 40.0
"""An agent may need 30 s to hand over the rest of its logs."""


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


class Scheduler:
    """The state of one run. Same events at the same times give the same commands."""

    def __init__(
        self,
        plan: Plan,
        stream_logs: bool = False,
        ends_at: float | None = None,
        gone_at: float | None = None,
        missing: frozenset[int] = frozenset(),
        earlier: Mapping[str, Earlier] | None = None,
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
        self._late = LateValues(plan, self._outputs, self._leases.ports_of)
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

    def _resume(self, earlier: Mapping[str, Earlier]) -> list[Command]:
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

    # ------------------------------------------------------------------ the interface

    def handle(self, event: SchedulerEvent, now: float) -> list[Command]:
        """Takes in one event; returns what to do, in order."""
        if self.is_finished:
            return []
        match event:
            case AgentJoined(hello=hello, clock_ahead_ns=ahead_ns):
                self.nodes[hello.node].clock_ahead_ns = ahead_ns if abs(ahead_ns) > CLOCKS_AGREE_NS else 0
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
        for told in hello.triggered + hello.quiet + hello.exited:
            self._on_message(hello.node, told, now)
        self._send_leases(self._leases.node_joined(hello.node, is_restarted))
        for index in sorted(node.live):
            self._reconcile(self.tasks[index], hello, known, is_restarted, now)
        if self._leaving is not None:
            self._leaving.add(hello.node)
            self._out.append(SendToAgent(node=hello.node, message=Leave(grace_s=self._leave_grace_s())))
        self._queue.retry_all()

    def _reconcile(
        self, task: Task, hello: Hello, known: set[tuple[AttemptId, int]], is_restarted: bool, now: float
    ) -> None:
        """Orders again what a lost session may have lost, and gives up what the agent does not have."""
        if task.is_unsent:
            return
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
            self._send_stop(task)

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
        for task_index in sorted(node.kept):
            task = self.tasks[task_index]
            self._release(task)
            if task.state is TaskState.QUEUED:
                self._queue.push(task_index)  # elsewhere, if it may; else it is lost when its turn comes
        for task_index in sorted(node.live):
            self._ranks_vanished(self.tasks[task_index], index, Reason("node_lost", sentence), now)
        self._give_up_leases({index}, now)
        if not node.has_joined and self.outcome is None:
            cause = FirstCause(text=f"the agent of node {name} did not report: {reason}", node=index)
            self._begin_stop(Outcome.INFRASTRUCTURE, cause, now)
        self._queue.retry_all()

    # ------------------------------------------------------------------ facts

    def _on_message(self, node: int, message: FromAgent, now: float) -> None:
        match message:
            case RankStarted():
                self._on_started(node, message, now)
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
            case Leased():
                self._on_leased(node, message, now)
            case RankQuiet():
                self._on_quiet(message, now)
            case Goodbye(survivors=survivors):
                self.survivors.extend(survivors)
                if self._leaving is not None:
                    self._leaving.discard(node)
                    self.nodes[node].is_up = False
            case NodeDescribed() | Examined() | LogSearch() | Notice() | Hello() | SideCommandEnded():
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

    def _on_started(self, node: int, message: RankStarted, now: float) -> None:
        task = self._current(*message.rank.attempt)
        if task is None or message.rank.rank not in task.unstarted:
            return
        task.started_at_ns[message.rank.rank] = message.started_at_ns + self.nodes[node].clock_ahead_ns
        task.unstarted.discard(message.rank.rank)
        if message.rank.rank == 0:
            task.pid = message.pid
        if task.state is TaskState.STARTING and not task.unstarted:
            self._change(task, TaskState.RUNNING, Reason("started"))
            if task.early_readiness is not None:
                self._change(task, TaskState.READY, Reason("ready", task.early_readiness))
            elif task.plan.is_service and not task.plan.has_readiness:
                self._change(task, TaskState.READY, Reason("ready", "its process runs"))
            self._end_if_it_hangs(task, now)

    def _on_exited(self, message: RankExited, now: float) -> None:
        task = self._current(*message.rank.attempt)
        if task is None or message.rank.rank not in task.open_ranks:
            return
        if task.state is TaskState.STARTING:
            self._change(task, TaskState.RUNNING, Reason("started"))
        task.open_ranks.discard(message.rank.rank)
        task.unstarted.discard(message.rank.rank)
        attempts.note_exit(task, message)
        task.note_stolen(message.rank.rank, message.stolen)
        if message.cleared:
            task.uncleared.discard(message.rank.rank)
        if not task.open_ranks:
            self._attempt_exited(task, now)
        else:
            self._one_of_several_exited(task, message, now)

    def _one_of_several_exited(self, task: Task, message: RankExited, now: float) -> None:
        """The others run on, unless the task says otherwise."""
        self._end_if_it_hangs(task, now)
        if task.state is TaskState.STOPPING:
            return
        is_hopeless = task.readiness.rank_gone(message.rank.rank) and task.state is TaskState.RUNNING
        if attempts.is_bad(task, message) and (task.plan.kill_on_bad_exit or is_hopeless or message.stolen):
            because = f", and its readiness waits for rank {message.rank.rank}" if is_hopeless else ""
            self._stop_task(task, attempts.judge_rank(task, because), now)
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
        if task.launch_error is None:
            task.launch_error, task.failed_rank = message, message.rank.rank
        task.note_stolen(message.rank.rank, message.stolen)
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
            # The format: a failure probe ends the task whatever retries it has. A restart policy is asked.
            self._stop_task(task, End(TaskState.FAILED, Reason("probe", message.detail)), now)

    def _on_quiet(self, message: RankQuiet, now: float) -> None:
        task = self._current(*message.rank.attempt)
        if task is None:
            return
        quiet = task.quiet.setdefault(message.kind, set())
        (quiet.add if message.is_quiet else quiet.discard)(message.rank.rank)
        self._end_if_it_hangs(task, now)

    def _end_if_it_hangs(self, task: Task, now: float) -> None:
        end = waiting.hang(task)
        if end is not None:
            self._stop_task(task, end, now)

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
        if self._is_ending_for(task):
            assert self.outcome is not None
            end = self._if_it_was_first(task) or attempts.end_while_stopping(self.outcome, task, end)
        elif end.state is TaskState.COMPLETED and self._must_stay(task):
            end = attempts.left_too_early(task, dependencies.needers(self.tasks, task)) or end
        end = attempts.with_thief(task, end)
        goes_on = self._following(task, end, now) is not None
        if task.uncleared and (goes_on or task.state is TaskState.STOPPING):
            task.end = end
            if task.state is not TaskState.STOPPING:
                self._change(task, TaskState.STOPPING, end.reason)
            return
        self._conclude(task, end, now)

    def _ranks_vanished(self, task: Task, node: int, reason: Reason, now: float) -> None:
        """What the attempt had on this node is gone; what it has elsewhere is ended."""
        if task.is_unsent:
            self._stop_task(task, End(TaskState.LOST, reason, may_retry=True), now)
            return
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
            if self._is_ending_for(task):
                assert self.outcome is not None
                end = attempts.end_while_stopping(self.outcome, task, end)
            self._conclude(task, end, now)
        else:
            self._release(task)

    def _all_cleared(self, task: Task, now: float) -> None:
        task.uncleared.clear()
        if task.state is TaskState.STOPPING:
            assert task.end is not None
            self._conclude(task, task.end, now)
        else:
            self._release(task)

    def _if_it_was_first(self, task: Task) -> End | None:
        """The end of a task that failed before the one whose failure ends the run, and was heard of later: a
        service's crash and what its clients make of it reach us in any order.
        """
        first = self.cause.task if self.cause is not None else None
        if first is None or task.failed_at_ns is None or task.plan.on_failure == "continue":
            return None
        known = self.task_named(first).failed_at_ns
        if self.outcome is not Outcome.FAILED or known is None or task.failed_at_ns >= known:
            return None
        end = attempts.judge(task)
        self.cause = attempts.cause_of(task, end)
        return End(end.state, end.reason)

    def _must_stay(self, task: Task) -> bool:
        """A service that others may need to the end of the run."""
        return task.was_ready and task.plan.is_service and not self.plan.services_may_leave

    def _is_ending_for(self, task: Task) -> bool:
        """True once the run ends, but for those tasks that run then."""
        return self.outcome is not None and (task.plan.finally_when is None or self._is_forced)

    def _following(self, task: Task, end: End, now: float) -> Following | None:
        if self._is_ending_for(task) or self._is_draining:
            return None
        return following.following(task, end, now)

    def _conclude(self, task: Task, end: End, now: float) -> None:
        """The attempt is over for good: another one follows, or the task has ended, and what depends on that."""
        runtime_s = None if task.started_at is None else now - task.started_at
        next_one = self._following(task, end, now)
        if next_one is not None:
            self._begin_again(task, end, next_one, runtime_s, now)
            return
        if not task.uncleared:
            self._release(task)
        self._change(task, end.state, end.reason, runtime_s)
        if Leases.concern(task.plan) and not self._is_ending_for(task):
            self._send_leases(self._leases.ended(task))
        if end.state is not TaskState.COMPLETED:
            self._task_failed(task, end, attempts.cause_of(task, end), now)

    def _begin_again(
        self, task: Task, end: End, next_one: Following, runtime_s: float | None, now: float
    ) -> None:
        """Another attempt follows; all of this one is gone."""
        was_ready = task.was_ready
        following.note(task, end, next_one, now)
        for node in task.stolen:
            self._leases.renew(task, node)
        assert task.taken is not None
        is_there = not any(self.nodes[node].is_gone for node in task.taken.nodes)
        if next_one.in_place and is_there:
            self._keep_place(task)
        else:
            self._release(task)
        word = "restart" if next_one.in_place else "retry"
        self._change(task, TaskState.WAITING, attempts.again(end, word, next_one.text), runtime_s)
        task.end = None
        self._timers.set(now + next_one.delay_s, "retry", task.index, task.attempt)
        restart = task.plan.restart
        if restart is not None and restart.restarts_dependents and was_ready:
            for other in dependencies.needers(self.tasks, task):
                if other.state in LIVE and other.state is not TaskState.STOPPING:
                    reason = Reason("restart", f"{task.plan.name}, which it needs, is started again")
                    self._stop_task(other, End(TaskState.CANCELLED, reason, is_repeated=True), now)

    def _keep_place(self, task: Task) -> None:
        assert task.taken is not None
        task.is_kept = True
        for node in task.taken.nodes:
            self.nodes[node].live.discard(task.index)
            self.nodes[node].kept.add(task.index)

    # ------------------------------------------------------------------ what a failure means for the run

    def _task_failed(self, task: Task, end: End, cause: FirstCause, now: float) -> None:
        """The task has ended without success."""
        if self.outcome is not None:
            # A task that runs at the end, or one whose failure was decided before everything else was done.
            is_own = self.outcome is Outcome.COMPLETED and end.state is not TaskState.CANCELLED
            if is_own and task.plan.on_failure != "continue":
                self.outcome, self.cause = Outcome.FAILED, cause
            return
        if end.reason.word == "upstream":
            self._stop_needers(task, now)
            return
        match task.plan.on_failure:
            case "cancel":
                self._begin_stop(Outcome.FAILED, self._failure or cause, now)
            case "drain":
                self._failure = self._failure or cause
                self._is_draining = True
                self._cancel_what_waits(Reason("fail_fast", cause.text))
            case "isolate":
                self._failure = self._failure or cause
                self._stop_needers(task, now)
            case "continue":
                pass  # what has not started and needs it is skipped
            case _:
                assert_never(task.plan.on_failure)

    def _stop_needers(self, task: Task, now: float) -> None:
        for other in dependencies.needers(self.tasks, task):
            if other.state in LIVE and other.state is not TaskState.STOPPING:
                reason = Reason("upstream", f"needs {task.plan.name}, which is {task.state}")
                self._stop_task(other, End(TaskState.CANCELLED, reason), now)

    def _skip_the_hopeless(self) -> None:
        """Who waits for what cannot happen any more does not run."""
        while self._hopeless:
            task, because = self._hopeless.pop()
            if task.state in (TaskState.WAITING, TaskState.QUEUED):
                self._give_up_place(task)
                state = TaskState.CANCELLED if task.attempt else TaskState.SKIPPED
                self._change(task, state, Reason("upstream", because))

    def _cancel_what_waits(self, reason: Reason) -> None:
        for task in self.tasks:
            if task.state in (TaskState.WAITING, TaskState.QUEUED) and task.plan.finally_when is None:
                self._give_up_place(task)
                self._change(task, TaskState.CANCELLED, reason)

    def _is_over(self) -> bool:
        """True when there is nothing left to do."""
        if self._has_mains and self._mains_left == 0:
            return True
        if self._is_draining:
            return self._job_count == 0
        return self.unsettled == 0 and (not self.plan.keep_alive or self._live_count == 0)

    # ------------------------------------------------------------------ starting

    def _enqueue(self, task: Task) -> None:
        self._change(task, TaskState.QUEUED, Reason("dependencies"))
        if task.is_kept:
            self._kept_ready.append(task.index)
        else:
            self._queue.push(task.index)

    def _start_in_their_place(self, now: float) -> None:
        waiting, self._kept_ready = self._kept_ready, []
        for index in waiting:
            task = self.tasks[index]
            if task.state is not TaskState.QUEUED or not task.is_kept:
                continue
            assert task.taken is not None
            if task.unmet > 0:
                self._wait_again(task)
            elif all(map(self._is_up, task.taken.nodes)):
                for node in task.taken.nodes:
                    self.nodes[node].kept.discard(index)
                self._begin_attempt(task, task.taken, now)
            else:
                self._kept_ready.append(index)  # an agent is away; it comes back, or is lost

    def _wait_again(self, task: Task) -> None:
        reason = Reason("dependencies", "a service it needs is restarting")
        self._change(task, TaskState.WAITING, reason)

    def _start_queued(self, now: float) -> None:
        if self._kept_ready:
            self._start_in_their_place(now)
        limit = self.plan.max_running
        outcome = self.outcome  # a task that cannot start may end the run
        while (limit is None or self._live_count < limit) and self.outcome is outcome:
            index = self._queue.pop()
            if index is None:
                break
            task = self.tasks[index]
            if task.state is not TaskState.QUEUED:
                continue
            placement = task.plan.placement
            if task.unmet > 0:
                self._wait_again(task)
                self._queue.retry_like(placement)
                continue
            is_early = self.outcome is None and self._awaited and _may_be_anywhere(placement)
            taken = None if is_early else self._ledger.take(placement, self._is_up)
            if taken is None:
                if not self._can_ever_fit(task):
                    reason = Reason("node_lost", "the nodes it could run on are lost")
                    self._cannot_start(task, TaskState.LOST, reason, now)
                    self._queue.retry_like(placement)
                    continue
                self._queue.block(index, placement)
                continue
            self._queue.retry_like(placement)
            self._live_count += 1
            self._job_count += not task.plan.is_service
            self._begin_attempt(task, taken, now)

    def _begin_attempt(self, task: Task, taken: Placement, now: float) -> None:
        task.begin_attempt(taken, now)
        self._has_started = True
        self._change(task, TaskState.STARTING, Reason("placed"))
        if task.plan.timeout_s is not None:
            self._timers.set(now + task.plan.timeout_s, "timeout", task.index, task.attempt)
        if task.plan.deadline_s is not None:
            self._timers.set(now + task.plan.deadline_s, "deadline", task.index, task.attempt)
        for node in task.node_of_rank:
            self.nodes[node].live.add(task.index)
        if Leases.concern(task.plan):
            self._send_leases(self._leases.begin(task))
            self._give_up_leases(
                {node for node in self._leases.nodes_lacking(task) if self.nodes[node].is_gone}, now
            )
        if task.is_unsent and not self._leases.is_waiting(task):
            self._spawn(task, now)

    def _spawn(self, task: Task, now: float) -> None:
        """Orders the processes of an attempt for which everything is known."""
        try:
            task.fill_in(self._late, self._leases.own_of(task))
        except ExpressionError as error:
            self._stop_task(task, End(TaskState.FAILED, Reason("expression", error.text)), now)
            return
        specs = task.rank_specs(self.plan, self._stream_logs)
        task.readiness = Readiness.of(specs, ranks_needed(task.plan.probes, task.plan.world_size))
        for node, spec in specs:
            self._spawns.setdefault(node, []).append(spec)

    # ------------------------------------------------------------------ ports

    def _send_leases(self, orders: Orders) -> None:
        """To agents that are there; the others are told when they come."""
        self._out += [
            SendToAgent(node=node, message=order) for node, order in orders if self.nodes[node].is_up
        ]

    def _on_leased(self, node: int, message: Leased, now: float) -> None:
        for task in self._leases.leased(node, message):
            if not task.is_unsent:
                continue  # ended because of another one here
            if self._is_ending_for(task):
                self._stop_task(task, self._run_end(task), now)
            elif message.problem:
                text = f"no ports for {message.task} on node {self._node_names[node]}: {message.problem}"
                self._stop_task(task, End(TaskState.FAILED, Reason("ports", text), may_retry=True), now)
            else:
                self._spawn(task, now)

    def _give_up_leases(self, gone: set[int], now: float) -> None:
        """Attempts that wait for ports of nodes that are lost."""
        for task in self._leases.waiting_for(gone) if gone else ():
            if task.is_unsent:  # not ended by the end of another of them
                reason = Reason("node_lost", "a node whose ports it needs is lost")
                self._stop_task(task, End(TaskState.LOST, reason, may_retry=True), now)

    def _warn_if_stuck(self) -> None:
        """Only ready services run, and somebody waits for what they hold: people should know, once."""
        first = self._queue.first_blocked()
        if first is None or self._stuck_at == (first, self._live_count):
            return
        self._stuck_at = (first, self._live_count)
        task = self.tasks[first]
        self._out.append(Warn(text=waiting.finds_no_room(task, self.tasks)))

    def _cannot_start(self, task: Task, state: TaskState, reason: Reason, now: float) -> None:
        self._change(task, state, reason)
        cause = FirstCause(
            text=f"task {task.plan.name} cannot start: {reason.text}", task=task.plan.name, reason=reason
        )
        self._task_failed(task, End(state, reason), cause, now)

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

    # ------------------------------------------------------------------ stopping

    def _leave_grace_s(self) -> float:
        return 0.0 if self._is_forced else DEFAULT_GRACE_S

    def _stop_task(self, task: Task, end: End, now: float) -> None:
        """Ends a live attempt; it is judged as `end` when its tree is gone."""
        if task.is_unsent:  # nobody has anything of it
            self._leases.withdraw(task)
            task.never_sent()
            self._conclude(task, end, now)
            return
        task.end = end
        if task.state in LIVE and task.state is not TaskState.STOPPING:
            self._change(task, TaskState.STOPPING, end.reason)
        self._send_stop(task)
        self._expect_its_end(task, now)

    def _send_stop(self, task: Task) -> None:
        task.is_stop_sent = True
        assert task.taken is not None
        grace_s = 0.0 if self._is_forced else task.plan.stopping.grace_s
        order = Stop(
            attempt=task.attempt_id, grace_s=grace_s, is_forced=self._is_forced, is_hang=task.has_hung
        )
        for node in task.nodes_left:
            if self.nodes[node].is_up:
                self._out.append(SendToAgent(node=node, message=order))

    def _expect_its_end(self, task: Task, now: float) -> None:
        limit_s = 0.0 if self._is_forced else task.stop_limit_s
        self._timers.set(now + limit_s + STOP_OVERDUE_S, "overdue", task.index, task.attempt)

    def _on_stop_requested(self, signal: str, force: bool, now: float) -> None:
        if self.outcome is None:
            self._begin_stop(*attempts.stopped_by(signal), now)
        if force:
            self._force(Reason("interrupted", f"stopped by {signal}"), now)

    def _force(self, reason: Reason, now: float) -> None:
        """What is left is killed now, and nothing runs at the end any more."""
        if self._is_forced:
            return
        self._is_forced = True
        self._end_finals((EVERYBODY,), reason)
        self._stop_order.begin(self.tasks, EVERYBODY.includes)
        for index in self._stop_order.force(self.tasks):
            self._stop_in_wave(self.tasks[index], now)

    def _begin_stop(self, outcome: Outcome, cause: FirstCause | None, now: float) -> None:
        """The run ends: nothing new starts, what lives is stopped in reverse dependency order."""
        self.outcome, self.cause = outcome, cause
        self._cancel_what_waits(attempts.never_started(outcome))
        for task in self._leases.all_waiting():
            self._stop_task(task, self._run_end(task), now)
        unsent = [spec.rank for specs in self._spawns.values() for spec in specs]
        self._spawns.clear()
        for rank in unsent:  # decided in this very step, and never told to an agent
            task = self.task_named(rank.attempt.task)
            task.open_ranks.discard(rank.rank)
            task.uncleared.discard(rank.rank)
            if not task.uncleared:
                self._conclude(task, self._run_end(task), now)
        self._ending = ending_steps(self.tasks)
        if not self._has_started:
            self._end_finals(tuple(self._ending), Reason("interrupted", "nothing had started"))
        limits = [] if self.plan.stop_timeout_s is None else [now + self.plan.stop_timeout_s]
        limits += [] if self._gone_at is None else [self._gone_at - FORCE_MARGIN_S]
        if limits:
            self._timers.set(min(limits), "stop")
        self._begin_step(now)

    def _run_end(self, task: Task) -> End:
        return attempts.run_end(task, self.outcome, self.cause, self._is_done)

    def _end_finals(self, steps: tuple[Step, ...], reason: Reason) -> None:
        """What was to run at the end, and has not started, does not; `steps` are what is left of the end."""
        for task in self.tasks:
            if task.plan.finally_when is not None and task.state in (TaskState.WAITING, TaskState.QUEUED):
                self._change(task, TaskState.CANCELLED, reason)
        self._ending = [step for step in steps if isinstance(step, StopStep)]

    def _begin_step(self, now: float) -> None:
        """The next step of the end begins, if there is one."""
        if not self._ending:
            return
        step = self._ending[0]
        if isinstance(step, StopStep):
            self._stop_order.begin(self.tasks, step.includes)
            return
        limit = now + step.limit_s(self.tasks)
        if self._gone_at is not None:
            limit = min(limit, self._gone_at - GONE_MARGIN_S)
        self._timers.set(limit, "finals", -1, len(self._ending))
        facts = attempts.run_facts(self.outcome, self.cause)
        for index in step.tasks:
            task = self.tasks[index]
            task.run_env = facts
            task.unmet -= 1
            if task.unmet == 0 and task.state is TaskState.WAITING:
                self._enqueue(task)

    def _go_on_ending(self, now: float) -> None:
        """Takes the steps of the end as far as they go now."""
        while self._ending:
            step = self._ending[0]
            if isinstance(step, FinalStep):
                self._skip_the_hopeless()
                self._start_queued(now)
                if not step.is_over(self.tasks):
                    return
            else:
                for index in self._stop_order.next_wave(self.tasks):
                    self._stop_in_wave(self.tasks[index], now)
                if not self._stop_order.is_over:
                    return
            self._ending.pop(0)
            self._begin_step(now)

    def _stop_in_wave(self, task: Task, now: float) -> None:
        if task.state is TaskState.STOPPING:
            self._send_stop(task)  # its end is decided already; only the grace may be shorter
            if self._is_forced:
                self._expect_its_end(task, now)
            return
        self._stop_task(task, self._run_end(task), now)

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
            elif timer.kind == "finals":
                if timer.attempt == len(self._ending):
                    self._end_finals((EVERYBODY,), Reason("time_limit", "there was no time left for it"))
                    self._begin_step(now)
            elif timer.kind == "stop":
                self._on_stop_timeout(now)
            elif timer.kind == "leave":
                for node in sorted(self._leaving or ()):
                    self._on_agent_lost(node, "it did not leave in time", now)
            elif self.tasks[timer.task].attempt == timer.attempt:
                self._on_task_time(self.tasks[timer.task], timer.kind, now)

    def _on_stop_timeout(self, now: float) -> None:
        """The run takes too long to end."""
        late = waiting.stops_late(self.tasks)
        if self._is_forced or self._leaving is not None or not (late or self._ending):
            return
        limit_s = self.plan.stop_timeout_s
        is_own = limit_s is not None and (self._gone_at is None or now < self._gone_at - FORCE_MARGIN_S)
        what = f"stop_timeout of {limit_s:g} s" if is_own else "time that the Slurm job has left"
        text = f"the run did not end within its {what}"
        self._out.append(Warn(text=f"{text}; killed: {late}" if late else text))
        self._force(Reason("time_limit", text), now)

    def _on_task_time(self, task: Task, kind: TimerKind, now: float) -> None:
        match kind:
            case "retry" if task.state is TaskState.WAITING:
                task.is_delayed = False
                self._working_count -= 1
                if task.unmet == 0:
                    self._enqueue(task)
            case "timeout" | "deadline" if task.state in (TaskState.STARTING, TaskState.RUNNING):
                self._stop_task(task, waiting.too_late(task, kind, self._node_names), now)
            case "timeout" if task.state is TaskState.READY and not task.plan.is_service:
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
            self._skip_the_hopeless()
            if not self._is_draining:
                self._start_queued(now)
            if self._working_count == 0 and self._live_count:
                self._warn_if_stuck()
            if self._has_started and self.plan.timeout_s is not None and not self._is_time_armed:
                self._is_time_armed = True
                self._timers.set(now + self.plan.timeout_s, "workflow", -1, 0)
            if self.outcome is None and self._is_over():
                self._is_done = True
                failure = self._failure or self._main_that_did_not_run()
                self._begin_stop(Outcome.FAILED if failure else Outcome.COMPLETED, failure, now)
        self._send_spawns()
        if self.outcome is not None:
            self._go_on_ending(now)
            self._send_spawns()
            if self._live_count == 0 and self._leaving is None and not self._ending:
                self._leave(now)
            if self._leaving is not None and not self._leaving:
                self.is_finished = True
                self._timers.clear()
                self._out.append(
                    FinishRun(outcome=self.outcome, cause=self.cause, survivors=tuple(self.survivors))
                )

    def _main_that_did_not_run(self) -> FirstCause | None:
        """A run whose purpose was skipped is no success, whatever was tolerated on the way."""
        for task in self.tasks:
            if task.plan.is_main and task.state in (TaskState.SKIPPED, TaskState.CANCELLED):
                assert task.last_reason is not None
                text = f"main task {task.plan.name} did not run: {task.last_reason.text}"
                return FirstCause(text=text, task=task.plan.name, reason=task.last_reason)
        return None

    def _send_spawns(self) -> None:
        for node, specs in self._spawns.items():
            self._out.append(SendToAgent(node=node, message=Spawn(ranks=tuple(specs))))
        self._spawns.clear()

    def _leave(self, now: float) -> None:
        self._leaving = {index for index, node in enumerate(self.nodes) if node.is_up}
        for node in sorted(self._leaving):
            self._out.append(SendToAgent(node=node, message=Leave(grace_s=self._leave_grace_s())))
        self._timers.set(now + LEAVE_OVERDUE_S, "leave", -1, 0)

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


def _may_be_anywhere(placement: Placement) -> bool:
    return placement.is_flexible and not placement.gpus_per_node
