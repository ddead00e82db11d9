"""The interface of the scheduler: `handle(event, now) -> commands`, and queries for people and shells.

It decides nothing itself: `reactor` handles events, `model.run.Run` is the state.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, assert_never

from msgspec.structs import replace

from protocol.ids import RankId
from sflow_ctl.core import reactor
from sflow_ctl.core.actions.dispatch import on_rendered
from sflow_ctl.core.actions.exit_gate import on_log_arrived, on_outputs_collected
from sflow_ctl.core.actions.job_time import is_same_end, on_job_news, watch_job_end
from sflow_ctl.core.actions.reconciliation import (
    agents_followed,
    on_agent_lost,
    on_node_cleared,
    use_spares_for_missing,
)
from sflow_ctl.core.actions.shutdown import last_moment
from sflow_ctl.core.actions.transitions import enqueue_first
from sflow_ctl.core.commands import Command
from sflow_ctl.core.effects import Effects
from sflow_ctl.core.events import (
    AgentJoined,
    AgentLost,
    JobEnding,
    JobEndKnown,
    LogArrived,
    MessageReceived,
    NodeCleared,
    NodeStandsStill,
    OperatorRequest,
    OutputsCollected,
    RecordUnwritable,
    SchedulerEvent,
    StopRequested,
    Suspended,
    TextsRendered,
    WakeUp,
)
from sflow_ctl.core.model.phase import RunPhase
from sflow_ctl.core.model.resources import MAX_RANKS
from sflow_ctl.core.model.run import Run
from sflow_ctl.core.requests import Plans, no_plans
from sflow_ctl.core.states import Transition
from sflow_ctl.plan.deferred import NO_EXPRESSIONS, Evaluator
from sflow_ctl.plan.model import Placement, Plan

if TYPE_CHECKING:
    from sflow_ctl.core.actions.resume import PriorResult
    from sflow_ctl.core.model.task import Task


class IgnoredMessages(NamedTuple):
    """Facts of agents that did not count."""

    stale: int
    """About attempts that were over, or from nodes that were given up."""
    foreign: int
    """About ranks that were not placed on the agent's node."""


class Scheduler:
    """One run. The same events at the same times give the same commands."""

    def __init__(
        self,
        plan: Plan,
        stream_logs: bool = False,
        gone_at: float | None = None,
        fence_s: float = 0.0,
        headroom_s: float = 0.0,
        missing: frozenset[int] = frozenset(),
        earlier: "Mapping[str, PriorResult] | None" = None,
        evaluator: Evaluator = NO_EXPRESSIONS,
        max_unanswered: int = MAX_RANKS,
        plans: Plans = no_plans,
        records: "list[Task] | None" = None,
    ) -> None:
        """Prepare the run of a plan.

        `gone_at` is when the nodes are taken away, in monotonic seconds; the run begins to stop `headroom_s` before
        that. `fence_s` is how long an agent that was given up may still have processes. `missing` are nodes that the
        run begins without, `earlier` what a resumed run has done before. An agent has at most `max_unanswered` orders
        to start ranks that it has not answered. `plans` has those of revisions. With `records` of the tasks, as a checkpoint
        needs them, the scheduler cannot be used before its state is restored.
        """
        if records is None:
            plan = replace(plan, tasks=tuple(plan.tasks))  # copies become tasks of their own
        self.run = Run.of(
            plan,
            evaluator,
            stream_logs=stream_logs,
            gone_at=gone_at,
            headroom_s=headroom_s,
            fence_s=fence_s,
            missing=missing,
            plans=plans,
            records=records,
        )
        self.run.windows.max_ranks = max_unanswered
        self._out = Effects()
        watch_job_end(self.run)
        resumed = _take_over(self.run, self._out, earlier) if earlier else []
        if records is None:
            enqueue_first(self.run)
        self._out.take()  # tasks queued from the start have not changed their state
        for transition in resumed:
            self._out.record(transition)
        use_spares_for_missing(self.run, self._out)
        self.run.changed.clear()

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self.run.plan

    @property
    def is_finished(self) -> bool:
        """True after the last command."""
        return self.run.phase is RunPhase.FINISHED

    def next_wakeup(self) -> float | None:
        """Return when `handle(WakeUp(), ...)` is due, or None."""
        return self.run.timers.next_at()

    def is_known_job_end(self, gone_at: float | None) -> bool:
        """Return whether the scheduler counts on this end of the job's time already."""
        return is_same_end(gone_at, self.run.gone_at)

    @property
    def is_stopping(self) -> bool:
        """True once the run stops: what still starts belongs to its end."""
        return self.run.outcome is not None

    def is_expected(self, node: int) -> bool:
        """Return True for a node whose agent is connected or has not joined yet: its process should live."""
        known = self.run.nodes[node]
        return known.is_up or not known.has_joined

    def may_replace(self, node: int, *, is_here: bool = False) -> bool:
        """Return whether another agent may take the place of a node's, if that is dead: the run has a use for it.

        One of this machine (`is_here`) costs next to nothing, and may run the tasks at the run's end.
        """
        if is_here:
            return self.is_expected(node) and self.run.phase not in (RunPhase.LEAVING, RunPhase.FINISHED)
        return self.run.outcome is None and self.run.nodes[node].is_up and self.run.phase is RunPhase.RUNNING

    def agents_followed(self, node: int, begun: Sequence[float], now: float) -> int:
        """Return how often an agent of a node was followed by another one lately: `reconciliation.agents_followed`."""
        return agents_followed(self.run, node, begun, now)

    def ending_nodes(self) -> list[int]:
        """Return the nodes whose agents have said that they end by themselves, and that were not given up."""
        return [index for index, node in enumerate(self.run.nodes) if node.is_ending and not node.is_gone]

    def awaits_agents(self) -> bool:
        """Return True while an agent has neither joined nor been given up."""
        return any(not node.has_joined and not node.is_gone for node in self.run.nodes)

    def nodes_without_agent(self) -> list[int]:
        """Return the nodes whose agent never joined."""
        return [index for index, node in enumerate(self.run.nodes) if not node.has_joined]

    def last_moment(self) -> float | None:
        """Return when everything after the tasks must be over, in monotonic seconds; None without a limit."""
        return last_moment(self.run)

    def has_lost_nodes(self) -> bool:
        """Return True when a node was given up."""
        return any(node.is_gone for node in self.run.nodes)

    def ignored_messages(self) -> IgnoredMessages:
        """Return how many facts of agents did not count."""
        return IgnoredMessages(self.run.stale_messages, self.run.foreign_messages)

    def is_placed(self, node: int, rank: RankId) -> bool:
        """Return whether a rank, of whichever attempt, was placed on this node: only its agent may speak of it."""
        return self.run.node_of(rank) == node

    def place_of(self, task: str) -> Placement | None:
        """Return where the task's newest attempt runs or ran; None before its first one."""
        index = self.run.index_of.get(task)
        return None if index is None else self.run.tasks[index].attempt.place

    def handle(self, event: SchedulerEvent, now: float) -> list[Command]:
        """Take in one event; return what to do, in order."""
        if self.is_finished:
            return []
        self._take(event, now)
        reactor.settle(self.run, self._out, now)
        return self._out.take()

    def _take(self, event: SchedulerEvent, now: float) -> None:
        run, out = self.run, self._out
        match event:
            case AgentJoined():
                reactor.on_joined(run, out, event, now)
            case MessageReceived(node=node, message=message):
                reactor.on_fact(run, out, node, message, now)
            case AgentLost(node=node, reason=reason, is_cleared=is_cleared):
                on_agent_lost(run, out, node, reason, now, is_cleared=is_cleared)
            case NodeCleared(node=node, survivors=survivors):
                on_node_cleared(run, out, node, survivors, now)
            case StopRequested() | OperatorRequest():
                reactor.on_asked(run, out, event, now)
            case LogArrived() | OutputsCollected() | TextsRendered():
                self._take_outcome(event, now)
            case JobEndKnown() | JobEnding():
                on_job_news(run, out, event, now)
            case RecordUnwritable():
                reactor.on_record_unwritable(run, out, event, now)
            case NodeStandsStill(node=node, is_over=is_over):
                run.nodes[node].is_held_up = not is_over
            case WakeUp() | Suspended():
                self._take_time(event, now)
            case _:
                assert_never(event)

    def _take_outcome(self, event: LogArrived | OutputsCollected | TextsRendered, now: float) -> None:
        match event:
            case LogArrived():
                on_log_arrived(self.run, self._out, event, now)
            case OutputsCollected():
                on_outputs_collected(self.run, self._out, event, now)
            case _:
                on_rendered(self.run, self._out, event, now)

    def _take_time(self, event: WakeUp | Suspended, now: float) -> None:
        if isinstance(event, Suspended):
            self.run.timers.delay(event.seconds, now)
            self.run.shutdown.began_at += event.seconds
            self.run.shutdown.step_began_at += event.seconds
            return
        while (due := self.run.timers.pop_due(now)) is not None:
            reactor.on_timer(self.run, self._out, due[1], due[0], now)


def _take_over(run: Run, out: Effects, earlier: "Mapping[str, PriorResult]") -> list[Transition]:
    from sflow_ctl.core.actions.resume import take_over  # few runs are resumed

    return take_over(run, out, earlier)
