"""The agent's core: all ranks of one node, what the controller knows of them, and the agent's own end.

`handle(event, now) -> commands`; for the loop. Orders are idempotent: a rank is started at most once. `rank` decides for one.
"""

from collections.abc import Callable
from typing import assert_never

from protocol.ids import ProbeKind, RankId
from protocol.messages.facts import (
    AgentSuspended,
    Ending,
    Goodbye,
    LiveRank,
    ProbeTriggered,
    RankCleared,
    RankExited,
    RankIdle,
    Terminated,
)
from protocol.messages.orders import (
    ConfirmLife,
    EndStep,
    Enrolled,
    FileOrder,
    Inspect,
    Lease,
    Leave,
    LogMatched,
    MaskValues,
    MeasuresTaken,
    Refused,
    Reintroduce,
    Release,
    SamplesStored,
    SignalAttempt,
    Spawn,
    Stop,
    ToAgent,
    Unwatch,
    UploadFiles,
    Watch,
    Welcome,
)
from sflow_agent.core.commands import (
    AgentCommand,
    Exit,
    FinishLogs,
    ForgetRank,
    Report,
    StartProcess,
    TakeBackPorts,
    UnwatchLog,
    WatchLog,
    aside,
    learnt,
)
from sflow_agent.core.events import (
    AgentEvent,
    CheckObserved,
    CommandEnded,
    EndRequested,
    ExitDiagnosed,
    FactsAcknowledged,
    FactsSent,
    IdleChanged,
    ListenerSeen,
    LogsDelivered,
    Ordered,
    PortsTaken,
    ProcessesReaped,
    ProcessFailed,
    ProcessStarted,
    RankEvent,
    SuspensionSeen,
    TerminationSeen,
    TreeGone,
    TreeSurvived,
    UploadEnded,
    UploadProgressed,
    WakeUp,
)
from sflow_agent.core.exit_cause import launch_failed, withdrawn
from sflow_agent.core.memory_kills import MemoryKills
from sflow_agent.core.port_choice import LeasingTasks
from sflow_agent.core.probes import ProbeNews, ProbeState
from sflow_agent.core.rank import Rank, quiet_facts, side_command_report
from sflow_agent.core.rank_index import OpenRanks, RankTimers
from sflow_agent.core.stop_sequence import StepParts
from sflow_agent.core.uploads import Uploads

ORPHAN_GRACE_S = 2.0
"""An agent without a controller or guardian gives its tasks this long, and does not wait for their commands."""
LOGS_WITHIN_S = 30.0  # for a leaving agent to hand over its logs
EXIT_OK, EXIT_ORPHANED = 0, 3


class AgentCore:
    """The state of one agent. `handle` is the only way to change it."""

    def __init__(self, *, is_in_job: bool = False) -> None:
        """`is_in_job`: processes of job steps may be on this node that other agents have started."""
        self._is_in_job, self._parts, self._exit_status = is_in_job, StepParts(), EXIT_OK
        self.ranks: dict[RankId, Rank] = {}
        """Ranks whose end the controller has not acknowledged."""
        self._known: set[RankId] = set()
        """Every rank ever ordered, so that a repeated order is recognised."""
        self._reported, self._sent = set[RankId](), list[RankId]()
        """Ranks whose exit was reported and is not acknowledged yet; those of them that were gone when that was sent."""
        self._open = OpenRanks()
        """Ranks that are not gone."""
        self._timers, self._news = RankTimers(), ProbeNews(self._open_probe)
        self._leasing, self._uploads, self._memory = LeasingTasks(), Uploads(), MemoryKills()
        self._ending: str | None = None
        self._logs_by: float | None = None
        self._survivors, self._out = list[str](), list[AgentCommand]()

    def handle(self, event: AgentEvent, now: float) -> list[AgentCommand]:
        """Take in one event; return what to do, in order."""
        match event:
            case Ordered(message=message):
                self._on_order(message, now)
            case PortsTaken(leased=leased):
                self._out.append(Report(leased))
            case UploadProgressed() | UploadEnded():
                self._out += self._uploads.take(event)
            case EndRequested(reason=reason, grace_s=grace_s):
                self._begin_end(reason, grace_s, EXIT_ORPHANED, now)
            case TerminationSeen():
                self._on_terminated(now)
            case SuspensionSeen(seconds=seconds):
                self._timers.delay(self._open_ranks(), seconds)
                self._parts.delay(seconds)
                self._out.append(Report(AgentSuspended(seconds=seconds)))
            case FactsSent():
                self._sent = [rank for rank in self._reported if self.ranks[rank].is_gone]
            case FactsAcknowledged():
                self._forget_sent()
            case LogsDelivered():
                self._say_goodbye()
            case WakeUp():
                self._on_wakeup(now)
            case _:
                self._on_rank_event(event, now)
        self._continue_end(now)
        out, self._out = self._out, []
        return out

    def next_wakeup(self) -> float | None:
        """Return when `handle(WakeUp(), ...)` is due, or None."""
        times = (self._timers.next_at(), self._logs_by, self._news.next_wakeup(), self._parts.next_wakeup())
        return min([time for time in times if time is not None], default=None)

    @property
    def ending_because(self) -> str | None:
        """Why the agent is ending, or None while it is not."""
        return self._ending

    # ------------------------------------------------------------------ the complete state, for a hello

    def live(self) -> tuple[LiveRank, ...]:
        """Return the ranks with a main process, and those whose exit is withheld."""
        return tuple(record.live() for record in self._open_ranks() if record.is_live)

    def exited(self) -> tuple[RankExited, ...]:
        """Return the exits that were never acknowledged."""
        exits = (self.ranks[rank].exit for rank in sorted(self._reported))
        return tuple(exit for exit in exits if exit is not None)

    def clearing(self) -> tuple[RankId, ...]:
        """Return the ranks whose exit is reported and whose trees are being ended."""
        ranks = [record.id for record in self._open_ranks() if record.exit and not record.is_live]
        return (*ranks, *self._parts.clearing)

    def triggered(self) -> tuple[ProbeTriggered, ...]:
        """Return the probes of live ranks that have triggered."""
        return tuple(
            fact for record in self._open_ranks() if record.exit is None for fact in record.triggered()
        )

    def quiet(self) -> tuple[RankIdle, ...]:
        """Return the live ranks that show no activity."""
        return tuple(fact for record in self._open_ranks() for fact in quiet_facts(record))

    # ------------------------------------------------------------------ orders

    def _on_order(self, message: ToAgent, now: float) -> None:  # noqa: C901 - one case for each order
        match message:
            case Spawn():
                self._on_spawn(message)
            case Stop():
                self._on_stop(message, now)
            case EndStep():
                self._out += self._parts.end(message, now)
            case SignalAttempt():
                self._out += self._open.signalled(message)
            case Welcome():
                self._on_welcome(message, now)
            case Lease() | Release():
                self._out.append(self._leasing.order(message))
            case UploadFiles():
                self._out += self._uploads.order(message, is_ending=self._ending is not None)
            case Watch() | Unwatch() | LogMatched():
                self._on_log_order(message, now)
            case ConfirmLife() | FileOrder() | Inspect() | MaskValues() | SamplesStored() | MeasuresTaken():
                self._out.append(aside(message))
            case Leave(grace_s=grace_s):
                self._begin_end("the run is over", grace_s, EXIT_OK, now)
            case Refused(reason=reason):
                self._begin_end(f"refused by the controller: {reason}", ORPHAN_GRACE_S, EXIT_ORPHANED, now)
            case Enrolled() | Reintroduce():
                pass  # of the handshake: the link has dialled anew
            case _:
                assert_never(message)

    def _on_spawn(self, order: Spawn) -> None:
        for spec in order.ranks:
            if spec.rank in self._known or self._ending is not None:
                continue
            self._known.add(spec.rank)
            if not order.is_withdrawn:
                self.ranks[spec.rank] = Rank(spec)
                self._open.add(spec.rank)
            self._out.append(Report(withdrawn(spec.rank)) if order.is_withdrawn else StartProcess(spec))

    def _on_stop(self, order: Stop, now: float) -> None:
        self._out += self._uploads.stop(order)
        for rank in self._open.of(order.attempt):
            self._update(self.ranks[rank], self.ranks[rank].stop_politely(order, now))

    def _on_welcome(self, order: Welcome, now: float) -> None:
        self._out += learnt(order)
        for rank in order.kill:
            if rank in self._open:
                self._update(self.ranks[rank], self.ranks[rank].end(0.0, now))

    def _on_log_order(self, order: Watch | Unwatch | LogMatched, now: float) -> None:
        match order:
            case Watch(rank=rank, offset=offset):
                if rank in self.ranks:
                    self._out.append(WatchLog(rank, offset))
            case Unwatch(rank=rank):
                self._out.append(UnwatchLog(rank))
            case LogMatched(rank=rank, key=key, line=line):
                self._on_observed(CheckObserved(rank, key, True, line), now)
            case _:
                assert_never(order)

    # ------------------------------------------------------------------ ranks

    def _on_rank_event(self, event: RankEvent, now: float) -> None:
        match event:
            case ProcessStarted():
                self._on_started(event, now)
            case ProcessFailed():
                self._on_failed(event)
            case ProcessesReaped():
                self._on_reaped(event, now)
            case ExitDiagnosed(rank=rank, cause=cause):
                self._apply(rank, lambda record: record.diagnosed(cause))
            case TreeGone(rank=rank, ended=ended, left=left):
                self._on_cleared(RankCleared(rank=rank, ended=ended, left=left))
            case TreeSurvived(rank=rank, survivors=survivors):
                self._on_cleared(RankCleared(rank=rank, survivors=survivors))
            case CheckObserved():
                self._on_observed(event, now)
            case ListenerSeen(rank=rank):
                self._apply(rank, lambda record: record.listens())
            case CommandEnded():
                self._on_command_ended(event, now)
            case IdleChanged(rank=rank):
                self._apply(rank, lambda record: record.idle_changed(event))
            case _:
                assert_never(event)

    def _on_started(self, event: ProcessStarted, now: float) -> None:
        record = self.ranks[event.rank]
        self._memory.started(event.rank, event.memory_kills)
        self._update(record, record.started(event, now))
        for state in record.probes.values():
            self._news.began(event.rank, state, now)

    def _on_failed(self, event: ProcessFailed) -> None:
        self._open.discard(event.rank)
        self._timers.set(event.rank, None)
        del self.ranks[event.rank]
        self._out.append(Report(launch_failed(event)))
        self._take_back_ports(event.rank)

    def _on_reaped(self, event: ProcessesReaped, now: float) -> None:
        kills = self._memory.attribute(event.exits, event.memory_kills)
        for end in event.exits:
            record = self.ranks[end.rank]
            self._update(record, record.exited(end, kills.get(end.rank, 0), now))

    def _on_cleared(self, cleared: RankCleared) -> None:
        if (of_part := self._parts.gone(cleared)) is not None:
            self._survivors.extend(cleared.survivors)
            self._out += of_part
            return
        record = self.ranks.get(cleared.rank)
        if record is not None and not record.is_gone:
            self._survivors.extend(cleared.survivors)
            self._update(record, record.tree_gone(cleared))

    def _on_command_ended(self, event: CommandEnded, now: float) -> None:
        record = self.ranks.get(event.rank)
        if record is None:
            self._out.append(side_command_report(event, ""))  # it was ended with the tree
        else:
            self._update(record, record.command_ended(event, now))

    def _on_observed(self, event: CheckObserved, now: float) -> None:
        state = self._open_probe(event.rank, event.key.kind)
        if state is None:
            return
        record = self.ranks[event.rank]
        self._update(record, record.observe(state, event, now))
        if not state.has_triggered:
            self._news.changed(event.rank, state, now)

    def _open_probe(self, rank: RankId, kind: ProbeKind) -> ProbeState | None:
        record = self.ranks.get(rank)
        return None if record is None else record.open_probe(kind)

    def _forget_sent(self) -> None:
        while self._sent:
            del self.ranks[(rank := self._sent.pop())]
            self._reported.discard(rank)

    def _on_wakeup(self, now: float) -> None:
        for rank in self._timers.pop_due(now):
            self._update(self.ranks[rank], self.ranks[rank].wake(now))
        self._out += self._parts.wake(now)
        self._out.extend(Report(fact) for fact in self._news.take_due(now))
        if self._logs_by is not None and self._logs_by <= now:
            self._say_goodbye()

    # ------------------------------------------------------------------ bookkeeping

    def _apply(self, rank: RankId, change: Callable[[Rank], list[AgentCommand]]) -> None:
        """Change a known rank; events of others are late and ignored."""
        record = self.ranks.get(rank)
        if record is not None:
            self._update(record, change(record))

    def _update(self, record: Rank, commands: list[AgentCommand]) -> None:
        """Take the commands of a rank's change, and update the sets of ranks."""
        self._out += commands
        rank = record.id
        self._timers.set(rank, record.next_wakeup())
        if record.exit is not None and not record.is_live:
            self._reported.add(rank)
        if record.is_gone and rank in self._open:
            self._open.discard(rank)
            self._out.append(ForgetRank(rank))
            self._take_back_ports(rank)

    def _take_back_ports(self, rank: RankId) -> None:
        """Hold the ports of a task for its next attempt once its last rank here is gone."""
        task = rank.attempt.task
        if task in self._leasing and not self._open.has_task(task):
            self._out.append(TakeBackPorts(task))

    def _open_ranks(self) -> list[Rank]:
        return [self.ranks[rank] for rank in self._open]

    # ------------------------------------------------------------------ the agent's end

    def _on_terminated(self, now: float) -> None:
        """Leave the end to the controller in a job, which Slurm ends: tasks of the run's end still want to run."""
        if self._is_in_job and self._ending is None:
            self._out.append(Report(Terminated()))
        else:
            self._begin_end("SIGTERM received", ORPHAN_GRACE_S, EXIT_ORPHANED, now)

    def _begin_end(self, reason: str, grace_s: float, status: int, now: float) -> None:
        if self._ending is None:
            self._ending = reason
            self._out += [Report(Ending(reason=reason))] * (status == EXIT_ORPHANED)
        self._exit_status = max(self._exit_status, status)
        for record in self._open_ranks():
            self._update(record, record.end(grace_s, now))
        self._out += self._uploads.stop_all(is_forced=grace_s == 0.0)
        if self._is_in_job and self._logs_by is None:
            self._out += self._parts.end_all(grace_s, now)

    def _continue_end(self, now: float) -> None:
        """Hand over the logs once all ranks are gone."""
        if self._ending is None or self._open or self._parts or self._uploads or self._logs_by is not None:
            return
        self._logs_by = now + (LOGS_WITHIN_S if self._exit_status == EXIT_OK else 0.0)
        self._out.append(FinishLogs())

    def _say_goodbye(self) -> None:
        if self._logs_by is not None:
            self._out += (Report(Goodbye(survivors=tuple(self._survivors))), Exit(self._exit_status))
