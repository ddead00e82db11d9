"""Carries out the commands of the core, each by the responsible part of the agent. Decides nothing.

Parts that few runs need are imported and made at the first command for them, and join the loop as sources.
"""

import errno
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from protocol.diagnosis.signatures import Signature
from protocol.ids import RankId
from protocol.messages.config import AgentConfig
from protocol.messages.facts import FromAgent, Leased
from protocol.messages.monitor import MonitorOrders
from protocol.messages.node import Inventory
from protocol.messages.orders import Inspect, Lease
from protocol.messages.rank_spec import RankSpec
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
from sflow_agent.core.events import AgentEvent, ListenerSeen, PortsTaken, ProcessFailed
from sflow_agent.core.rank import Rank
from sflow_agent.descriptors import Descriptors
from sflow_agent.logs.follower import LogFollower
from sflow_agent.logs.spool import IndexEntry, SpoolIndex
from sflow_agent.loop import EventSource
from sflow_agent.node.memory_events import MemoryEvents
from sflow_agent.probes.watcher import ProbeWatcher
from sflow_agent.processes.spawn import Spawner, SpawnError
from sflow_agent.processes.table import Processes
from sflow_agent.worker import Workers

if TYPE_CHECKING:
    from sflow_agent.activity_watch import ActivityWatch
    from sflow_agent.exit_diagnosis import ExitDiagnosis
    from sflow_agent.inspection.inspector import Inspector
    from sflow_agent.monitor.monitoring import Monitoring
    from sflow_agent.node.gpu_driver import GpuDriver
    from sflow_agent.port_leases import PortLeases
    from sflow_agent.processes.side_commands import SideCommands
    from sflow_agent.telemetry.telemetry import NodeTelemetry
    from sflow_agent.uploader.runner import UploadRunner

S = TypeVar("S", bound=EventSource)


class Parts(Struct, frozen=True, kw_only=True):
    """The parts of an agent that every run needs, and how it reports."""

    config: AgentConfig
    inventory: Inventory
    spool_index: SpoolIndex | None
    """None where logs are written to the run directory, which the controller shares."""
    ranks: Mapping[RankId, Rank]
    """The core's records, read-only."""
    descriptors: Descriptors
    workers: Workers
    spawner: Spawner
    processes: Processes
    logs: LogFollower
    probes: ProbeWatcher
    memory: MemoryEvents
    report: Callable[[FromAgent], None]
    warn: Callable[[str], None]
    """Warns the user, once for each text."""


class Performer:
    """Performs commands. `add_source` gives the loop another source, `exit` ends it with a status."""

    def __init__(
        self, parts: Parts, add_source: Callable[[EventSource], None], exit: Callable[[int], None]
    ) -> None:
        self._parts = parts
        self._add_source = add_source
        self._exit = exit
        self._signatures: tuple[Signature, ...] = ()
        self._leases: PortLeases | None = None
        self._diagnosis: ExitDiagnosis | None = None
        self._side_commands: SideCommands | None = None
        self._activity: ActivityWatch | None = None
        self._driver: GpuDriver | None = None
        self._inspector: Inspector | None = None
        self._uploads: UploadRunner | None = None
        self._monitoring: Monitoring | None = None
        self._telemetry: NodeTelemetry | None = None
        self._watchers: list[Monitoring | NodeTelemetry] = []
        """What must know when ranks start and end."""

    def perform(self, command: AgentCommand, now: float) -> Sequence[AgentEvent]:
        """Carry out a command; return its immediate events."""
        parts = self._parts
        match command:
            case Report(message=message):
                parts.report(message)
            case StartProcess(spec=spec):
                return [self._start(spec, now)]
            case SignalTree(rank=rank, signal=number, is_once=is_once):
                parts.processes.trees.order(rank, number, is_once)
            case GiveUpTree(rank=rank):
                return parts.processes.trees.give_up(rank)
            case ForgetRank(rank=rank):
                self._forget(rank, now)
            case WatchCheck(rank=rank, key=key):
                parts.probes.watch(parts.ranks[rank].spec, key, now)
            case UnwatchCheck(rank=rank, key=key):
                parts.probes.unwatch(rank, key)
            case WatchLog(rank=rank, offset=offset):
                parts.logs.watch(rank, parts.spawner.log_path(parts.ranks[rank].spec.log), offset)
            case UnwatchLog(rank=rank):
                parts.logs.unwatch(rank)
            case FinishLogs():
                self._finish()
            case Exit(status=status):
                self._exit(status)
            case _:
                return self._perform_rare(command, now)
        return ()

    def _forget(self, rank: RankId, now: float) -> None:
        """Take note that a rank is gone, and its log complete."""
        self._parts.logs.finish(rank)
        for watcher in self._watchers:
            watcher.ended(rank, now)

    def _finish(self) -> None:
        """Hand over the rest of what was measured, and of all logs."""
        for measurer in (self._monitoring, self._telemetry):
            if measurer is not None:
                measurer.finish()
        self._parts.logs.finish_all()

    def _look(self, command: LookOnce | LookForListeners, now: float) -> Sequence[AgentEvent]:
        """Look at something of a rank now; return what was seen at once."""
        probes, spec = self._parts.probes, self._parts.ranks[command.rank].spec
        if isinstance(command, LookOnce):
            return probes.look_once(spec, command.key, now)
        return [ListenerSeen(command.rank)] if probes.has_listener(spec) else ()

    def _perform_rare(self, command: AgentCommand, now: float) -> Sequence[AgentEvent]:
        """Carry out a command of a part that few runs need."""
        match command:
            case AdoptStep(part=part, mark_of=mark_of):
                self._parts.processes.adopt_step(part, mark_of)
            case DiagnoseExit():
                self._diagnose(command)
            case LookOnce() | LookForListeners():
                return self._look(command, now)
            case LearnSecrets(values=values):
                self._parts.processes.mask_output(values)
            case LearnSignatures(signatures=signatures):
                self._signatures = signatures
            case LearnMonitors() | NoteStored():
                self._perform_for_monitors(command)
            case RunCommand(rank=rank, purpose=purpose):
                self._commands().run(self._parts.ranks[rank].spec, purpose)
            case EndCommand(rank=rank, purpose=purpose):
                self._commands().end(rank, purpose)
            case WatchActivity(rank=rank):
                self._activity_watch().watch(self._parts.ranks[rank].spec, now)
            case UnwatchActivity(rank=rank):
                self._activity_watch().unwatch(rank)
            case InspectNode(order=order):
                self._inspect(order, now)
            case _:
                return self._perform_rarest(command, now)
        return ()

    def _perform_rarest(self, command: AgentCommand, now: float) -> Sequence[AgentEvent]:
        """Carry out a command about measurements, leased ports or uploads."""
        match command:
            case LearnTelemetry() | NoteTaken():
                self._perform_for_telemetry(command, now)
            case BeginUpload() | EndUpload():
                self._upload(command)
            case TakePorts(order=order):
                return [PortsTaken(self._take_ports(order))]
            case TakeBackPorts(task=task) if self._leases is not None:
                self._leases.take_back(task)
            case DropPorts(task=task) if self._leases is not None:
                self._leases.drop(task)
            case _:
                pass  # ports of a task that never leased any
        return ()

    # ------------------------------------------------------------------ starting

    def _start(self, spec: RankSpec, now: float) -> AgentEvent:
        parts = self._parts
        path = parts.spawner.log_path(spec.log)
        if spec.earlier_log is not None:
            earlier = parts.spawner.log_path(spec.earlier_log)
            parts.logs.renamed(path, earlier)
            for watcher in self._watchers:
                watcher.renamed(path, earlier)
        try:
            spec = _with_files(spec, path)
        except SpawnError as error:
            return ProcessFailed(spec.rank, error.errno, error.reason)
        if self._leases is not None:
            conflict = self._leases.hand_over(spec.rank.attempt.task, str(spec.rank.attempt))
            if conflict:
                return ProcessFailed(spec.rank, errno.EADDRINUSE, conflict, port_conflict=conflict)
        if parts.spool_index is not None:
            parts.spool_index.note(IndexEntry(spec.rank, spec.log, spec.earlier_log))
        outcome = parts.processes.start(spec)
        if self._watchers and not isinstance(outcome, ProcessFailed):
            for watcher in self._watchers:
                watcher.started(spec, path, now)
        is_spool = parts.spool_index is not None
        is_streamed = spec.stream or is_spool
        if is_streamed and not isinstance(
            outcome, ProcessFailed
        ):  # otherwise it has no log that would ever end
            is_read_again = spec.success is not None or bool(self._watchers)
            parts.logs.stream(spec.rank, path, is_spool, now, spec.log, is_read_again=is_read_again)
        return outcome

    def _take_ports(self, order: Lease) -> Leased:
        if self._leases is None:
            from sflow_agent.port_leases import PortLeases

            self._leases = PortLeases(f"{self._parts.config.run_id} {self._parts.config.node}")
            self._parts.processes.find_port_conflict = self._port_conflict
        leased = self._leases.take(order)
        if self._leases.warning:
            self._parts.warn(self._leases.warning)
        return leased

    def _port_conflict(self, rank: RankId) -> str:
        assert self._leases is not None
        return self._leases.port_conflict(rank.attempt.task, str(rank.attempt))

    # ------------------------------------------------------------------ parts that few runs need

    def _source(self, made: S) -> S:
        self._add_source(made)
        return made

    def _diagnose(self, command: DiagnoseExit) -> None:
        from sflow_agent.exit_diagnosis import EndedRank, ExitDiagnosis

        parts = self._parts
        if self._diagnosis is None:
            self._diagnosis = self._source(
                ExitDiagnosis(
                    parts.workers, parts.config.marker, self._signatures, parts.memory.limit, parts.warn
                )
            )
        record = parts.ranks[command.rank]
        assert record.pid is not None
        self._diagnosis.begin(
            EndedRank(
                spec=record.spec,
                log=parts.spawner.log_path(record.spec.log),
                pid=record.pid,
                started_at=record.started_at,
                exit_code=command.exit_code,
                signal=command.signal,
                memory_kills=command.memory_kills,
            )
        )

    def _commands(self) -> "SideCommands":
        if self._side_commands is None:
            from sflow_agent.processes.side_commands import SideCommands

            self._side_commands = self._source(SideCommands(self._parts.processes, self._parts.descriptors))
        return self._side_commands

    def _activity_watch(self) -> "ActivityWatch":
        if self._activity is None:
            from sflow_agent.activity_watch import ActivityWatch

            parts = self._parts
            self._activity = self._source(
                ActivityWatch(
                    parts.workers,
                    parts.inventory.gpus,
                    self._gpu_driver(),
                    parts.spawner.log_path,
                    parts.warn,
                )
            )
        return self._activity

    def _gpu_driver(self) -> "GpuDriver":
        if self._driver is None:
            from sflow_agent.node.gpu_driver import GpuDriver

            self._driver = GpuDriver()
        return self._driver

    def _upload(self, command: BeginUpload | EndUpload) -> None:
        if self._uploads is None:
            from sflow_agent.uploader.runner import UploadRunner

            parts = self._parts
            own = None if parts.spool_index is None else parts.spawner.log_path("").rstrip("/")
            self._uploads = self._source(UploadRunner(parts.processes, parts.descriptors, own))
        if isinstance(command, BeginUpload):
            self._uploads.begin(command.order)
        else:
            self._uploads.end(command.attempt, is_forced=command.is_forced)

    def _perform_for_monitors(self, command: LearnMonitors | NoteStored) -> None:
        if isinstance(command, LearnMonitors):
            self._monitor(command.orders)
        elif self._monitoring is not None:
            self._monitoring.note_stored(command.number)

    def _monitor(self, orders: MonitorOrders) -> None:
        """Begin to measure; a repeated order, in a new session, changes nothing."""
        if self._monitoring is None:
            from sflow_agent.monitor.monitoring import Monitoring

            parts = self._parts
            self._monitoring = self._source(
                Monitoring(
                    orders,
                    parts.workers,
                    parts.inventory,
                    self._gpu_driver(),
                    parts.config.marker,
                    parts.report,
                    parts.warn,
                )
            )
            self._watchers.append(self._monitoring)

    def _perform_for_telemetry(self, command: LearnTelemetry | NoteTaken, now: float) -> None:
        """Begin to measure tasks; a repeated order, in a new session, changes nothing."""
        if isinstance(command, NoteTaken):
            if self._telemetry is not None:
                self._telemetry.note_taken(command.number)
        elif self._telemetry is None:
            from sflow_agent.telemetry.telemetry import NodeTelemetry, Sources  # not where it is off

            parts, orders = self._parts, command.orders
            name, gpus, log_path = parts.config.node_name, parts.inventory.gpus, parts.spawner.log_path
            sources = Sources(name, parts.processes, parts.ranks, log_path, gpus, self._gpu_driver)
            made = NodeTelemetry(orders, sources, parts.workers, parts.report, parts.warn, now)
            self._telemetry = self._source(made)
            parts.processes.use_of = self._telemetry.use_of
            parts.spawner.has_marks = True
            if orders.windows:
                self._watchers.append(self._telemetry)

    def _inspect(self, order: Inspect, now: float) -> None:
        if self._inspector is None:
            from sflow_agent.inspection.inspector import Inspector

            parts = self._parts
            uuids = tuple(gpu.uuid for gpu in parts.inventory.gpus if not gpu.simulated)
            self._inspector = self._source(
                Inspector(parts.descriptors, parts.workers, parts.config, uuids, parts.report)
            )
        self._inspector.begin(order, now)


def _with_files(spec: RankSpec, log: str) -> RankSpec:
    """Return the rank with its files written. Raises: SpawnError."""
    if not spec.files:
        return spec
    from sflow_agent.task_files import with_files  # few tasks have any

    return with_files(spec, log)
