"""Carries out the commands of the core, each by the responsible part of the agent. Decides nothing.

Parts that few runs need are imported and made at the first command for them, and join the loop as sources.
"""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from protocol.diagnosis.signatures import Signature
from protocol.ids import RankId
from protocol.messages.monitor import MonitorOrders
from protocol.messages.orders import FileOrder, FindCheckpoint, Inspect
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
from sflow_agent.core.events import AgentEvent, ListenerSeen
from sflow_agent.loop import EventSource
from sflow_agent.starting import Parts, RankStarter

if TYPE_CHECKING:
    from sflow_agent.activity_watch import ActivityWatch
    from sflow_agent.checkpoints.search import CheckpointSearch
    from sflow_agent.exit_diagnosis import ExitDiagnosis
    from sflow_agent.handover.copying import RunDirectoryCopies
    from sflow_agent.handover.service import HandoverService
    from sflow_agent.inspection.inspector import Inspector
    from sflow_agent.monitor.monitoring import Monitoring
    from sflow_agent.node.gpu_driver import GpuDriver
    from sflow_agent.processes.side_commands import SideCommands
    from sflow_agent.telemetry.telemetry import NodeTelemetry
    from sflow_agent.uploader.runner import UploadRunner

S = TypeVar("S", bound=EventSource)


class FileServices:
    """What looks for checkpoints and files of tasks, and copies them between this node and the controller's directory."""

    def __init__(self, parts: Parts, add_source: Callable[[EventSource], None]) -> None:
        self._parts = parts
        self._add_source = add_source
        self._checkpoints: CheckpointSearch | None = None
        self._handover: HandoverService | None = None
        self._copies: RunDirectoryCopies | None = None

    def forget(self, rank: RankId) -> None:
        """Drop what is kept of the attempt of a rank that is gone, if it is the last one."""
        ranks = self._parts.ranks.items()
        if self._handover is not None and not any(
            other.attempt == rank.attempt and not record.is_gone for other, record in ranks
        ):
            self._handover.forget(rank.attempt)

    def close(self) -> None:
        """Give up what is under way."""
        if self._handover is not None:
            self._handover.close()

    def search(self, order: FindCheckpoint, now: float) -> None:
        """Begin to look for checkpoints."""
        if self._checkpoints is None:
            from sflow_agent.checkpoints.search import CheckpointSearch

            parts = self._parts
            copies = self._run_directory()
            hand_over = (lambda _files: ("", "")) if copies is None else copies.hand_over
            made = CheckpointSearch(parts.workers, parts.report, parts.warn, hand_over)
            self._checkpoints = self._started(made)
        self._checkpoints.begin(order, now)

    def hand_over(self, order: FileOrder, now: float) -> None:
        """Begin to look for files, check or copy them."""
        if self._handover is None:
            from sflow_agent.handover.service import HandoverService

            parts = self._parts
            made = HandoverService(parts.workers, parts.report, parts.warn, self._run_directory())
            self._handover = self._started(made)
        self._handover.begin(order, now)

    def _run_directory(self) -> "RunDirectoryCopies | None":
        """Return the way to the controller's run directory; None where that is this node's as well."""
        parts = self._parts
        if parts.spool_index is None:
            return None
        if self._copies is None:
            from sflow_agent.handover.copying import RunDirectoryCopies
            from sflow_agent.handover.transfers import FileTransfers

            transfers = self._started(
                FileTransfers(parts.link.send_log, parts.descriptors, time.monotonic_ns())
            )
            parts.link.listeners.on_file_answer = transfers.take
            config = parts.config
            self._copies = RunDirectoryCopies(transfers, config.run_directory, config.copy_limit_bytes)
        return self._copies

    def _started(self, made: S) -> S:
        self._add_source(made)
        return made


class Performer:
    """Performs commands. `add_source` gives the loop another source, `exit` ends it with a status."""

    def __init__(
        self, parts: Parts, add_source: Callable[[EventSource], None], exit: Callable[[int], None]
    ) -> None:
        self._parts = parts
        self._add_source = add_source
        self._exit = exit
        self._signatures: tuple[Signature, ...] = ()
        self._diagnosis: ExitDiagnosis | None = None
        self._side_commands: SideCommands | None = None
        self._activity: ActivityWatch | None = None
        self._driver: GpuDriver | None = None
        self._inspector: Inspector | None = None
        self._uploads: UploadRunner | None = None
        self._files = FileServices(parts, add_source)
        self._monitoring: Monitoring | None = None
        self._telemetry: NodeTelemetry | None = None
        self._watchers: list[Monitoring | NodeTelemetry] = []
        """What must know when ranks start and end."""
        self._gone: list[RankId] = []
        """Ranks to be forgotten once their exits are sent: a task may wait for that."""
        self._starter = RankStarter(parts, self._watchers)

    def perform(self, command: AgentCommand, now: float) -> Sequence[AgentEvent]:
        """Carry out a command; return its immediate events."""
        parts = self._parts
        match command:
            case Report(message=message):
                parts.report(message)
            case StartProcess(spec=spec):
                return [self._starter.start(spec, now)]
            case SignalTree(rank=rank, signal=number, is_once=is_once):
                parts.processes.trees.order(rank, number, is_once)
            case GiveUpTree(rank=rank):
                return parts.processes.trees.give_up(rank)
            case ForgetRank(rank=rank):
                self._gone.append(rank)
            case WatchCheck(rank=rank, key=key):
                parts.probes.watch(parts.ranks[rank].spec, key, now)
            case UnwatchCheck(rank=rank, key=key):
                parts.probes.unwatch(rank, key)
            case WatchLog(rank=rank, offset=offset):
                parts.logs.watch(rank, parts.spawner.log_path(parts.ranks[rank].spec.log), offset)
            case UnwatchLog(rank=rank):
                parts.logs.unwatch(rank)
            case FinishLogs():
                self._finish(now)
            case Exit(status=status):
                self._files.close()
                self._exit(status)
            case _:
                return self._perform_rare(command, now)
        return ()

    def forget(self, now: float) -> None:
        """Take note that ranks are gone, and their logs complete. To be called once their exits are sent."""
        self._parts.processes.forget_gone()
        for rank in self._gone:
            self._parts.logs.finish(rank)
            for watcher in self._watchers:
                watcher.ended(rank, now)
            self._files.forget(rank)
        self._gone.clear()

    def _finish(self, now: float) -> None:
        """Hand over the rest of what was measured, and of all logs."""
        self.forget(now)
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
        """Carry out a command about measurements, leased ports, uploads, checkpoints or files that tasks hand over."""
        match command:
            case LearnTelemetry() | NoteTaken():
                self._perform_for_telemetry(command, now)
            case BeginUpload() | EndUpload():
                self._upload(command)
            case TakePorts() | TakeBackPorts() | DropPorts():
                return self._starter.lease(command)
            case SearchCheckpoint(order=order):
                self._files.search(order, now)
            case HandOver(order=order):
                self._files.hand_over(order, now)
            case _:
                raise AssertionError(f"no part of the agent carries out {command}")
        return ()

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
                asked_signal=parts.processes.trees.asked.pop(command.rank, None),
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
