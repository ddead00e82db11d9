"""The agent's core: which processes to start, how their trees are ended, what to report.

`handle(event, now) -> commands`. Every order is idempotent: a rank is started at most once, whatever is
repeated. A rank's life: starting, running, then exited, and gone once nothing that it started is left.
"""

from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import assert_never

import msgspec

from protocol.ids import ProbeKind, RankId
from protocol.messages.facts import (
    ActivityKind,
    ExitCause,
    Goodbye,
    LaunchFailed,
    LiveRank,
    ProbeTriggered,
    ProbeWaiting,
    RankCleared,
    RankExited,
    RankIdle,
    RankStarted,
    SideCommandEnded,
    SidePurpose,
)
from protocol.messages.orders import (
    Inspect,
    Lease,
    Leave,
    LogMatched,
    Refused,
    Release,
    Spawn,
    Stop,
    ToAgent,
    Unwatch,
    Watch,
    Welcome,
)
from protocol.messages.rank_spec import RankSpec, SideCommand
from sflow_agent.core.commands import (
    AgentCommand,
    DiagnoseExit,
    DropPorts,
    EndCommand,
    Exit,
    FinishLogs,
    GiveUpTree,
    InspectNode,
    Report,
    RunCommand,
    SignalTree,
    StartProcess,
    TakeBackPorts,
    TakePorts,
    UnwatchActivity,
    UnwatchCheck,
    UnwatchLog,
    WatchActivity,
    WatchCheck,
    WatchLog,
)
from sflow_agent.core.events import (
    AgentEvent,
    CheckObserved,
    CommandEnded,
    EndRequested,
    ExitDiagnosed,
    IdleChanged,
    LogsDelivered,
    Ordered,
    PortsTaken,
    ProcessExited,
    ProcessFailed,
    ProcessStarted,
    TreeGone,
    TreeSurvived,
    WakeUp,
)
from sflow_agent.core.probes import ProbeState

SIGKILL = 9
ONLY_WAIT = 0
"""Instead of a signal."""
VERIFY_S = 5.0
"""After SIGKILL: what is left by then cannot be ended (uninterruptible sleep) and is named."""
CONTAINER_VERIFY_S = 12.0
"""The same for a container, which an engine has to remove; less than what a controller allows an agent."""
ORPHAN_GRACE_S = 2.0
"""An agent without a controller or guardian does not wait longer than this for its tasks, nor for their commands."""
SAY_EVERY_S = 1.0
"""How often what a probe waits for is told at most, and when for the first time: most services are up before."""
EXAMINE_WITHIN_S = 10.0
"""An end is told without its cause when that takes longer to find out: a file system may hang."""
LOGS_WITHIN_S = 30.0
"""How long a leaving agent tries to hand over its logs."""
EXIT_OK, EXIT_ORPHANED = 0, 3


@dataclass(slots=True)
class Rank:
    """One process this agent was ordered to start, and its tree."""

    spec: RankSpec
    pid: int | None = None
    started_at_ns: int = 0
    started_at: float = 0.0
    exit: RankExited | None = None
    purposes: list[SidePurpose] = field(default_factory=list)
    """Of commands that are to be run before the tree is signalled."""
    purpose: SidePurpose | None = None
    """Of the command that runs and is waited for."""
    go_on_at: float | None = None
    """When the next of them, or the signal, is due; set while a command or what it has begun has its time."""
    stop_grace_s: float = 0.0
    """What follows the signal then."""
    kill_at: float | None = None
    """When the tree gets SIGKILL; set while it is being ended politely."""
    give_up_at: float | None = None
    is_killed: bool = False
    """SIGKILL was sent to all of its tree."""
    is_gone: bool = False
    is_examined: bool = True
    """False while the end is being looked into: nothing of it has been told."""
    examine_by: float | None = None
    cleared: RankCleared | None = None
    """What is to be told once the exit has been."""
    probes: dict[ProbeKind, ProbeState] = field(default_factory=dict)
    quiet: set[ActivityKind] = field(default_factory=set)

    @property
    def is_ending(self) -> bool:
        """True once its tree is being ended."""
        return any(time is not None for time in (self.go_on_at, self.kill_at, self.give_up_at))

    def command(self, purpose: SidePurpose) -> SideCommand | None:
        """What the task has for this purpose."""
        if purpose == "stop":
            return self.spec.stopping.command
        return self.spec.hang.command if self.spec.hang is not None else None


class AgentCore:
    """All ranks of one node, and the agent's own end."""

    def __init__(self) -> None:
        self.ranks: dict[RankId, Rank] = {}
        """Ranks whose end the controller has not acknowledged."""
        self._known: set[RankId] = set()
        """Every rank ever ordered: a repeated order is recognised."""
        self._told: set[RankId] = set()
        """Ranks whose exit was reported and not yet acknowledged."""
        self._open: set[RankId] = set()
        """Ranks that are not gone."""
        self._leasing: set[str] = set()
        """Tasks that have ports here."""
        self._timed: set[RankId] = set()
        """Ranks with something to do at a time."""
        self._news: list[tuple[float, RankId, ProbeKind]] = []
        """A heap of when to tell what a rank's probe of a kind waits for."""
        self._ending: str | None = None
        self._exit_status = EXIT_OK
        self._logs_by: float | None = None
        self._survivors: list[str] = []
        self._out: list[AgentCommand] = []

    def handle(self, event: AgentEvent, now: float) -> list[AgentCommand]:
        """Takes in one event; returns what to do, in order."""
        match event:
            case Ordered(message=message):
                self._on_order(message, now)
            case ProcessStarted():
                self._on_started(event, now)
            case ProcessFailed():
                self._on_failed(event)
            case ProcessExited():
                self._on_exited(event, now)
            case PortsTaken(leased=leased):
                self._out.append(Report(leased))
            case ExitDiagnosed(rank=rank, cause=cause):
                self._on_examined(rank, cause)
            case TreeGone(rank=rank, ended=ended):
                self._on_tree_gone(rank, ended, ())
            case TreeSurvived(rank=rank, survivors=survivors):
                self._on_tree_gone(rank, 0, survivors)
            case CheckObserved():
                self._on_condition(event, now)
            case CommandEnded():
                self._on_command_ended(event, now)
            case IdleChanged():
                self._on_quiet(event)
            case EndRequested(reason=reason):
                self._begin_end(reason, ORPHAN_GRACE_S, EXIT_ORPHANED, now)
            case LogsDelivered():
                self._say_goodbye()
            case WakeUp():
                self._on_wakeup(now)
            case _:
                assert_never(event)
        self._go_on_ending(now)
        out, self._out = self._out, []
        return out

    def next_wakeup(self) -> float | None:
        """When `handle(WakeUp(), ...)` is due, or None."""
        times = [time for rank in self._timed for time in self._times(self.ranks[rank])]
        if self._logs_by is not None:
            times.append(self._logs_by)
        while self._news and self._waiting(*self._news[0][1:]) is None:
            heappop(self._news)
        if self._news:
            times.append(self._news[0][0])
        return min(times, default=None)

    # ------------------------------------------------------------------ the whole truth, for a hello

    def live(self) -> tuple[LiveRank, ...]:
        """Ranks with a main process, and those whose exit is not to be told yet."""
        return tuple(
            LiveRank(rank, record.pid, record.started_at_ns)
            for rank, record in self._open_records()
            if record.pid is not None and (record.exit is None or not record.is_examined)
        )

    def exited(self) -> tuple[RankExited, ...]:
        """Ends that were never acknowledged."""
        exits = (self.ranks[rank].exit for rank in sorted(self._told))
        return tuple(exit for exit in exits if exit is not None)

    def clearing(self) -> tuple[RankId, ...]:
        """Ranks that have ended and whose trees are being ended."""
        return tuple(
            rank for rank, record in self._open_records() if record.exit is not None and record.is_examined
        )

    def triggered(self) -> tuple[ProbeTriggered, ...]:
        """Probes of live ranks that have triggered."""
        return tuple(
            ProbeTriggered(attempt=rank.attempt, rank=rank.rank, kind=kind, detail=state.detail)
            for rank, record in self._open_records()
            if record.exit is None
            for kind, state in record.probes.items()
            if state.has_triggered
        )

    def quiet(self) -> tuple[RankIdle, ...]:
        """Live ranks that show no life."""
        return tuple(
            RankIdle(rank=rank, kind=kind, is_quiet=True)
            for rank, record in self._open_records()
            if record.exit is None
            for kind in sorted(record.quiet)
        )

    def forget_told(self) -> None:
        """The controller has acknowledged everything that was reported."""
        for rank in [rank for rank in self._told if self.ranks[rank].is_gone]:
            del self.ranks[rank]
            self._told.discard(rank)

    # ------------------------------------------------------------------ orders

    def _on_order(self, message: ToAgent, now: float) -> None:
        match message:
            case Spawn(ranks=specs):
                for spec in specs:
                    if spec.rank not in self._known and self._ending is None:
                        self._known.add(spec.rank)
                        self.ranks[spec.rank] = Rank(spec)
                        self._open.add(spec.rank)
                        self._out.append(StartProcess(spec))
            case Stop(attempt=attempt):
                for rank, record in self._open_records():
                    if rank.attempt == attempt:
                        self._stop(rank, record, message, now)
            case Welcome(kill=kill):
                for rank in kill:
                    if rank in self._open:
                        self._end_rank(rank, self.ranks[rank], 0.0, now)
            case Lease(task=task):
                self._leasing.add(task)
                self._out.append(TakePorts(message))
            case Release(task=task):
                self._leasing.discard(task)
                self._out.append(DropPorts(task))
            case Watch(rank=rank, offset=offset):
                if rank in self.ranks:
                    self._out.append(WatchLog(rank, offset))
            case Unwatch(rank=rank):
                self._out.append(UnwatchLog(rank))
            case LogMatched(rank=rank, key=key, line=line):
                self._on_condition(CheckObserved(rank, key, True, line), now)
            case Inspect():
                self._out.append(InspectNode(message))
            case Leave(grace_s=grace_s):
                self._begin_end("the run is over", grace_s, EXIT_OK, now)
            case Refused(reason=reason):
                self._begin_end(f"refused by the controller: {reason}", ORPHAN_GRACE_S, EXIT_ORPHANED, now)
            case _:
                assert_never(message)

    # ------------------------------------------------------------------ processes

    def _on_started(self, event: ProcessStarted, now: float) -> None:
        record = self.ranks[event.rank]
        record.pid, record.started_at_ns, record.started_at = event.pid, event.started_at_ns, now
        self._out.append(
            Report(RankStarted(rank=event.rank, pid=event.pid, started_at_ns=event.started_at_ns))
        )
        for probe in record.spec.probes:
            state = record.probes[probe.kind] = ProbeState.begin(probe, now)
            self._out.extend(WatchCheck(event.rank, key) for key in state.streaks)
            state.say_at = now + SAY_EVERY_S
            self._note_news(event.rank, state, now)
        if record.spec.hang is not None:
            self._out.append(WatchActivity(event.rank))

    def _on_failed(self, event: ProcessFailed) -> None:
        self._open.discard(event.rank)
        self._timed.discard(event.rank)
        del self.ranks[event.rank]
        self._out.append(
            Report(
                LaunchFailed(
                    rank=event.rank, errno=event.errno, reason=event.reason, port_conflict=event.port_conflict
                )
            )
        )
        self._take_back_ports(event.rank)

    def _on_exited(self, event: ProcessExited, now: float) -> None:
        record = self.ranks[event.rank]
        record.exit = RankExited(
            rank=event.rank,
            exit_code=event.exit_code,
            signal=event.signal,
            runtime_s=now - record.started_at,
            log_bytes=event.log_bytes,
            cleared=not event.has_leftovers,
            port_conflict=event.port_conflict,
            was_asked=record.is_ending,
        )
        self._drop_watches(event.rank, record)
        is_good = event.exit_code in record.spec.success_exit_codes
        is_worth_a_look = not is_good or record.spec.success is not None
        if is_worth_a_look and not record.is_ending:
            record.is_examined = False
            # Whether it did what it was for must be known, however long that takes; a stop ends the waiting.
            if not is_good:
                record.examine_by = now + EXAMINE_WITHIN_S
                self._timed.add(event.rank)
            self._out.append(DiagnoseExit(event.rank, event.exit_code, event.signal))
        else:
            self._tell_exit(event.rank, record)
        if event.has_leftovers and not record.is_ending:
            self._end_tree(event.rank, record, record.spec.stopping.grace_s, now)

    def _stop(self, rank: RankId, record: Rank, order: Stop, now: float) -> None:
        """Ends the tree in the task's own way: its commands first, if it has any and still runs."""
        is_signalled = record.kill_at is not None or record.give_up_at is not None
        if order.is_forced or record.exit is not None or is_signalled:
            self._end_rank(rank, record, 0.0 if order.is_forced else order.grace_s, now)
        elif record.go_on_at is not None:
            record.stop_grace_s = min(record.stop_grace_s, order.grace_s)
        else:
            record.stop_grace_s = order.grace_s
            record.purposes = ["hang", "stop"] if order.is_hang else ["stop"]
            self._drop_watches(rank, record)
            self._go_on_stopping(rank, record, now)

    def _go_on_stopping(self, rank: RankId, record: Rank, now: float) -> None:
        """The next command, or the signal when there is none."""
        while record.purposes and record.exit is None:
            purpose = record.purposes.pop(0)
            command = record.command(purpose)
            if command is None:
                continue
            if purpose == "stop":
                self._out.append(SignalTree(rank, ONLY_WAIT))
            self._out.append(RunCommand(rank, purpose))
            record.purpose, record.go_on_at = purpose, now + command.timeout_s
            self._timed.add(rank)
            return
        self._end_tree(rank, record, record.stop_grace_s, now)

    def _on_command_ended(self, event: CommandEnded, now: float) -> None:
        record = self.ranks.get(event.rank)
        is_killed = record is None or record.is_killed
        self._out.append(
            Report(
                SideCommandEnded(
                    rank=event.rank,
                    purpose=event.purpose,
                    output=event.output,
                    problem="" if is_killed else event.problem,  # it was ended with the rest
                )
            )
        )
        if record is None or record.purpose != event.purpose:
            return  # the tree is gone, or being ended by other means
        record.purpose = None
        if event.purpose == "hang" or event.problem:
            self._go_on_stopping(event.rank, record, now)
        # Else it has begun the end, and the tree has the rest of the time for it.

    def _command_is_late(self, rank: RankId, record: Rank, now: float) -> None:
        if record.purpose is not None:
            self._out.append(EndCommand(rank, record.purpose))
            record.purpose = None
        self._go_on_stopping(rank, record, now)

    def _on_examined(self, rank: RankId, cause: ExitCause | None) -> None:
        record = self.ranks.get(rank)
        if record is None or record.exit is None or record.is_examined:
            return  # it took too long, and has been told
        record.exit = msgspec.structs.replace(record.exit, cause=cause)
        self._tell_exit(rank, record)

    def _tell_exit(self, rank: RankId, record: Rank) -> None:
        """Reports an exit, and what became of its tree while it was looked into."""
        assert record.exit is not None
        record.is_examined = True
        record.examine_by = None
        self._told.add(rank)
        self._out.append(Report(record.exit))
        if record.exit.cleared:
            self._close(rank, record)
        elif record.cleared is not None:
            self._out.append(Report(record.cleared))
            self._close(rank, record)

    def _end_rank(self, rank: RankId, record: Rank, grace_s: float, now: float) -> None:
        """On somebody's order: nobody waits any more for what its end means."""
        if not record.is_examined:
            self._tell_exit(rank, record)
        if rank in self._open:
            self._end_tree(rank, record, grace_s, now)

    def _end_tree(self, rank: RankId, record: Rank, grace_s: float, now: float) -> None:
        """The signal now and SIGKILL after the grace; repeated with a shorter grace, it only gets shorter."""
        if record.exit is not None and (record.exit.cleared or record.cleared is not None):
            return  # nothing is left to end
        kill_at = now + grace_s
        if record.give_up_at is not None or (record.kill_at is not None and record.kill_at <= kill_at):
            return
        is_first = record.kill_at is None
        record.go_on_at = record.purpose = None
        record.purposes.clear()
        record.kill_at = kill_at
        self._timed.add(rank)
        self._drop_watches(rank, record)
        if grace_s <= 0:
            self._kill_tree(rank, record, now)
        elif is_first:
            self._out.append(SignalTree(rank, record.spec.stopping.signal))

    def _kill_tree(self, rank: RankId, record: Rank, now: float) -> None:
        record.kill_at, record.is_killed = None, True
        record.give_up_at = now + (VERIFY_S if record.spec.container is None else CONTAINER_VERIFY_S)
        self._out.append(SignalTree(rank, SIGKILL))

    def _on_tree_gone(self, rank: RankId, ended: int, survivors: tuple[str, ...]) -> None:
        record = self.ranks.get(rank)
        if record is None or record.is_gone or (record.exit is None and not survivors):
            return  # the main process's exit is still to be reaped: it will say whether anything is left
        self._survivors.extend(survivors)
        cleared = RankCleared(rank=rank, ended=ended, survivors=survivors)
        if not record.is_examined:
            record.cleared = cleared
            record.kill_at = record.give_up_at = None
            return
        self._out.append(Report(cleared))
        self._close(rank, record)

    def _close(self, rank: RankId, record: Rank) -> None:
        record.is_gone = True
        record.go_on_at = record.purpose = record.kill_at = record.give_up_at = None
        self._open.discard(rank)
        self._timed.discard(rank)
        self._take_back_ports(rank)

    def _take_back_ports(self, rank: RankId) -> None:
        """The last one of its task here is gone: what it has of ports is kept for the next attempt."""
        task = rank.attempt.task
        if task in self._leasing and not any(other.attempt.task == task for other in self._open):
            self._out.append(TakeBackPorts(task))

    # ------------------------------------------------------------------ probes

    def _on_condition(self, event: CheckObserved, now: float) -> None:
        record = self.ranks.get(event.rank)
        if record is None:
            return
        state = record.probes.get(event.key.kind)
        if state is None or state.has_triggered or record.exit is not None:
            return
        if state.observe(event.key, event.is_true, event.detail, now, event.is_poll):
            self._trigger(event.rank, state)
        else:
            self._note_news(event.rank, state, now)
        if state.next_check is not None:
            self._timed.add(event.rank)

    def _trigger(self, rank: RankId, state: ProbeState) -> None:
        self._out.append(
            Report(
                ProbeTriggered(
                    attempt=rank.attempt, rank=rank.rank, kind=state.probe.kind, detail=state.detail
                )
            )
        )
        self._out.extend(UnwatchCheck(rank, key) for key in state.streaks)

    def _drop_watches(self, rank: RankId, record: Rank) -> None:
        """Nobody asks any more what a rank that ends may become; what it has become stays true."""
        if record.spec.hang is not None:
            self._out.append(UnwatchActivity(rank))
        for state in record.probes.values():
            if not state.has_triggered:
                self._out.extend(UnwatchCheck(rank, key) for key in state.streaks)
        record.probes = {kind: state for kind, state in record.probes.items() if state.has_triggered}

    def _on_quiet(self, event: IdleChanged) -> None:
        record = self.ranks.get(event.rank)
        if record is None or record.exit is not None or record.is_ending:
            return
        (record.quiet.add if event.is_quiet else record.quiet.discard)(event.kind)
        self._out.append(Report(RankIdle(rank=event.rank, kind=event.kind, is_quiet=event.is_quiet)))

    def _note_news(self, rank: RankId, state: ProbeState, now: float) -> None:
        """What the probe waits for has changed: told soon, and not more often than anybody can read."""
        if state.probe.kind == "readiness" and not state.is_news_due and state.missing() != state.said:
            state.is_news_due = True
            heappush(self._news, (max(now, state.say_at), rank, state.probe.kind))

    def _waiting(self, rank: RankId, kind: ProbeKind) -> ProbeState | None:
        """The state of a probe that is still waited for."""
        record = self.ranks.get(rank)
        state = record.probes.get(kind) if record is not None else None
        return state if state is not None and not state.has_triggered else None

    def _tell_news(self, now: float) -> None:
        while self._news and self._news[0][0] <= now:
            _, rank, kind = heappop(self._news)
            state = self._waiting(rank, kind)
            if state is None:
                continue
            state.is_news_due = False
            missing = state.missing()
            if missing != state.said:
                state.said, state.say_at = missing, now + SAY_EVERY_S
                self._out.append(Report(ProbeWaiting(attempt=rank.attempt, kind=kind, detail=missing)))

    # ------------------------------------------------------------------ time and the end

    def _on_wakeup(self, now: float) -> None:
        for rank in sorted(self._timed):
            record = self.ranks[rank]
            if record.give_up_at is not None and record.give_up_at <= now:
                record.give_up_at = None
                self._timed.discard(rank)
                self._out.append(GiveUpTree(rank))
            elif record.kill_at is not None and record.kill_at <= now:
                self._kill_tree(rank, record, now)
            elif record.go_on_at is not None and record.go_on_at <= now:
                self._command_is_late(rank, record, now)
            if record.examine_by is not None and record.examine_by <= now:
                self._tell_exit(rank, record)
            for state in record.probes.values():
                if record.exit is None and state.wake(now):
                    self._trigger(rank, state)
            if not self._times(record):
                self._timed.discard(rank)
        self._tell_news(now)
        if self._logs_by is not None and self._logs_by <= now:
            self._say_goodbye()

    def _times(self, record: Rank) -> list[float]:
        due = (record.go_on_at, record.kill_at, record.give_up_at, record.examine_by)
        times = [time for time in due if time is not None]
        if record.exit is None:
            times += [state.next_check for state in record.probes.values() if state.next_check is not None]
        return times

    def _begin_end(self, reason: str, grace_s: float, status: int, now: float) -> None:
        if self._ending is None:
            self._ending = reason
        self._exit_status = max(self._exit_status, status)
        for rank, record in self._open_records():
            self._end_rank(rank, record, grace_s, now)

    def _go_on_ending(self, now: float) -> None:
        if self._ending is None or self._open or self._logs_by is not None:
            return
        self._logs_by = now + (LOGS_WITHIN_S if self._exit_status == EXIT_OK else 0.0)
        self._out.append(FinishLogs())

    def _say_goodbye(self) -> None:
        if self._logs_by is None:
            return
        self._out.append(Report(Goodbye(survivors=tuple(self._survivors))))
        self._out.append(Exit(self._exit_status))

    @property
    def ending_because(self) -> str | None:
        """Why the agent is ending, or None while it is not."""
        return self._ending

    def _open_records(self) -> list[tuple[RankId, Rank]]:
        return [(rank, self.ranks[rank]) for rank in sorted(self._open)]
