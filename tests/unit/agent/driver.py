"""An agent's core whose commands are all checked: the one harness of its tests, and of the simulated fleet.

Tests compare the commands of an event as a whole. What is checked here holds for each command of each of them.
"""

import errno
from collections.abc import Sequence
from typing import assert_never

from protocol.ids import AttemptId, RankId
from protocol.messages.checks import Probe
from protocol.messages.facts import FromAgent, LaunchFailed, RankCleared, RankExited, RankStarted
from protocol.messages.orders import FindOutputs, Spawn, Stop
from protocol.messages.rank_spec import HangPolicy, RankSpec, Stopping
from sflow_agent.core.agent import AgentCore
from sflow_agent.core.commands import (
    AdoptStep,
    AgentCommand,
    BeginUpload,
    DiagnoseExit,
    DropPorts,
    EndCommand,
    EndUpload,
    Exit,
    FinishLogs,
    ForgetRank,
    GiveUpTree,
    HandOver,
    InspectNode,
    LearnMonitors,
    LearnSecrets,
    LearnSignatures,
    LearnTelemetry,
    LookForListeners,
    LookOnce,
    NoteStored,
    NoteTaken,
    Report,
    RunCommand,
    SearchCheckpoint,
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
from sflow_agent.core.events import AgentEvent, Ordered, ProcessesReaped, ProcessExited, ProcessStarted

A, B, C, D = (RankId(AttemptId(name, 1), 0) for name in "abcd")


class CheckedCore(AgentCore):
    """An agent's core that fails on a command that nothing justifies."""

    def __init__(self, *, is_in_job: bool = False) -> None:
        super().__init__(is_in_job=is_in_job)
        self._adopted: set[RankId] = set()
        self._ordered: set[RankId] = set()
        self._forgotten: set[RankId] = set()
        self._once: set[tuple[type[FromAgent], RankId]] = set()
        self._leased: set[str] = set()
        self._begun: set[AttemptId] = set()
        self._has_left = False

    def handle(self, event: AgentEvent, now: float) -> list[AgentCommand]:
        """Take in one event; return its commands, checked in order."""
        commands = super().handle(event, now)
        for command in commands:
            self._check(command)
        return commands

    def _check(self, command: AgentCommand) -> None:
        assert not self._has_left, f"after the agent has left: {command}"
        match command:
            case StartProcess(spec=spec):
                assert spec.rank not in self._ordered, f"{spec.rank} is started twice"
                self._ordered.add(spec.rank)
            case (
                DiagnoseExit(rank=rank)
                | LookForListeners(rank=rank)
                | LookOnce(rank=rank)
                | RunCommand(rank=rank)
                | EndCommand(rank=rank)
                | WatchActivity(rank=rank)
                | UnwatchActivity(rank=rank)
                | WatchCheck(rank=rank)
                | UnwatchCheck(rank=rank)
            ):
                assert rank in self._ordered, f"{rank} was never started: {command}"
                assert rank not in self._forgotten, f"{rank} is forgotten: {command}"
            case SignalTree(rank=rank) | GiveUpTree(rank=rank):
                assert rank in self._ordered | self._adopted, f"{rank} has no processes here: {command}"
                assert rank not in self._forgotten, f"{rank} is forgotten: {command}"
            case AdoptStep(part=part):
                assert part not in self._ordered, f"{part} is a rank: {command}"
                self._adopted.add(part)
            case ForgetRank(rank=rank):
                assert rank in self._ordered, f"{rank} was never started: {command}"
                assert rank not in self._forgotten, f"{rank} is forgotten twice"
                self._forgotten.add(rank)
            case Report(message=message):
                self._check_fact(message)
            case TakePorts(order=order):
                self._leased.add(order.task)
            case TakeBackPorts(task=task):
                assert task in self._leased, f"{task} has no ports here"
            case DropPorts(task=task):
                self._leased.discard(task)
            case WatchLog(rank=rank):
                assert rank in self._ordered, f"{rank} has no log here"
            case BeginUpload(order=upload):
                assert upload.attempt not in self._begun, f"{upload.attempt} is uploaded twice"
                self._begun.add(upload.attempt)
            case EndUpload(attempt=attempt):
                assert attempt in self._begun, f"{attempt} uploads nothing"
            case SearchCheckpoint(order=search):
                assert not any(rank.attempt == search.attempt for rank in self._ordered), (
                    f"{search.attempt} has begun"
                )
            case HandOver(order=asked):
                has_begun = any(rank.attempt == asked.attempt for rank in self._ordered)
                assert isinstance(asked, FindOutputs) or not has_begun, f"{asked.attempt} has begun"
            case Exit():
                assert not self._open, f"the agent leaves while it has {self._open}"
                self._has_left = True
            case UnwatchLog() | LearnSignatures() | LearnSecrets() | FinishLogs() | InspectNode():
                pass
            case LearnMonitors() | NoteStored() | LearnTelemetry() | NoteTaken():
                pass
            case _:
                assert_never(command)

    def _check_fact(self, message: FromAgent) -> None:
        match message:
            case (
                RankStarted(rank=rank)
                | RankExited(rank=rank)
                | RankCleared(rank=rank)
                | LaunchFailed(rank=rank)
            ):
                is_part = rank in self._adopted and isinstance(
                    message, RankCleared
                )  # told as often as ordered
                is_withdrawn = isinstance(message, LaunchFailed) and message.errno == errno.EINTR
                assert is_part or is_withdrawn or rank in self._ordered, (
                    f"{rank} was never ordered: {message}"
                )
                assert is_part or (type(message), rank) not in self._once, f"reported twice: {message}"
                self._once.add((type(message), rank))
            case _:
                pass


def a_spec(
    rank: RankId = A,
    *probes: Probe,
    stopping: Stopping = Stopping(),  # noqa: B008 - immutable
    hang: HangPolicy | None = None,
) -> RankSpec:
    """An order to start a rank."""
    log = f"{rank.attempt.task}/{rank.attempt.task}.log"
    return RankSpec(rank=rank, argv=("true",), env={}, log=log, probes=probes, stopping=stopping, hang=hang)


def running(*specs: RankSpec, now: float = 0.0, memory_kills: int = 0) -> CheckedCore:
    """Return a core whose ranks have started, one after the other; one rank without anything if none is given."""
    core = CheckedCore()
    for one in specs or (a_spec(),):
        core.handle(Ordered(Spawn(ranks=(one,))), now)
        core.handle(ProcessStarted(one.rank, 100, 7, memory_kills=memory_kills), now)
    return core


def reaped(rank: RankId = A, code: int | None = 0, *, has_leftovers: bool = False) -> ProcessesReaped:
    """The exit of a rank's main process."""
    return ProcessesReaped((ProcessExited(rank, code, None, 10, has_leftovers),))


def stop(grace_s: float, rank: RankId = A, *, is_forced: bool = False, is_hang: bool = False) -> Ordered:
    """An order to stop an attempt."""
    return Ordered(Stop(attempt=rank.attempt, grace_s=grace_s, is_forced=is_forced, is_hang=is_hang))


def reports(commands: Sequence[AgentCommand]) -> list[FromAgent]:
    """Return the facts that are reported."""
    return [command.message for command in commands if isinstance(command, Report)]
