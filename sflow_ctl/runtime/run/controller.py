"""The controller's loop: events in from sockets, agents, signals and the clock; the scheduler's commands out.

Decides nothing. One pass takes in everything that has arrived, journals and handles it, then sends one
packet to each agent.
"""

import contextlib
import math
import os
import signal
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING

import msgspec
import zmq

from protocol.ids import RankId
from protocol.messages.config import AgentConfig
from protocol.messages.facts import (
    Hello,
    LogSearch,
    NodeDescribed,
    Notice,
    RankExited,
    SideCommandEnded,
    Terminated,
)
from protocol.messages.node import Inventory
from protocol.messages.orders import Spawn
from protocol.text.signal_names import signal_name
from sflow_ctl.core.commands import (
    AbandonNode,
    AcceptAgent,
    AwaitLog,
    CollectOutputs,
    Command,
    FinishRun,
    RecordTransition,
    RecordWaiting,
    SendToAgent,
    Warn,
)
from sflow_ctl.core.events import (
    AgentJoined,
    AgentLost,
    JobEnding,
    LogArrived,
    MessageReceived,
    OutputsCollected,
    SchedulerEvent,
    StopRequested,
    WakeUp,
)
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.core.states import TERMINAL, TaskState, Transition
from sflow_ctl.report.run_view import RunView
from sflow_ctl.runtime.fleet.fleet import AgentLauncher
from sflow_ctl.runtime.fleet.leftovers import sweep
from sflow_ctl.runtime.fleet.link import FleetLink
from sflow_ctl.runtime.logs.service import OutputService
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.directory import RunDirectory
from sflow_ctl.runtime.record.journal import Journal
from sflow_ctl.runtime.record.run_log import RunLog
from sflow_ctl.runtime.run.output_collector import OutputCollector

if TYPE_CHECKING:
    from sflow_ctl.doctor.at_start import StartChecks

AGENTS_END_WITHIN_S = 10.0
OTHERS_END_WITHIN_S = 3.0
"""When a node is gone: srun may wait for it for ever, and all others have said goodbye."""


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `nodes.json`."""

    node: int
    name: str
    agent_pid: int
    shares_run_directory: bool
    inventory: Inventory
    addresses: tuple[tuple[str, str], ...] = ()


class Controller:
    """One run's shell. Everything it is given is open and ready; `run` closes nothing of it."""

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        link: FleetLink,
        launcher: AgentLauncher,
        output: OutputService,
        journal: Journal,
        log: RunLog,
        directory: RunDirectory,
        configs: list[AgentConfig],
        common: AgentConfig,
        state: RunView | None = None,
    ) -> None:
        """`state` is that of a resumed run."""
        self._scheduler = scheduler
        self._plan = scheduler.plan
        self._planned = {task.name: task for task in scheduler.plan.tasks}
        self._link = link
        self._launcher = launcher
        self._output = output
        self._journal = journal
        self._log = log
        self._directory = directory
        self._configs = configs
        self._common = common
        self.state = state or RunView(scheduler.plan)
        """Folded from the transitions, as every viewer does it."""
        self.outputs = OutputCollector(directory.path)
        self._nodes: dict[int, NodeFacts] = {}
        self._awaited_logs: set[RankId] = set()
        """Exited ranks whose log the scheduler waits for."""
        self._signals: list[int] = []
        self._stops_requested = 0
        self._is_job_ending = False
        self._finish: FinishRun | None = None
        self._abandoned: set[int] = set()
        self._foreign_messages = 0
        """Messages about tasks that the plan does not have."""
        self._is_journal_failing = False
        self._first_hellos: dict[int, Hello] = {}
        self._welcomed_ns: dict[int, int] = {}
        self._start_checks: StartChecks | None = None

    def run(self, early: Sequence[SchedulerEvent] = ()) -> FinishRun:
        """Runs the workflow to its end; `early` has arrived before. Raises: LaunchError when agents cannot be started."""
        poller = zmq.Poller()
        self._link.register(poller)
        poller.register(self._launcher.fileno, zmq.POLLIN)
        poller.register(self._output.fileno, zmq.POLLIN)
        poller.register(self.outputs.fileno, zmq.POLLIN)
        with self._signals_to(poller) as signal_fd:
            self._launcher.start(self._configs)
            now = time.monotonic()
            for event in early:
                self._handle(event, now)
            self._flush(now)
            while self._finish is None:
                poller.poll(self._timeout_ms())
                self._drain(signal_fd)
                now = time.monotonic()
                for event in self._events(now):
                    self._handle(event, now)
                self._flush(now)
            self._end_agents()
        self.outputs.close()
        return self._finish

    # ------------------------------------------------------------------ events

    def _events(self, now: float) -> list[SchedulerEvent]:
        events: list[SchedulerEvent] = []
        while self._signals:
            events.append(self._stop_event(self._signals.pop(0)))
        for event in self._link.receive(now):
            events.append(event)
            if isinstance(event, MessageReceived) and isinstance(event.message, Terminated):
                events.extend(self._job_ending())
        events.extend(self._logs())
        events.extend(self._collected())
        events.extend(self._link.tick(now))
        for node, how in self._launcher.ended():
            if self._scheduler.is_expected(node):
                events.append(AgentLost(node=node, reason=how))
                self._abandoned.add(node)
        wakeup = self._scheduler.next_wakeup()
        if wakeup is not None and wakeup <= now:
            events.append(WakeUp())
        return events

    def _stop_event(self, number: int) -> StopRequested:
        self._stops_requested += 1
        name = signal_name(number)
        self._log.info(f"{name} received, {'forcing the end' if self._stops_requested > 1 else 'stopping'}")
        return StopRequested(signal=name, force=self._stops_requested > 1)

    def _job_ending(self) -> list[SchedulerEvent]:
        """Return, once, that Slurm ends the job; all of its agents are signalled."""
        if self._is_job_ending:
            return []
        from sflow_ctl.runtime.slurm.allocation import kill_wait_s  # only in Slurm jobs

        self._is_job_ending = True
        within_s = kill_wait_s()
        self._log.info(f"agents received SIGTERM: Slurm ends the job within {within_s:g} s")
        return [JobEnding(within_s=within_s)]

    def _collected(self) -> list[SchedulerEvent]:
        events: list[SchedulerEvent] = []
        for task, attempt, values, problems in self.outputs.collected():
            for problem in problems:
                self._log.warning(f"outputs of {task}: {problem}")
            events.append(OutputsCollected(task=task, attempt=attempt, values=values))
        return events

    def _logs(self) -> list[SchedulerEvent]:
        """Return what the output service has found out since the last call."""
        self.note_output()
        for node, matched in self._output.matched():
            self._link.send(node, matched)
        arrived = [rank for rank in self._output.completed() if rank in self._awaited_logs]
        self._awaited_logs.difference_update(arrived)
        return [LogArrived(rank=rank) for rank in arrived]

    def _handle(self, event: SchedulerEvent, now: float) -> None:
        if isinstance(event, MessageReceived) and isinstance(event.message, SideCommandEnded):
            self._side_command_ended(event.node, event.message)
            return  # decides nothing, and its output is not for the journal
        self._note(event)
        self._journal.event(event, now)
        for command in self._scheduler.handle(event, now):
            self._perform(command, now)

    def _note(self, event: SchedulerEvent) -> None:
        """What only the shell and people need of an event."""
        match event:
            case AgentJoined(hello=hello):
                name = self._plan.nodes[hello.node].name
                self._nodes[hello.node] = NodeFacts(
                    node=hello.node,
                    name=name,
                    agent_pid=hello.pid,
                    shares_run_directory=hello.shares_run_directory,
                    inventory=hello.inventory,
                )
                shared = "shared" if hello.shares_run_directory else "not shared, logs are streamed"
                self._first_hellos.setdefault(hello.node, hello)
                way = (
                    f" from {hello.address or 'an unknown address'} by {hello.endpoint}"
                    if hello.endpoint
                    else ""
                )
                self._log.info(f"node {name}: agent {hello.pid} joined{way}, run directory {shared}")
                for exited in hello.exited:
                    self._expect_log(hello.node, exited)
            case MessageReceived(node=node, message=RankExited() as exited):
                self._expect_log(node, exited)
            case MessageReceived(node=node, message=NodeDescribed() as described) if node in self._nodes:
                self._described(node, described)
            case MessageReceived(node=node, message=LogSearch() as asked):
                self._output.search(node, asked)
            case MessageReceived(node=node, message=Notice(text=text)):
                said = f"node {self._plan.nodes[node].name}: {text}"
                self._log.warning(said)
                self._output.say(f"warning: {said}")
            case AgentLost(node=node, reason=reason):
                self._log.warning(f"node {self._plan.nodes[node].name} lost: {reason}")
            case _:
                pass

    def _expect_log(self, node: int, exited: RankExited) -> None:
        """Tell the output service how long the log of an exited rank is."""
        facts = self._nodes.get(node)
        if facts is not None and exited.rank.attempt.task in self._planned:
            self._output.expect(exited.rank, exited.log_bytes, not facts.shares_run_directory)

    def _side_command_ended(self, node: int, ended: SideCommandEnded) -> None:
        if ended.rank.attempt.task not in self._planned:
            self._foreign_messages += 1  # its name would become a path
            return
        from sflow_ctl.runtime.logs.side_logs import keep_output, warning_of  # few tasks have such commands

        warning = warning_of(ended)
        try:
            keep_output(self._directory.path, self._plan.nodes[node].name, ended)
        except OSError as error:
            warning = f"what its {ended.purpose} command of {ended.rank} has printed cannot be kept: {error}"
        if warning is not None:
            self._log.warning(warning)
            self._output.say(f"warning: {warning}")

    def _described(self, node: int, described: NodeDescribed) -> None:
        """Comes when the first tasks are on their way: what they did not have to wait for is looked at now."""
        self._nodes[node] = msgspec.structs.replace(self._nodes[node], addresses=described.addresses)
        if self._start_checks is None:
            from sflow_ctl.doctor.at_start import StartChecks

            self._start_checks = StartChecks(
                [one.name for one in self._plan.nodes],
                self._first_hellos,
                self._welcomed_ns,
                is_spooled=self._common.spool_directory is not None,
            )
        is_awaiting = self._scheduler.awaits_agents()
        for warning in self._start_checks.described(node, described, time.time_ns(), is_awaiting):
            self._log.warning(warning)
            self._output.say(f"warning: {warning}")

    # ------------------------------------------------------------------ commands

    def _perform(self, command: Command, now: float) -> None:
        match command:
            case SendToAgent(node=node, message=message):
                if isinstance(message, Spawn):
                    self._rotate_logs(node, message)
                self._link.send(node, message)
            case RecordTransition(transition=transition):
                self._record(transition, now)
            case RecordWaiting(task=task, attempt=attempt, text=text):
                self._journal.waiting(command, now)
                self.state.note_waiting(task, attempt, text)
                self._output.waiting(task, text)
                self._log.info(f"{task}#{attempt} is not ready: {text}", f"sflow.task.{task}")
            case AwaitLog(rank=rank):
                self._awaited_logs.add(rank)
            case CollectOutputs(task=task, attempt=attempt):
                self.outputs.collect(self._planned[task], attempt)
            case AcceptAgent(node=node, session=session, kill=kill):
                self._link.accept(node, session, kill)
                self._welcomed_ns.setdefault(node, time.time_ns())
            case AbandonNode(node=node, reason=reason):
                self._link.abandon(node, reason)
                self._output.node_lost(node)
                self._launcher.kill(node)
                self._abandoned.add(node)
            case Warn(text=text):
                self._log.warning(text)
                self._output.say(f"warning: {text}")
            case FinishRun():
                self._finish = command

    def _record(self, transition: Transition, now: float) -> None:
        self._journal.transition(transition, now)
        self.state.apply(transition)
        self._log.info(_describe(transition), f"sflow.task.{transition.task}")
        self._output.publish(transition)

    def _rotate_logs(self, node: int, spawn: Spawn) -> None:
        facts = self._nodes.get(node)
        if facts is None or facts.shares_run_directory:
            return
        for spec in spawn.ranks:
            if spec.earlier_log is not None:
                attempt = spec.rank.attempt
                earlier = RankId(attempt._replace(number=attempt.number - 1), spec.rank.rank)
                self._output.rotate(earlier, spec.log, spec.earlier_log)

    def _flush(self, now: float) -> None:
        try:
            self._journal.flush()
            self._is_journal_failing = False
        except OSError as error:
            if not self._is_journal_failing:
                self._log.warning(f"the journal cannot be written, retrying: {error}")
            self._is_journal_failing = True
        self._link.flush(now)
        self._log.flush()

    def _timeout_ms(self) -> int:
        due = self._link.next_wakeup()
        wakeup = self._scheduler.next_wakeup()
        if wakeup is not None:
            due = min(due, wakeup)
        return max(0, math.ceil((due - time.monotonic()) * 1000))

    def note_output(self) -> None:
        """Takes what the output service has to say into the log."""
        for notice in self._output.notices():
            self._log.warning(notice)

    # ------------------------------------------------------------------ the end

    def _end_agents(self) -> None:
        """Waits for the agents' processes, then makes sure that nothing of the run is left on this
        machine.
        """
        for (
            node
        ) in self._scheduler.nodes_without_agent():  # it has started nothing, and would wait for an answer
            self._launcher.kill(node)
        is_short = self._scheduler.has_lost_nodes()
        late = self._launcher.wait_all(OTHERS_END_WITHIN_S if is_short else AGENTS_END_WITHIN_S)
        for node in late:
            self._log.warning(f"node {self._plan.nodes[node].name}: its agent did not exit and was killed")
        assert self._finish is not None
        if late or self._abandoned:
            survivors = sweep(self._common.marker)
            self._finish = msgspec.structs.replace(
                self._finish, survivors=(*self._finish.survivors, *survivors)
            )
        nodes = msgspec.json.encode([self._nodes[node] for node in sorted(self._nodes)]) + b"\n"
        try:
            self._directory.write(layout.NODES, nodes)
        except OSError as error:  # a full or deleted run directory: the end of the run reports it
            self._log.warning(f"{layout.NODES} cannot be written: {error.strerror}")
        if self._foreign_messages:
            self._log.warning(f"{self._foreign_messages} messages about tasks that the plan does not have")
        for kind, count in sorted(self._link.refused().items()):
            self._log.warning(f"{count} {kind.replace('_', ' ')}")

    # ------------------------------------------------------------------ signals

    @contextlib.contextmanager
    def _signals_to(self, poller: zmq.Poller) -> Iterator[int]:
        """Signals become a readable descriptor; the handlers only note which came."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        old_fd = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup keeps its meaning
            numbers.append(signal.SIGHUP)
        old_handlers = {number: signal.signal(number, self._on_signal) for number in numbers}
        poller.register(read_end, zmq.POLLIN)
        try:
            yield read_end
        finally:
            poller.unregister(read_end)
            for number, handler in old_handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(old_fd)
            os.close(read_end)
            os.close(write_end)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals.append(number)

    @staticmethod
    def _drain(descriptor: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(descriptor, 512):
                pass


def _describe(transition: Transition) -> str:
    attempt = f"{transition.task}#{transition.attempt}" if transition.attempt else transition.task
    parts = [f"{attempt} {transition.old} -> {transition.new}"]
    if transition.new in TERMINAL or transition.new in (
        TaskState.READY,
        TaskState.STOPPING,
        TaskState.WAITING,
    ):
        parts.append(transition.reason.text or transition.reason.word)
    if transition.pid is not None:
        parts.append(f"node={transition.node} pid={transition.pid}")
    if transition.runtime_s is not None:
        parts.append(f"after {transition.runtime_s:.3f} s")
    return ", ".join(parts)
