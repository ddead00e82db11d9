"""The controller's loop: events in from sockets, agents, signals and the clock; the scheduler's commands out.

Decides nothing. One pass takes in everything that has arrived, journals and handles it, then sends one packet
to each agent. `workflow` makes one for a run.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from protocol.ids import RankId
from protocol.machine.code_cache import settle
from protocol.messages.config import AgentConfig
from protocol.messages.facts import (
    LogSearch,
    Measured,
    NodeDescribed,
    Notice,
    RankExited,
    Sampled,
    SideCommandEnded,
)
from protocol.messages.orders import SamplesStored, Spawn, ToAgent
from sflow_ctl.core.commands import (
    AbandonNode,
    AcceptAgent,
    AskJobEnd,
    AwaitLog,
    CollectOutputs,
    Command,
    FinishRun,
    RecordTransition,
    RenderTexts,
    SendToAgent,
    Warn,
)
from sflow_ctl.core.events import (
    AgentJoined,
    AgentLost,
    JobEndKnown,
    MessageReceived,
    NodeStandsStill,
    SchedulerEvent,
    StopRequested,
    WakeUp,
)
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.core.states import Reason, Transition
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.report.run_view import RunView
from sflow_ctl.runtime.fleet.fleet import AgentLauncher
from sflow_ctl.runtime.fleet.link import FleetLink
from sflow_ctl.runtime.journal.checkpointing import Checkpointing
from sflow_ctl.runtime.journal.snapshot import SnapshotWriter
from sflow_ctl.runtime.journal.writer import Journal
from sflow_ctl.runtime.logs.service import OutputService
from sflow_ctl.runtime.logs.waits import LogWaits
from sflow_ctl.runtime.operating.desk import RequestDesk
from sflow_ctl.runtime.peers.own_standstill import standstill_of
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.directory import RunDirectory
from sflow_ctl.runtime.record.record_keeper import RecordKeeper
from sflow_ctl.runtime.record.run_log import RunLog
from sflow_ctl.runtime.record.summary_writer import SummaryWriter
from sflow_ctl.runtime.run.last_steps import AgentEnds, end_agents, log_ignored_messages, swept
from sflow_ctl.runtime.run.node_book import NodeBook
from sflow_ctl.runtime.run.output_collector import OutputCollector
from sflow_ctl.runtime.run.preload import Preload
from sflow_ctl.runtime.run.signals import SignalInbox, stop_name, stop_text
from sflow_ctl.runtime.slurm.job_end import JobEndNotice
from sflow_ctl.runtime.telemetry.measures import Measures
from sflow_ctl.runtime.uploads.progress import RunProgress

_ASIDE = (SideCommandEnded, Measured, Sampled)
if TYPE_CHECKING:
    from sflow_ctl.runtime.monitor.recorder import MonitorRecorder
    from sflow_ctl.runtime.slurm.job_clock import JobClock
    from sflow_ctl.runtime.supervision.continuing import TakeoverWatch
    from sflow_ctl.runtime.supervision.history import TakenOver


class Controller:
    """One run's shell. All its parts are open and ready; `run` closes none of them."""

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
        state: RunView,
        summary: SummaryWriter,
        preload: Preload,
        desk: RequestDesk,
        signals: SignalInbox,
        measures: Measures,
        snapshots: SnapshotWriter,
        checkpoints: Checkpointing,
        job_clock: "JobClock | None" = None,
        monitor: "MonitorRecorder | None" = None,
        hand_over: Callable[[], object] = lambda: None,
    ) -> None:
        """`job_clock` knows the job's time limit; `hand_over` is called when another controller could take over from here."""
        self._scheduler = scheduler
        self._plan = scheduler.plan
        self._link, self._launcher, self._output = link, launcher, output
        self._journal, self._log = journal, log
        self._directory, self._configs, self._common = directory, configs, common
        self._job_clock, self._monitor, self.measures = job_clock, monitor, measures
        self.state = state  # folded from the transitions, as every viewer does it
        self.summary, self.outputs = summary, OutputCollector(directory.path)
        self.progress = RunProgress(state, journal, log, output, summary, desk)
        self._snapshots, self.checkpoints = snapshots, checkpoints
        spools = common.spool_directory is not None
        self.nodes = NodeBook([node.name for node in scheduler.plan.nodes], spools)
        self._logs = LogWaits(output, link, self.nodes)
        self.takeover: TakeoverWatch | None = None
        self._signals, self._desk, self._job_end = signals, desk, JobEndNotice(self._log, job_clock)
        self._finish: FinishRun | None = None
        self._hand_over, self._abandoned = hand_over, set[int]()
        self._agents = AgentEnds(launcher, scheduler, self._abandoned, link, common, log)
        self._stops_requested = self._foreign_messages = 0  # facts about ranks of other nodes
        parts = (directory.path, self._signals, link, launcher, output, self._warn)
        self.standstill = standstill_of(*parts)
        self._preload, self.record_keeper = preload, RecordKeeper(directory, journal, self._warn)

    def run(self, early: Sequence[SchedulerEvent] = ()) -> FinishRun:
        """Run the workflow to its end; `early` has arrived before.

        Raises: LaunchError when agents cannot be started.
        """
        settle()
        waiting = self._link.waiting
        for source in (self._launcher, self._output, self.outputs, self._job_clock, self._monitor):
            if source is not None:
                waiting.add(source.fileno)
        waiting.add(self._desk.fileno)
        with self.standstill:
            waiting.add(self._signals.fileno)
            wait = partial(self.standstill.wait, self._link.wait)
            self._launcher.start(self._configs)
            self._hand_over()
            now = time.monotonic()
            for event in early:
                self._handle(event, now)
            self._flush(now)
            while self._finish is None:
                self._preload.wait(wait, self._timeout_ms(), self._scheduler.run)
                now = time.monotonic()
                for event in self._events(now):
                    self._handle(event, now)
                self._flush(now)
            self._end_agents()
        self.record_keeper.flush(time.monotonic(), syncs_at_once=True)
        self._write_results()
        self.outputs.close()
        return self._finish

    def continue_after(self, left: "TakenOver") -> None:
        """Do what a controller that was killed has left to be done. Called before `run`."""
        from sflow_ctl.runtime.supervision.continuing import TakeoverWatch, continued, resume_shell

        parts = (self._link, self._journal, self._log, self._output)
        self.takeover = TakeoverWatch(left, self._plan, *parts, self.checkpoints.takeovers)
        self.checkpoints.takeovers = self._snapshots.takeovers = self.takeover.all
        self._stops_requested = left.rebuilt.stops
        resume_shell(left, self.nodes, self.outputs, self._logs)
        now = time.monotonic()
        for command in continued(left, self._link, self._abandoned):
            self._perform(command, now)

    # ------------------------------------------------------------------ events

    def _events(self, now: float) -> list[SchedulerEvent]:
        events: list[SchedulerEvent] = [*self.standstill.suspensions(now)]
        ready = self._link.waiting
        if self._signals.fileno in ready:
            events.extend(self._stop_event(number) for number in self._signals.take())
        events += [*self._desk.arrived(), *self._job_end.with_end(self._link.receive(now))]
        if self._output.fileno in ready:
            self.note_output()
            events.extend(self._logs.arrived())
        if self.outputs.fileno in ready:
            events.extend(self.progress.collected(self.outputs))
        if now >= self._link.next_wakeup():
            events.extend(self._link.tick(now))
            self.nodes.report_silences(self._link.silences.silent, self._link.lost_after_s, self._warn)
        if self._job_clock is not None:
            events.extend(self._job_clock.news())
        if self._monitor is not None:
            for node, number in self._monitor.stored():
                self._link.send(node, SamplesStored(number=number))
        events.extend(self._agents.ended(now, has_news=self._launcher.fileno in ready))
        if self.takeover is not None:
            self.takeover.look(now)
        if (unwritable := self.record_keeper.give_up(now)) is not None:
            events.append(unwritable)
        wakeup = self._scheduler.next_wakeup()
        if wakeup is not None and wakeup <= now:
            events.append(WakeUp())
        return events

    def _stop_event(self, number: int) -> StopRequested:
        self._stops_requested += 1
        name, is_again = stop_name(number), self._stops_requested > 1
        (self._warn if self._stops_requested == 2 else self._log.info)(stop_text(name, is_again=is_again))
        return StopRequested(signal=name, force=is_again)

    def _handle(self, event: SchedulerEvent, now: float) -> None:
        if isinstance(event, MessageReceived) and isinstance(event.message, _ASIDE):
            self._take_aside(event.node, event.message)  # it does not belong into the journal
            return
        self._note(event)
        self._journal.event(event, now)
        self.checkpoints.notes.note(event)
        for command in self._scheduler.handle(event, now):
            self._perform(command, now)

    def _note(self, event: SchedulerEvent) -> None:
        """Record the facts of an event that only the shell and people need."""
        match event:
            case AgentJoined(hello=hello):
                self._log.info(self.nodes.joined(hello))
                self._expect_logs(hello.node, hello.exited)
                if hello.follows:
                    self._hand_over()  # its guardian may be another one as well
            case MessageReceived(node=node, message=RankExited() as exited):
                self._expect_logs(node, (exited,))
            case MessageReceived(node=node, message=NodeDescribed() as described):
                for warning in self.nodes.described(node, described, self._scheduler.awaits_agents()):
                    self._warn(warning)
            case MessageReceived(node=node, message=LogSearch() as asked):
                if self._is_own(node, asked.rank):
                    self._output.search(node, asked)
            case MessageReceived(node=node, message=Notice(text=text)):
                self._warn(f"node {self._plan.nodes[node].name}: {text}")
            case JobEndKnown(gone_at=gone_at) if not self._scheduler.is_known_job_end(gone_at):
                from sflow_ctl.runtime.slurm.job_clock import time_left_text

                self._log.info(time_left_text(gone_at))
                self._output.say(time_left_text(gone_at))
            case NodeStandsStill():
                self._warn(self.nodes.standstill_text(event, self._link.still_after_s))
            case AgentLost(node=node, reason=reason):
                self.progress.tell()
                self._log.warning(f"node {self._plan.nodes[node].name} lost: {reason}")
            case _:
                pass

    def _expect_logs(self, node: int, exits: Iterable[RankExited]) -> None:
        for exited in exits:
            if self._is_own(node, exited.rank):
                self._logs.expect(node, exited)

    def _take_aside(self, node: int, ended: SideCommandEnded | Measured | Sampled) -> None:
        if not isinstance(ended, SideCommandEnded):
            self.measures.take(node, ended, self._is_own)
        elif self._is_own(node, ended.rank):  # its name becomes a path
            from sflow_ctl.runtime.logs.side_logs import kept  # few tasks have such commands

            warning = kept(self._directory.path, self._plan.nodes[node].name, ended)
            if warning is not None:
                self._warn(warning)

    def _warn(self, text: str) -> None:
        """Show a warning to the viewers of the run, and keep it in the log."""
        self.progress.warn(text)

    def _is_own(self, node: int, rank: RankId) -> bool:
        """Return whether the agent of a node may speak of a rank; a fact about any other is counted."""
        is_own = self._scheduler.is_placed(node, rank)
        self._foreign_messages += not is_own
        return is_own

    # ------------------------------------------------------------------ commands

    def _perform(self, command: Command, now: float) -> None:
        match command:
            case SendToAgent(node=node, message=message):
                self._send(node, message)
            case RecordTransition(transition=transition):
                self._record(transition, now)
            case AwaitLog(rank=rank):
                self._logs.awaited.add(rank)
            case CollectOutputs() | RenderTexts():
                self.outputs.work_on(command, self._scheduler.run)
            case AskJobEnd():
                if self._job_clock is not None:
                    self._job_clock.ask_now()
            case AcceptAgent(node=node, session=session, kill=kill):
                self._link.accept(node, session, kill)
                self.nodes.welcomed(node)
            case AbandonNode(node=node, reason=reason):
                self._abandon(node, reason)
            case Warn(text=text):
                self._warn(text)
            case FinishRun():
                self._finish = command
            case _:
                self.progress.show(command, now)

    def _abandon(self, node: int, reason: str) -> None:
        """Go on without a node; end what is left there."""
        self._link.abandon(node, reason)
        self._output.node_lost(node)
        self._launcher.kill(node)
        if self.nodes.is_spooling(node) is not None:  # its agent was here, and may have started something
            self._launcher.sweep(node, self._common.marker)
        self._abandoned.add(node)

    def _send(self, node: int, message: ToAgent) -> None:
        if isinstance(message, Spawn):
            named = self._scheduler.run.task_named
            self._write_results(named(one.rank.attempt.task).plan for one in message.ranks)
            if self.nodes.is_spooling(node):
                _rotate_logs(self._output, message)
        self._link.send(node, message)

    def _write_results(self, before: Iterable[PlannedTask] | None = None) -> None:
        problem = self.outputs.write_results(before)
        if problem:
            self._warn(problem)

    def _record(self, transition: Transition, now: float) -> None:
        transition = _without_secrets(transition)
        self.progress.change(transition, self._journal.transition(transition, now))
        if self._monitor is not None:
            self._monitor.note(transition, self._scheduler.place_of(transition.task))

    def _flush(self, now: float) -> None:
        keeper, is_stopping = self.record_keeper, self._scheduler.is_stopping
        keeper.flush(now, syncs_at_once=is_stopping)
        # An agent forgets an end that is acknowledged: only a record that survives a crash may take its place.
        holds = {"holds_spawns": keeper.is_failing, "holds_acks": not keeper.is_durable}
        self._link.flush(now, **({} if is_stopping else holds))
        self._desk.send()
        self.progress.tell()
        for copy in (self._snapshots, self.checkpoints):
            copy.write_if_due(now)
        keeper.write_nodes(self.nodes, now)
        self._log.flush()
        self.summary.write_if_due(now)

    def _timeout_ms(self) -> int:
        now = time.monotonic()
        due, keeper = self._link.next_wakeup(), self.record_keeper.next_wakeup(now)
        for at in (self._scheduler.next_wakeup(), self.summary.next_wakeup(), keeper):
            due = due if at is None or at > due else at
        return max(0, math.ceil((due - now) * 1000))

    @property
    def last_moment(self) -> float | None:
        """When everything after the tasks must be over."""
        return self._scheduler.last_moment()

    def note_output(self) -> None:
        """Take the notices of the output service into the log."""
        for notice in self._output.notices():
            self._log.warning(notice)

    # ------------------------------------------------------------------ the end

    def _end_agents(self) -> None:
        """Wait for the agents' processes; end the remaining processes of the run on this machine."""
        self._preload.finish()  # meanwhile they leave
        late = end_agents(self._scheduler, self._launcher, self._abandoned, self._log)
        assert self._finish is not None
        if late or self._abandoned:
            survivors = (*self._finish.survivors, *swept(self._common.marker))
            self._finish = msgspec.structs.replace(self._finish, survivors=survivors)
        try:
            self._directory.note(layout.NODES, self.nodes.encoded())
        except OSError as error:  # a full or deleted run directory: the end of the run reports it
            self._log.warning(f"{layout.NODES} cannot be written: {error.strerror}")
        log_ignored_messages(self._log, self._scheduler, self._link, self._foreign_messages)


def _without_secrets(transition: Transition) -> Transition:
    """Return a change of state as viewers, the summary and the record may have it: texts of programs may quote anything."""
    if not SECRETS.mask or transition.reason is None:
        return transition
    reason = msgspec.convert(SECRETS.mask.data(msgspec.to_builtins(transition.reason)), Reason)
    return msgspec.structs.replace(transition, reason=reason)


def _rotate_logs(output: OutputService, order: Spawn) -> None:
    from sflow_ctl.runtime.logs.rotation import rotate_logs  # most agents see the run directory

    rotate_logs(output, order)
