"""The agent's loop: orders, child exits, log growth, open ports and the clock in; the core's commands out.

Decides nothing.
"""

import contextlib
import errno
import gc
import math
import os
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING

import msgspec
import zmq

from protocol.diagnosis.signatures import Signature
from protocol.errors import FleetError
from protocol.ids import RankId
from protocol.messages.config import AgentConfig, StepConfig
from protocol.messages.facts import Hello, Leased, NodeDescribed, Notice, RankCleared, RankExited
from protocol.messages.orders import Inspect, Lease, Welcome
from protocol.messages.rank_spec import RankSpec
from protocol.session.codec import decode_config, decode_step_config
from protocol.session.version import PROTOCOL_VERSION
from sflow_agent.core.agent import AgentCore
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
    EndRequested,
    LogsDelivered,
    Ordered,
    PortsTaken,
    ProcessExited,
    ProcessFailed,
    WakeUp,
)
from sflow_agent.limits import allow_many
from sflow_agent.link import ControllerLink, own_keys
from sflow_agent.logs.follower import LogFollower
from sflow_agent.logs.spool import make_spool, remove_spool, shares_run_directory
from sflow_agent.node.interfaces import Interfaces
from sflow_agent.node.inventory import gpu_view, take_inventory
from sflow_agent.node.memory_events import MemoryEvents, MemoryKills
from sflow_agent.probes.watcher import ProbeWatcher
from sflow_agent.processes.cleanup import Cleanups
from sflow_agent.processes.cleanup_list import CleanupList
from sflow_agent.processes.containers import Containers
from sflow_agent.processes.spawn import Spawner, SpawnError, task_environment
from sflow_agent.processes.syscalls import become_subreaper, hide_memory
from sflow_agent.processes.table import Processes
from sflow_agent.processes.tree_killer import RESCAN_S

if TYPE_CHECKING:
    from sflow_agent.activity_watch import ActivityWatch
    from sflow_agent.exit_diagnosis import ExitDiagnosis
    from sflow_agent.inspection.inspector import Inspector
    from sflow_agent.port_leases import PortLeases
    from sflow_agent.processes.side_commands import SideCommands

EXIT_INFRASTRUCTURE = 3
GOODBYE_WITHIN_S = 2.0
COMPLAIN_AFTER_S = 5.0
"""Without an answer to any hello; a busy controller of a thousand agents needs less."""
DESCRIBE_AFTER_S = 0.2
"""Slow facts wait until the first tasks are on their way."""


def run_agent(guardian: int, encoded_config: str | None, cleanups: CleanupList) -> int:
    """The agent's life: configuration, loop, exit status. `guardian` is its parent's pid."""
    become_subreaper()
    hide_memory()
    allow_many()
    try:
        config = _read_config(encoded_config)
        if config is None:
            return 0  # prestarted and not needed
        agent = Agent(config, guardian, cleanups)
    except (FleetError, OSError, ValueError) as error:
        _say(f"cannot start: {error}")
        return EXIT_INFRASTRUCTURE
    return agent.run()


def _read_config(encoded: str | None) -> AgentConfig | None:
    """From the variable that a job step was started with, or from stdin; None when stdin ends without one.

    Raises: MalformedMessageError, ValueError.
    """
    if encoded is not None:
        import base64

        return for_this_node(decode_step_config(base64.b64decode(encoded)), os.environ)
    with open(0, "rb", closefd=False) as stdin:
        frame = stdin.read()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return decode_config(frame) if frame else None


def for_this_node(step: StepConfig, environ: Mapping[str, str]) -> AgentConfig:
    """What a job step gives to all of its agents, completed by who this one is. Raises: ValueError."""
    name = environ.get("SLURMD_NODENAME", "")
    if not name or name not in step.nodes:
        raise ValueError(f'SLURMD_NODENAME is "{name}", which is none of the nodes of the job')
    node = step.nodes.index(name)
    public_key, secret_key = own_keys(step.key_seed, node)
    return msgspec.structs.replace(
        step.common,
        node=node,
        node_name=name,
        public_key=public_key,
        secret_key=secret_key,
    )


class Agent:
    """The shell around one `AgentCore`."""

    def __init__(self, config: AgentConfig, guardian: int, cleanups: CleanupList) -> None:
        self._config = config
        left = self._end_predecessors(config.predecessor) if config.predecessor else []
        self._shares = shares_run_directory(config)
        self._base = config.run_directory if self._shares else make_spool(config)
        gpus = gpu_view(config.simulated_gpus, os.environ)
        self._inventory = take_inventory(gpus)
        self._started_ns = time.time_ns()
        self._core = AgentCore()
        self._epoll = select.epoll()
        environment = task_environment(dict(os.environ), config.marker)
        interfaces = Interfaces(is_chosen=config.is_interface_chosen)
        spawner = Spawner(self._base, environment, gpus, config.node_name, interfaces)
        self._spawner = spawner
        containers = Containers(environment, gpus, interfaces, spawner.find, spawner.log_path)
        self._processes = Processes(spawner, containers, Cleanups(cleanups), self._epoll)
        self._link = ControllerLink(config, self._hello, time.monotonic())
        self._logs = LogFollower(self._link.send_log)
        self._conditions = ProbeWatcher(
            self._epoll,
            self._processes,
            self._logs,
            spawner.log_path,
            config.marker,
            has_all_logs=self._shares,
            report=self._link.report,
            warn=self._warn_once,
        )
        self._link.on_new_session = self._on_new_session
        self._memory = MemoryEvents()
        self._kills = MemoryKills(self._memory)
        self._kills_of: dict[RankId, int] = {}
        """Of ranks that are being examined: processes that the kernel killed while they ran."""
        self._signatures: tuple[Signature, ...] = ()
        self._exit_judge: ExitDiagnosis | None = None
        self._specs: dict[RankId, RankSpec] = {}
        self._leases: PortLeases | None = None
        self._queue: list[AgentEvent] = []
        self._exit_status: int | None = None
        self._is_finishing_logs = False
        self._describe_at: float | None = None
        self._complain_at: float | None = time.monotonic() + COMPLAIN_AFTER_S
        self._has_described = False
        self._examiner: Inspector | None = None
        self._side_commands: SideCommands | None = None
        self._life: ActivityWatch | None = None
        self._next_rescan = 0.0
        self._warned: set[str] = set()
        for pid in left:
            self._warn_once(f"process {pid} of the run's earlier agents could not be ended")
        self._has_child_ended = True
        self._is_terminated = False
        self._guardian_fd = self._watch_guardian(guardian)
        self._epoll.register(self._logs.inotify.fileno, select.EPOLLIN)

    @staticmethod
    def _end_predecessors(marker: str) -> list[str]:
        from sflow_agent.processes.predecessors import end_predecessors  # few runs are resumed

        return end_predecessors(marker)

    def run(self) -> int:
        """Until the core says exit; returns the status."""
        signal_fd = self._install_signals()
        poller = self._link.poller
        poller.register(self._epoll.fileno(), zmq.POLLIN)
        poller.register(signal_fd, zmq.POLLIN)
        gc.collect()
        gc.freeze()
        now = time.monotonic()
        while self._exit_status is None:
            reason = self._link.look_after(now)
            if reason is not None:
                self._handle(EndRequested(reason), now)
            self._link.flush(now)
            poller.poll(self._timeout_ms())
            _drain(signal_fd)
            now = time.monotonic()
            self._take_in(now)
        return self._leave()

    # ------------------------------------------------------------------ events

    def _take_in(self, now: float) -> None:
        """Everything that has happened, inputs before the clock: who stood still must first listen."""
        for order in self._link.receive(now):
            if isinstance(order, Welcome):
                self._signatures = order.signatures
            self._handle(Ordered(order), now)
        if self._is_terminated:
            self._is_terminated = False
            self._handle(EndRequested("SIGTERM received"), now)
        if self._has_child_ended:
            self._has_child_ended = False
            self._reap(now)
        self._take_in_descriptors(now)
        for ack in self._link.log_acks():
            self._logs.acknowledge(ack.rank, ack.offset)
        self._logs.work_due(now)
        self._handle_all(self._conditions.seen(now), now)
        if self._life is not None:
            self._handle_all(self._life.look(now), now)
        self._handle_all([CheckObserved(*seen) for seen in self._logs.pump()], now)
        if self._link.is_idle:
            self._core.forget_told()
        if self._describe_at is not None and self._describe_at <= now:
            self._describe_at = None
            self._describe()
        if self._examiner is not None:
            self._examiner.look_after(now)
        if self._complain_at is not None and self._complain_at <= now:
            self._complain_at = None
            self._complain()
        wakeup = self._core.next_wakeup()
        if wakeup is not None and wakeup <= now:
            self._handle(WakeUp(), now)
        if self._is_finishing_logs and self._logs.is_delivered:
            self._is_finishing_logs = False
            self._handle(LogsDelivered(), now)
        while self._side_commands is not None and (ended := self._side_commands.take_ended()):
            self._handle_all(ended, now)  # one that has ended may begin the next
        self._press_endings(now)

    def _reaped(self) -> list[AgentEvent]:
        """What has ended, and who has the ports of those that failed."""
        events = self._processes.reap()
        for index, event in enumerate(events if self._leases is not None else ()):
            if isinstance(event, ProcessExited) and event.exit_code != 0:
                assert self._leases is not None
                attempt = event.rank.attempt
                events[index] = replace(
                    event, port_conflict=self._leases.port_conflict(attempt.task, str(attempt))
                )
        return events

    def _reap(self, now: float) -> None:
        events = self._reaped()
        ends = [event for event in events if isinstance(event, ProcessExited)]
        # Who was killed takes a kill for itself before others are asked whether they lost a process.
        for end in sorted(ends, key=lambda end: not _looks_killed(end)):
            kills = self._kills.ended(end.rank, is_killed=_looks_killed(end))
            if not kills:
                continue
            if end.exit_code not in self._specs[end.rank].success_exit_codes:
                self._kills_of[end.rank] = kills
                continue
            text = (
                f"{end.rank} ended with status {end.exit_code}, but while it ran the kernel killed {kills} process(es) of this "
                "node's tasks for want of memory: what it has written may not be complete"
            )
            self._link.report(Notice(level="warning", text=text))
        self._handle_all(events, now)

    def _press_endings(self, now: float) -> None:
        endings = self._processes.endings
        if endings.needs_look and now >= self._next_rescan:
            self._next_rescan = now + RESCAN_S
            endings.look_again()
        self._handle_all(endings.press(), now)

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._link.report(Notice(level="warning", text=text))

    def _take_in_descriptors(self, now: float) -> None:
        ended = []
        for descriptor, _ in self._epoll.poll(0):
            if descriptor == self._logs.inotify.fileno:
                self._logs.note_changes()
            elif descriptor == self._guardian_fd:
                self._epoll.unregister(descriptor)
                self._handle(EndRequested("the agent's guardian is gone"), now)
            elif self._conditions.descriptors.owns(descriptor):
                self._conditions.descriptors.ready(descriptor)
            else:
                ended.append(descriptor)
        self._processes.endings.members_ended(ended)

    def _handle_all(self, events: Sequence[AgentEvent], now: float) -> None:
        for event in events:
            self._handle(event, now)

    def _handle(self, event: AgentEvent, now: float) -> None:
        """Handles an event and, in order, whatever comes of performing its commands."""
        self._queue.append(event)
        if len(self._queue) > 1:
            return  # an outer call is performing commands; it goes on with this one
        while self._queue:
            for command in self._core.handle(self._queue[0], now):
                self._perform(command, now)
            del self._queue[0]

    def _timeout_ms(self) -> int:
        due = self._link.next_wakeup()
        now = time.monotonic()
        for time_due in (
            self._core.next_wakeup(),
            self._logs.next_wakeup(),
            self._conditions.next_wakeup(),
            self._describe_at,
            None if self._examiner is None else self._examiner.next_wakeup(),
            self._complain_at,
            None if self._life is None else self._life.next_wakeup(),
        ):
            if time_due is not None:
                due = min(due, time_due)
        if self._processes.endings.needs_look:
            due = min(due, self._next_rescan)
        if self._logs.has_work or self._processes.endings.needs_press or self._has_child_ended:
            due = now
        return max(0, math.ceil((due - now) * 1000))

    # ------------------------------------------------------------------ commands

    def _perform(self, command: AgentCommand, now: float) -> None:
        match command:
            case Report(message=message):
                self._link.report(message)
                if isinstance(message, RankCleared) or (isinstance(message, RankExited) and message.cleared):
                    self._logs.finish(message.rank)
                    self._specs.pop(message.rank, None)
                    self._kills_of.pop(message.rank, None)
            case StartProcess(spec=spec):
                self._start(spec, now)
            case TakePorts(order=order):
                self._queue.append(PortsTaken(self._take_ports(order)))
            case TakeBackPorts(task=task):
                if self._leases is not None:
                    self._leases.take_back(task)
            case DropPorts(task=task):
                if self._leases is not None:
                    self._leases.drop(task)
            case DiagnoseExit(rank=rank, exit_code=exit_code, signal=number):
                self._judge(rank, exit_code, number)
            case SignalTree(rank=rank, signal=number):
                self._processes.endings.order(rank, number)
            case GiveUpTree(rank=rank):
                self._queue.extend(self._processes.endings.give_up(rank))
            case RunCommand(rank=rank, purpose=purpose):
                self._commands().run(self._specs[rank], purpose)
            case EndCommand(rank=rank, purpose=purpose):
                self._commands().end(rank, purpose)
            case WatchActivity(rank=rank):
                self._signs_of_life().watch(self._specs[rank], now)
            case UnwatchActivity(rank=rank):
                self._signs_of_life().unwatch(rank)
            case WatchCheck(rank=rank, key=key):
                self._conditions.watch(self._specs[rank], key, now)
            case UnwatchCheck(rank=rank, key=key):
                self._conditions.unwatch(rank, key)
            case WatchLog(rank=rank, offset=offset):
                spec_of_rank = self._specs.get(rank)
                if spec_of_rank is not None:
                    self._logs.watch(rank, self._spawner.log_path(spec_of_rank.log), offset)
            case UnwatchLog(rank=rank):
                self._logs.unwatch(rank)
            case InspectNode(order=order):
                self._examine(order, now)
            case FinishLogs():
                self._is_finishing_logs = True
            case Exit(status=status):
                self._exit_status = status

    def _start(self, spec: RankSpec, now: float) -> None:
        path = self._spawner.log_path(spec.log)
        if spec.earlier_log is not None:
            self._logs.renamed(path, self._spawner.log_path(spec.earlier_log))
        try:
            spec = _with_files(spec, path)
        except SpawnError as error:
            self._queue.append(ProcessFailed(spec.rank, error.errno, error.reason))
            return
        self._kills.started(spec.rank)
        outcome = self._made(spec)
        self._queue.append(outcome)
        if isinstance(outcome, ProcessFailed):
            return  # it has no log that would ever end
        self._specs[spec.rank] = spec
        if spec.stream or not self._shares:
            self._logs.stream(spec.rank, path, not self._shares, now)

    def _made(self, spec: RankSpec) -> AgentEvent:
        """The rank's process, unless somebody else has its ports."""
        if self._leases is not None:
            taken = self._leases.hand_over(spec.rank.attempt.task, str(spec.rank.attempt))
            if taken:
                return ProcessFailed(spec.rank, errno.EADDRINUSE, taken, port_conflict=taken)
        return self._processes.start(spec)

    def _take_ports(self, order: Lease) -> Leased:
        if self._leases is None:
            from sflow_agent.port_leases import PortLeases  # most runs lease nothing

            self._leases = PortLeases(f"{self._config.run_id} {self._config.node}")
        leased = self._leases.take(order)
        if self._leases.warning:
            self._warn_once(self._leases.warning)
        return leased

    def _judge(self, rank: RankId, exit_code: int | None, number: int | None) -> None:
        if self._exit_judge is None:
            from sflow_agent.exit_diagnosis import ExitDiagnosis

            self._exit_judge = ExitDiagnosis(self._config.marker, self._signatures, self._memory.limit)
            self._conditions.descriptors.add(self._exit_judge.fileno, select.EPOLLIN, self._take_in_judged)
        record, spec = self._core.ranks[rank], self._specs[rank]
        assert record.pid is not None
        self._exit_judge.judge(
            spec=spec,
            log=self._spawner.log_path(spec.log),
            pid=record.pid,
            started_at=record.started_at,
            exit_code=exit_code,
            signal_number=number,
            oom_kills=self._kills_of.pop(rank, 0),
        )

    def _take_in_judged(self) -> None:
        assert self._exit_judge is not None
        self._handle_all(list(self._exit_judge.judged()), time.monotonic())

    # ------------------------------------------------------------------ the whole truth

    def _hello(self, session: str, number: int, controller_incarnation: int) -> Hello:
        return Hello(
            version=PROTOCOL_VERSION,
            install_path=os.path.dirname(os.path.dirname(__file__)),  # noqa: PTH120
            session=session,
            session_number=number,
            sent_at_ns=time.time_ns(),
            node=self._config.node,
            agent_incarnation=self._started_ns,
            controller_incarnation=controller_incarnation,
            pid=os.getpid(),
            node_name=self._config.node_name,
            inventory=self._inventory,
            shares_run_directory=self._shares,
            live=self._core.live(),
            exited=self._core.exited(),
            clearing=self._core.clearing(),
            quiet=self._core.quiet(),
            triggered=self._core.triggered(),
        )

    def _on_new_session(self) -> None:
        self._logs.rewind()
        self._conditions.ask_again()
        if not self._has_described:
            self._has_described = True
            self._describe_at = time.monotonic() + DESCRIBE_AFTER_S

    def _complain(self) -> None:
        """Tells whoever reads the step's output what cannot be told to the controller."""
        if not self._link.is_welcome:
            tried = ", ".join(one.removeprefix("tcp://") for one in self._config.control_endpoints)
            _say(f"node {self._config.node_name} runs, and has no answer from the controller at {tried}")

    def _describe(self) -> None:
        try:
            from sflow_agent.node.addresses import addresses  # it is a file: none may be left to open

            self._link.report(NodeDescribed(addresses=addresses(), clock_ns=time.time_ns()))
        except OSError as error:
            self._link.report(Notice(level="warning", text=f"its addresses cannot be read: {error}"))

    def _commands(self) -> "SideCommands":
        if self._side_commands is None:
            from sflow_agent.processes.side_commands import SideCommands  # few tasks have any

            self._side_commands = SideCommands(self._processes, self._conditions.descriptors)
        return self._side_commands

    def _signs_of_life(self) -> "ActivityWatch":
        if self._life is None:
            from sflow_agent.activity_watch import ActivityWatch  # few tasks ask for it

            gpus = self._inventory.gpus
            self._life = ActivityWatch(
                self._conditions.descriptors, gpus, self._spawner.log_path, self._warn_once
            )
        return self._life

    def _examine(self, order: Inspect, now: float) -> None:
        if self._examiner is None:
            from sflow_agent.inspection.inspector import Inspector  # `doctor` only

            uuids = tuple(gpu.uuid for gpu in self._inventory.gpus if not gpu.simulated)
            self._examiner = Inspector(self._conditions.descriptors, self._config, uuids, self._link.report)
        self._examiner.begin(order, now)

    # ------------------------------------------------------------------ the end

    def _leave(self) -> int:
        assert self._exit_status is not None
        survivors = self._processes.end_everything()
        if survivors:
            _say(f"could not end: {', '.join(survivors)}")
        deadline = time.monotonic() + GOODBYE_WITHIN_S
        while self._link.can_deliver and (now := time.monotonic()) < deadline:
            self._link.look_after(now)
            self._link.flush(now)
            self._link.poller.poll(20)
            self._link.receive(now)
        self._link.close(linger_ms=200)
        if not self._shares:
            if self._logs.is_delivered:
                remove_spool(self._base)
            else:
                _say(f"logs that could not be handed over are kept in {self._base}")
        if self._exit_status and self._core.ending_because is not None:
            _say(self._core.ending_because)
        return self._exit_status

    # ------------------------------------------------------------------ signals

    def _install_signals(self) -> int:
        read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, self._on_child)
        signal.signal(signal.SIGTERM, self._on_terminate)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return read_end

    def _on_child(self, _number: int, _frame: FrameType | None) -> None:
        self._has_child_ended = True

    def _on_terminate(self, _number: int, _frame: FrameType | None) -> None:
        self._is_terminated = True

    def _watch_guardian(self, guardian: int) -> int:
        if os.getppid() != guardian:
            raise ProcessLookupError("the guardian has died")
        descriptor = os.pidfd_open(guardian)
        self._epoll.register(descriptor, select.EPOLLIN)
        return descriptor


def _with_files(spec: RankSpec, log: str) -> RankSpec:
    """Raises: SpawnError."""
    if not spec.files:
        return spec
    from sflow_agent.task_files import with_files  # few tasks have any

    return with_files(spec, log)


def _looks_killed(end: ProcessExited) -> bool:
    """By SIGKILL, itself or the last program of its script."""
    return end.signal == signal.SIGKILL or end.exit_code == 128 + signal.SIGKILL


def _drain(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while len(os.read(descriptor, 4096)) == 4096:
            pass


def _say(text: str) -> None:
    """Agents have no log of their own: standard error is kept by whoever started them."""
    sys.stderr.write(f"sflow-agent: {text}\n")
