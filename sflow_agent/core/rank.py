"""One rank from its order until none of its processes is left: its phase, process, exit, stop and probes.

Methods take events of the rank and return commands. The state of all ranks of a node (which are known, what
the controller has acknowledged, the agent's own end) is in `agent`.
"""

from enum import StrEnum

import msgspec
from msgspec import Struct, field

from protocol.ids import ProbeKey, ProbeKind, RankId
from protocol.messages.facts import (
    ActivityKind,
    ExitCause,
    LiveRank,
    ProbeTriggered,
    ProbeWaiting,
    RankCleared,
    RankExited,
    RankIdle,
    RankStarted,
    SideCommandEnded,
)
from protocol.messages.orders import Stop
from protocol.messages.rank_spec import RankSpec
from sflow_agent.core.commands import (
    AgentCommand,
    DiagnoseExit,
    LookForListeners,
    LookOnce,
    Report,
    UnwatchActivity,
    UnwatchCheck,
    WatchActivity,
    WatchCheck,
)
from sflow_agent.core.events import CheckObserved, CommandEnded, IdleChanged, ProcessExited, ProcessStarted
from sflow_agent.core.exit_cause import disk_full, lost_processes, status_of
from sflow_agent.core.probes import ListenerLooks, ProbeState
from sflow_agent.core.stop_sequence import StopSequence

DIAGNOSE_WITHIN_S = 10.0
"""An exit is reported without its cause when that takes longer to find out: a file system may hang."""
LAST_LOOK_MARGIN_S = 5.0
"""Beyond the timeout of a check: a log is read by the loop, and a file system may hang."""


class RankPhase(StrEnum):  # of text: its hash, for each step of each rank, is not computed by Python code
    """The phase of a rank. The reason and the progress of its stop are in its `StopSequence`."""

    STARTING = "starting"
    """Its process is being made."""
    RUNNING = "running"
    """Its main process runs."""
    STOPPING = "stopping"
    """Its main process runs and must end."""
    LOOKING = "looking"
    """Its main process has ended well before it was ready; its readiness is looked at a last time."""
    DIAGNOSING = "diagnosing"
    """Its main process has ended; the exit is withheld until its cause is known. Its tree may be ending meanwhile."""
    CLEARING = "clearing"
    """Its exit is reported; its remaining processes are being ended."""
    GONE = "gone"
    """None of its processes is left, or those that are left were reported."""


NEXT_PHASES: dict[RankPhase, frozenset[RankPhase]] = {
    RankPhase.STARTING: frozenset({RankPhase.RUNNING, RankPhase.STOPPING}),
    RankPhase.RUNNING: frozenset(
        {RankPhase.STOPPING, RankPhase.LOOKING, RankPhase.DIAGNOSING, RankPhase.CLEARING}
    ),
    RankPhase.LOOKING: frozenset({RankPhase.DIAGNOSING, RankPhase.CLEARING}),
    RankPhase.STOPPING: frozenset({RankPhase.CLEARING, RankPhase.GONE}),
    RankPhase.DIAGNOSING: frozenset({RankPhase.CLEARING}),
    RankPhase.CLEARING: frozenset({RankPhase.GONE}),
    RankPhase.GONE: frozenset({RankPhase.CLEARING}),
}
"""STOPPING to GONE: its main process could not be ended.

If it ends later, that is reported (GONE to CLEARING).
"""


class Rank(Struct):
    """One process that this agent was ordered to start, and its tree."""

    spec: RankSpec
    phase: RankPhase = RankPhase.STARTING
    pid: int | None = None
    started_at_ns: int = 0
    started_at: float = 0.0
    exit: RankExited | None = None
    lost_output: str = ""
    cleared: RankCleared | None = None
    """The result of ending its tree, while the exit is withheld."""
    stop: StopSequence | None = None
    diagnose_by: float | None = None
    """When the exit is reported without what is being found out about it."""
    has_leftovers: bool = False
    """Its tree is to be ended once its readiness has been looked at a last time."""
    looked_for: set[ProbeKey] = field(default_factory=set)
    """Checks whose last look has no result yet."""
    listeners: ListenerLooks = field(default_factory=ListenerLooks)
    probes: dict[ProbeKind, ProbeState] = field(default_factory=dict)
    idle: set[ActivityKind] = field(default_factory=set)

    @property
    def id(self) -> RankId:
        """The rank's id."""
        return self.spec.rank

    @property
    def is_live(self) -> bool:
        """Return whether it has a main process, as far as the controller must know."""
        return self.pid is not None and self.phase in (
            RankPhase.RUNNING,
            RankPhase.STOPPING,
            RankPhase.LOOKING,
            RankPhase.DIAGNOSING,
        )

    @property
    def is_gone(self) -> bool:
        """Return whether none of its processes is left, or those that are left were reported."""
        return self.phase is RankPhase.GONE

    def live(self) -> LiveRank:
        """Return what a hello says of a live rank."""
        assert self.pid is not None
        return LiveRank(self.id, self.pid, self.started_at_ns)

    def next_wakeup(self) -> float | None:
        """Return when `wake` is due, or None."""
        if self.diagnose_by is None and self.stop is None and not self.probes:
            return None if self.exit is not None else self.listeners.due
        times = [self.diagnose_by, None if self.stop is None else self.stop.due]
        if self.exit is None:
            times += [self.listeners.due, *(state.next_check for state in self.probes.values())]
        return min((time for time in times if time is not None), default=None)

    # ------------------------------------------------------------------ its process

    def started(self, event: ProcessStarted, now: float) -> list[AgentCommand]:
        """Report the process and begin its probes."""
        self.pid, self.started_at_ns, self.started_at = event.pid, event.started_at_ns, now
        if event.spec is not None:
            self.spec = event.spec
        if self.phase is RankPhase.STARTING:
            self._enter(RankPhase.RUNNING)
        out: list[AgentCommand] = [
            Report(RankStarted(rank=self.id, pid=event.pid, started_at_ns=event.started_at_ns))
        ]
        for probe in self.spec.probes:
            state = self.probes[probe.kind] = ProbeState.begin(probe, now)
            out.extend(WatchCheck(self.id, key) for key in state.streaks)
        if self.spec.hang is not None:
            out.append(WatchActivity(self.id))
        return out

    def exited(self, event: ProcessExited, memory_kills: int, now: float) -> list[AgentCommand]:
        """Take the exit of the main process; `memory_kills` is how many kills of the kernel may explain it."""
        is_asked = self.stop is not None
        exit_code, number = status_of(event, is_stopped_step=is_asked and self.spec.launch_kind == "step")
        self.exit = RankExited(
            rank=event.rank,
            exit_code=exit_code,
            signal=number,
            runtime_s=now - self.started_at,
            log_bytes=event.log_bytes,
            cleared=not event.has_leftovers or self.is_gone,  # survivors were named when the sequence gave up
            port_conflict=event.port_conflict,
            was_asked=is_asked,
            has_listened=self.listeners.is_seen,
            use=event.use,
        )
        self.has_leftovers, self.lost_output = event.has_leftovers, event.lost_output
        is_good = event.exit_code in self.spec.success_exit_codes
        confirmed = [state for state in self.probes.values() if is_good and state.process_completed()]
        out = [command for state in confirmed for command in self._news_of(state, now)]
        if is_good and memory_kills:
            out.append(Report(lost_processes(event, memory_kills)))
        if is_good and event.lost_output and self.phase is RankPhase.RUNNING:
            # What is judged and collected from its log would be wrong.
            self.exit = msgspec.structs.replace(self.exit, cause=disk_full(event.lost_output))
            return out + self._unwatch() + self._judge_exit(0, now)
        readiness = self.probes.get("readiness")
        is_unready = readiness is not None and not readiness.has_triggered
        if readiness is not None and is_unready and is_good and self.phase is RankPhase.RUNNING:
            return out + self._look_last(readiness, now)
        return out + self._unwatch() + self._judge_exit(0 if is_good else memory_kills, now)

    def _look_last(self, readiness: ProbeState, now: float) -> list[AgentCommand]:
        """Look at the readiness of a rank that has exited well, whatever its interval; its leftovers may be the server."""
        self._enter(RankPhase.LOOKING)
        self.diagnose_by = now + readiness.longest_check_s + LAST_LOOK_MARGIN_S
        self.looked_for = set(readiness.open_keys())
        return [LookOnce(self.id, key) for key in readiness.open_keys()]

    def _judge_exit(self, memory_kills: int, now: float) -> list[AgentCommand]:
        """Report the exit, or have its cause looked for first; end what the main process left behind."""
        assert self.exit is not None
        out: list[AgentCommand] = []
        is_good = self.exit.exit_code in self.spec.success_exit_codes
        is_its_own = self.phase in (RankPhase.RUNNING, RankPhase.LOOKING)
        if is_its_own and self.exit.cause is None and (not is_good or self.spec.success is not None):
            self._enter(RankPhase.DIAGNOSING)
            # `success` must be known before the exit counts, however long that takes; a stop ends the waiting.
            self.diagnose_by = None if is_good else now + DIAGNOSE_WITHIN_S
            out.append(DiagnoseExit(self.id, self.exit.exit_code, self.exit.signal, memory_kills))
        else:
            out += self._report_exit()
        if self.has_leftovers and self.stop is None:
            self.stop = StopSequence(self.spec)
            out += self.stop.signal(self.spec.stopping.grace_s, now)
        return out

    def diagnosed(self, cause: ExitCause | None) -> list[AgentCommand]:
        """Report the exit that was withheld for its cause; a late cause is dropped."""
        if self.phase is not RankPhase.DIAGNOSING or self.exit is None:
            return []
        self.exit = msgspec.structs.replace(self.exit, cause=cause or disk_full(self.lost_output))
        return self._report_exit()

    def tree_gone(self, cleared: RankCleared) -> list[AgentCommand]:
        """Report that no process but survivors is left."""
        if self.is_gone or (self.exit is None and not cleared.survivors):
            return []  # the main process is still to be reaped: its exit will show whether any process is left
        if self.phase is RankPhase.DIAGNOSING:
            self.cleared = cleared
            if self.stop is not None:
                self.stop.cease()
            return []
        self._close()
        return [Report(cleared)]

    # ------------------------------------------------------------------ stopping it

    def stop_politely(self, order: Stop, now: float) -> list[AgentCommand]:
        """End the tree in the task's own way: its commands first, if it has any and its main process runs."""
        if order.is_forced or self.exit is not None or (self.stop is not None and self.stop.is_signalled):
            return self.end(0.0 if order.is_forced else order.grace_s, now)
        if self.stop is not None:
            self.stop.shorten(order.grace_s)
            return []
        out = self._unwatch()
        self._enter(RankPhase.STOPPING)
        self.stop = StopSequence(self.spec)
        return out + self.stop.begin(
            ("hang", "stop") if order.is_hang else ("stop",), order.grace_s, now, has_exited=False
        )

    def end(self, grace_s: float, now: float) -> list[AgentCommand]:
        """Signal the tree at once, and report a withheld exit without waiting for its cause."""
        out: list[AgentCommand] = []
        if self.phase is RankPhase.LOOKING:
            out += self._unwatch()
        if self.phase in (RankPhase.LOOKING, RankPhase.DIAGNOSING):
            out += self._report_exit()
        if self.is_gone:
            return out
        if self.phase in (RankPhase.STARTING, RankPhase.RUNNING):
            out += self._unwatch()
            self._enter(RankPhase.STOPPING)
        if self.stop is None:
            self.stop = StopSequence(self.spec)
        return out + self.stop.signal(grace_s, now)

    def command_ended(self, event: CommandEnded, now: float) -> list[AgentCommand]:
        """Report a command of the rank, and take the next step of its stop."""
        is_killed = self.stop is not None and self.stop.is_killed
        out = [side_command_report(event, "" if is_killed else event.problem)]  # it was ended with the tree
        if self.stop is not None:
            out += self.stop.command_ended(
                event.purpose, not event.problem, now, has_exited=self.exit is not None
            )
        return out

    def wake(self, now: float) -> list[AgentCommand]:
        """Take the steps that are due."""
        out: list[AgentCommand] = []
        if self.stop is not None:
            out += self.stop.advance(now, has_exited=self.exit is not None)
        if self.diagnose_by is not None and self.diagnose_by <= now:
            out += self._end_looking(now) if self.phase is RankPhase.LOOKING else self._report_exit()
        if self.exit is None:
            if self.listeners.take_due(now):
                out.append(LookForListeners(self.id))
            for state in [state for state in self.probes.values() if state.wake(now)]:
                out += self._news_of(state, now)
        return out

    # ------------------------------------------------------------------ probes and activity

    def observe(self, state: ProbeState, event: CheckObserved, now: float) -> list[AgentCommand]:
        """Take a change of a probe's check, or a result."""
        if self.phase is RankPhase.LOOKING:
            return self._looked(state, event, now)
        state.observe(event.key, event.is_true, event.detail, now, event.is_poll)
        return self._news_of(state, now)

    def _looked(self, state: ProbeState, event: CheckObserved, now: float) -> list[AgentCommand]:
        """Take the result of a last look; the exit counts once the probe has triggered, or cannot any more."""
        if event.key not in self.looked_for:
            return []
        self.looked_for.discard(event.key)
        has_triggered = state.look_last(event.key, event.is_true, event.detail)
        news = self._news_of(state, now)
        return [*news, *(self._end_looking(now) if has_triggered or not self.looked_for else ())]

    def _end_looking(self, now: float) -> list[AgentCommand]:
        """Let the exit be judged, after what the readiness probe still misses."""
        out: list[AgentCommand] = []
        if not (state := self.probes["readiness"]).has_triggered:
            waiting = ProbeWaiting(attempt=self.id.attempt, kind="readiness", detail=state.missing())
            out.append(Report(waiting))
        return out + self._unwatch() + self._judge_exit(0, now)

    def open_probe(self, kind: ProbeKind) -> ProbeState | None:
        """Return the state of a probe that may still trigger."""
        state = self.probes.get(kind)
        if state is None or state.has_triggered:
            return None
        is_over = self.exit is not None and not (self.phase is RankPhase.LOOKING and kind == "readiness")
        return None if is_over else state

    def listens(self) -> list[AgentCommand]:
        """Take in that a process of the rank listens on a port."""
        self.listeners.seen()
        return []

    def triggered(self) -> list[ProbeTriggered]:
        """Return its probes that have triggered, of lists of readiness probes each."""
        return [part.fact(self.id) for state in self.probes.values() for part in state.triggered_parts()]

    def idle_changed(self, event: IdleChanged) -> list[AgentCommand]:
        """Report that a running rank shows no activity, or some again."""
        if self.phase is not RankPhase.RUNNING:
            return []
        (self.idle.add if event.is_quiet else self.idle.discard)(event.kind)
        return [Report(RankIdle(rank=self.id, kind=event.kind, is_quiet=event.is_quiet))]

    def _news_of(self, state: ProbeState, now: float) -> list[AgentCommand]:
        """Report the probes that have just triggered, and stop their checks."""
        news = state.take_news()
        if news and state.has_triggered and state.probe.kind == "readiness" and self.exit is None:
            self.listeners.begin(self.spec.probes, now)
        over = state.parts if news and state.has_triggered and state.probe.kind == "failure" else news
        reports: list[AgentCommand] = [Report(part.fact(self.id)) for part in news]
        return reports + [UnwatchCheck(self.id, key) for part in over for key in part.streaks]

    def _unwatch(self) -> list[AgentCommand]:
        """Stop the probes of an ending rank; triggered probes stay triggered."""
        if self.phase in (RankPhase.STOPPING, RankPhase.GONE):
            return []  # done when the stop began
        out: list[AgentCommand] = [UnwatchActivity(self.id)] if self.spec.hang is not None else []
        for state in self.probes.values():
            if not state.has_triggered:
                out.extend(UnwatchCheck(self.id, key) for key in state.streaks)
        self.probes = {kind: state for kind, state in self.probes.items() if state.has_triggered}
        return out

    # ------------------------------------------------------------------ phases

    def _report_exit(self) -> list[AgentCommand]:
        """Report the exit, and the result of ending the tree while it was withheld."""
        assert self.exit is not None
        self._enter(RankPhase.CLEARING)
        self.diagnose_by = None
        out: list[AgentCommand] = [Report(self.exit)]
        if self.cleared is not None:
            out.append(Report(self.cleared))
        if self.exit.cleared or self.cleared is not None:
            self._close()
        return out

    def _close(self) -> None:
        self._enter(RankPhase.GONE)
        if self.stop is not None:
            self.stop.cease()

    def _enter(self, phase: RankPhase) -> None:
        assert phase in NEXT_PHASES[self.phase], f"{self.id}: {self.phase.value} to {phase.value}"
        self.phase = phase


def side_command_report(event: CommandEnded, problem: str) -> AgentCommand:
    """Return the report of a command beside a rank that has ended."""
    return Report(
        SideCommandEnded(rank=event.rank, purpose=event.purpose, output=event.output, problem=problem)
    )


def quiet_facts(record: Rank) -> list[RankIdle]:
    """Return the kinds of activity that a live rank shows none of."""
    kinds = sorted(record.idle) if record.exit is None else []
    return [RankIdle(rank=record.id, kind=kind, is_quiet=True) for kind in kinds]
