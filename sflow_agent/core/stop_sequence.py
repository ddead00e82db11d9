"""Stops one rank's process tree: its own commands, then a signal, then SIGKILL, then giving up.

A sequence only moves forward, and a repeated order can only make it faster. It decides; the shell sends the
signals and runs the commands. Used by `Rank`. `StepParts` are processes of job steps whose `srun` another agent has.
"""

from collections.abc import Sequence
from enum import Enum

from msgspec import Struct, field

from protocol.ids import AttemptId, RankId
from protocol.messages.facts import RankCleared, SidePurpose
from protocol.messages.orders import EndStep
from protocol.messages.rank_spec import RankSpec, SideCommand, Stopping
from sflow_agent.core.commands import (
    AdoptStep,
    AgentCommand,
    EndCommand,
    GiveUpTree,
    Report,
    RunCommand,
    SignalTree,
)

SIGKILL = 9
ONLY_WAIT = 0
"""In place of a signal: wait without sending one."""
VERIFY_S = 5.0
"""Seconds after SIGKILL: a process left then cannot be ended (uninterruptible sleep) and is named."""
CONTAINER_VERIFY_S = 12.0
"""The same for a container, which an engine has to remove; less than the controller's limit for an agent."""


class StopStage(Enum):
    """The stage of a sequence. Each step has one deadline, `StopSequence.due`."""

    COMMAND = "command"
    """A command of the task runs, or has ended with success, and the tree has the rest of its timeout to end."""
    SIGNAL = "signal"
    """The tree has received its stop signal and has its grace time."""
    KILL = "kill"
    """The tree has received SIGKILL; processes left at the deadline are named."""
    GIVEN_UP = "given up"


NEXT_STEPS: dict[StopStage, frozenset[StopStage]] = {
    StopStage.COMMAND: frozenset({StopStage.COMMAND, StopStage.SIGNAL, StopStage.KILL}),
    StopStage.SIGNAL: frozenset({StopStage.SIGNAL, StopStage.KILL}),
    StopStage.KILL: frozenset({StopStage.GIVEN_UP}),
    StopStage.GIVEN_UP: frozenset(),
}


class StopSequence(Struct):
    """The stop of one rank. `begin` or `signal` starts it; each method returns the commands of the step it takes."""

    spec: RankSpec
    grace_s: float = 0.0
    """Seconds between the signal and SIGKILL."""
    step: StopStage | None = None
    due: float | None = None
    """When `advance` takes the next step."""
    _purposes: list[SidePurpose] = field(default_factory=list)
    """The purposes of the commands that are still to run before the signal."""
    _running: SidePurpose | None = None
    """The purpose of the running command."""

    def begin(
        self, purposes: Sequence[SidePurpose], grace_s: float, now: float, *, has_exited: bool
    ) -> list[AgentCommand]:
        """Stop the tree in the task's own way: its commands for these purposes first, if it has any."""
        self._purposes, self.grace_s = list(purposes), grace_s
        return self._next_command(now, has_exited)

    def wait(self, patience_s: float, grace_s: float, now: float) -> list[AgentCommand]:
        """Let the tree end by other means before the signal; repeated, the shorter patience counts."""
        if self.step is not None and (
            self.step is not StopStage.COMMAND or (self.due or 0.0) <= now + patience_s
        ):
            return []
        self.grace_s = grace_s
        self._enter(StopStage.COMMAND, now + patience_s)
        return [SignalTree(self.spec.rank, ONLY_WAIT)]

    def shorten(self, grace_s: float) -> None:
        """Lower the grace that follows the running command."""
        self.grace_s = min(self.grace_s, grace_s)

    def signal(self, grace_s: float, now: float) -> list[AgentCommand]:
        """Send the stop signal, or SIGKILL without a grace; repeated, it only brings SIGKILL forward."""
        if self.step in (StopStage.KILL, StopStage.GIVEN_UP):
            return []
        if self.step is StopStage.SIGNAL and self.due is not None and self.due <= now + grace_s:
            return []
        is_first = self.step is not StopStage.SIGNAL
        self._running = None
        self._purposes.clear()
        if grace_s <= 0:
            return self._kill(now)
        self._enter(StopStage.SIGNAL, now + grace_s)
        return [SignalTree(self.spec.rank, self.spec.stopping.signal)] if is_first else []

    def command_ended(
        self, purpose: SidePurpose, is_success: bool, now: float, *, has_exited: bool
    ) -> list[AgentCommand]:
        """Take the next step after a command, unless it was a stop command that has begun the end."""
        if self._running != purpose:
            return []  # the tree is being stopped by other means
        self._running = None
        if purpose == "stop" and is_success:
            return []  # the tree has the rest of the time
        return self._next_command(now, has_exited)

    def advance(self, now: float, *, has_exited: bool) -> list[AgentCommand]:
        """Take the next step if its time has come."""
        if self.due is None or self.due > now:
            return []
        if self.step is StopStage.KILL:
            self._enter(StopStage.GIVEN_UP, None)
            return [GiveUpTree(self.spec.rank)]
        if self.step is StopStage.SIGNAL:
            return self._kill(now)
        late: list[AgentCommand] = []
        if self._running is not None:
            late.append(EndCommand(self.spec.rank, self._running))
            self._running = None
        return late + self._next_command(now, has_exited)

    def delay(self, seconds: float) -> None:
        """Take the next step so much later: the tree may have had no time, either."""
        self.due = None if self.due is None else self.due + seconds

    def cease(self) -> None:
        """Cancel all further steps: the tree is gone."""
        self._running = self.due = None

    @property
    def is_signalled(self) -> bool:
        """Return whether the tree has received a signal."""
        return self.step is not None and self.step is not StopStage.COMMAND

    @property
    def is_killed(self) -> bool:
        """Return whether the whole tree has received SIGKILL."""
        return self.step in (StopStage.KILL, StopStage.GIVEN_UP)

    def _next_command(self, now: float, has_exited: bool) -> list[AgentCommand]:
        """Run the next command, or signal when there is none or no process left for it to stop."""
        while self._purposes and not has_exited:
            purpose = self._purposes.pop(0)
            command = _command(self.spec, purpose)
            if command is None:
                continue
            self._running = purpose
            self._enter(StopStage.COMMAND, now + command.timeout_s)
            run = RunCommand(self.spec.rank, purpose)
            return [SignalTree(self.spec.rank, ONLY_WAIT), run] if purpose == "stop" else [run]
        return self.signal(self.grace_s, now)

    def _kill(self, now: float) -> list[AgentCommand]:
        verify_s = VERIFY_S if self.spec.container is None else CONTAINER_VERIFY_S
        self._enter(StopStage.KILL, now + verify_s)
        return [SignalTree(self.spec.rank, SIGKILL)]

    def _enter(self, step: StopStage, due: float | None) -> None:
        assert self.step is None or step in NEXT_STEPS[self.step], f"{self.spec.rank}: {self.step} to {step}"
        self.step, self.due = step, due


def _command(spec: RankSpec, purpose: SidePurpose) -> SideCommand | None:
    if purpose == "stop":
        return spec.stopping.command
    return spec.hang.command if spec.hang is not None else None


# ---------------------------------------------------------------------- job steps of other agents


ALL_STEPS = RankId(AttemptId("", 0), 0)
"""The part that is all job steps of the run on this node: no task has an empty name."""


class StepParts:
    """What job steps have on this node and is being ended. Each part is reported as cleared once, for each order."""

    def __init__(self) -> None:
        self._sequences: dict[RankId, StopSequence] = {}

    @property
    def clearing(self) -> tuple[RankId, ...]:
        """The parts that are being ended on order."""
        return tuple(part for part in sorted(self._sequences) if part != ALL_STEPS)

    def __bool__(self) -> bool:
        """Return whether any part is being ended."""
        return bool(self._sequences)

    def next_wakeup(self) -> float | None:
        """Return when `wake` is due, or None."""
        if not self._sequences:
            return None
        times = (one.due for one in self._sequences.values())
        return min((time for time in times if time is not None), default=None)

    def end(self, order: EndStep, now: float) -> list[AgentCommand]:
        """End a step's processes here."""
        out = self._begin(order.part, order.mark_of, order.signal)
        sequence = self._sequences[order.part]
        if order.patience_s > 0:
            return out + sequence.wait(order.patience_s, order.grace_s, now)
        return out + sequence.signal(order.grace_s, now)

    def end_all(self, grace_s: float, now: float) -> list[AgentCommand]:
        """End the processes of all steps of the run here: the agent leaves."""
        out = self._begin(ALL_STEPS, None, Stopping().signal)
        for sequence in self._sequences.values():
            out += sequence.signal(min(grace_s, sequence.grace_s or grace_s), now)
        return out

    def delay(self, seconds: float) -> None:
        """Take all next steps so much later."""
        for sequence in self._sequences.values():
            sequence.delay(seconds)

    def gone(self, cleared: RankCleared) -> list[AgentCommand] | None:
        """Report that nothing of a part is left but survivors; None if it is not a part that is being ended."""
        sequence = self._sequences.pop(cleared.rank, None)
        if sequence is None:
            return None
        return [] if cleared.rank == ALL_STEPS else [Report(cleared)]

    def wake(self, now: float) -> list[AgentCommand]:
        """Do what is due."""
        return [
            command
            for sequence in list(self._sequences.values())
            for command in sequence.advance(now, has_exited=True)
        ]

    def _begin(self, part: RankId, mark_of: RankId | None, number: int) -> list[AgentCommand]:
        if part in self._sequences:
            return []
        stopping = Stopping(signal=number)
        self._sequences[part] = StopSequence(RankSpec(rank=part, argv=(), env={}, log="", stopping=stopping))
        return [AdoptStep(part, mark_of)]
