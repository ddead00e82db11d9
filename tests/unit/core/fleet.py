"""A whole fleet in one process: both cores, simulated processes, a link that drops, delays and repeats, a virtual clock.

Scheduler and agents are the real cores; their shells are simulated. Every choice comes from one `random.Random`, so a seed is
a run.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from protocol.ids import RankId
from protocol.messages.facts import (
    CheckpointFound,
    FromAgent,
    InputsChecked,
    Leased,
    OutputsFound,
    SidePurpose,
)
from protocol.messages.handover import CheckpointChoice, FoundOutput, RecordedFile
from protocol.messages.orders import (
    CheckInputs,
    FileOrder,
    FindCheckpoint,
    FindOutputs,
    Lease,
    ToAgent,
    UploadFiles,
    Welcome,
)
from protocol.messages.rank_spec import RankSpec
from protocol.messages.uploads import UploadOutcome, UploadProblem
from protocol.session.channel import Channel, Numbered
from sflow_agent.core import commands as agent_commands
from sflow_agent.core import events as agent_events
from sflow_agent.core.stop_sequence import ONLY_WAIT, SIGKILL
from sflow_ctl.core.actions.resume import PriorResult
from sflow_ctl.core.commands import (
    AbandonNode,
    AcceptAgent,
    AnswerRequest,
    AskJobEnd,
    AwaitLog,
    CollectOutputs,
    Command,
    FinishRun,
    RecordCheckpoint,
    RecordStall,
    RecordTransition,
    RecordUploads,
    RecordWaiting,
    RenderTexts,
    ReviseRun,
    SendToAgent,
    Warn,
)
from sflow_ctl.core.events import (
    AgentJoined,
    AgentLost,
    LogArrived,
    MessageReceived,
    OperatorRequest,
    OutputsCollected,
    SchedulerEvent,
    StopRequested,
    Suspended,
    WakeUp,
)
from sflow_ctl.core.model.resources import MAX_RANKS
from sflow_ctl.core.requests import AnyAction, Pause, RestartTasks, SignalTasks, StopRun, StopTasks, Unpause
from sflow_ctl.core.takeover import Recorded
from sflow_ctl.plan.model import Plan
from tests.unit.agent.driver import CheckedCore
from tests.unit.core.driver import Driver, rendered
from tests.unit.core.plans import hello as hello_event


def reported(task: str) -> dict[str, float]:
    """Return the outputs that a task's log has here: those of each task differ, and some tasks have none."""
    number = sum(map(ord, task)) + task.count("1") * 1000
    return {"rate": number + 0.5} if number % 5 else {}


@dataclass(slots=True)
class Process:
    """A rank's processes: its main one, and whether it has others."""

    is_running: bool = True
    has_children: bool = False
    is_deaf: bool = False
    """Ends by SIGKILL only."""
    is_stuck: bool = False
    """Waits in the kernel: SIGKILL ends it once that has answered."""


@dataclass(slots=True)
class SimulatedAgent:
    """One node's agent: its core, its processes, and its side of the session."""

    node: int
    core: CheckedCore = field(default_factory=CheckedCore)
    processes: dict[RankId, Process] = field(default_factory=dict)
    started: list[RankId] = field(default_factory=list)
    incarnation: int = 1
    session: str = ""
    session_number: int = 0
    is_welcome: bool = False
    is_alive: bool = True
    orphans_until: float = 0.0
    """When the last of its processes ends, once it is not alive."""
    has_left: bool = False
    """Its core is done; its link still repeats unacknowledged facts."""
    channel: Channel[FromAgent] = field(default_factory=Channel)
    awaited: int | None = None
    """The last packet when the core was told that its facts are sent."""
    leases: dict[str, Leased] = field(default_factory=dict)
    next_port: int = 10_000


@dataclass(slots=True)
class Behaviour:
    """How wild a run is. Probabilities per packet, attempt or fleet."""

    drop: float = 0.0
    repeat: float = 0.0
    max_delay_s: float = 0.001
    keeps_order: bool = False
    """Packets arrive in the order in which they were sent, as on one TCP connection; else they overtake each other."""
    fail: float = 0.0
    leftovers: float = 0.0
    stuck: float = 0.0
    """How many processes SIGKILL does not end for a while."""
    steal: float = 0.0
    """How many failures are those of a port_conflict port."""
    silence: float = 0.0
    lost_logs: float = 0.0
    """How many awaited logs never arrive."""
    disconnects: int = 0
    agent_crashes: int = 0
    fence_s: float = 0.0
    """How long processes of an agent that is gone may live on."""
    stop_at: float | None = None
    takeovers: tuple[float, ...] = ()
    """When the controller is killed, and another one takes the run over."""
    requests: int = 0
    """How many requests operators make; half of them arrive twice."""
    suspensions: tuple[tuple[float, float], ...] = ()
    """When nothing of the run runs, as in a suspended job, and for how long."""
    window: int = MAX_RANKS
    """How many orders an agent may have that it has not answered."""


class Fleet:
    """Runs a plan to its end in virtual time, and checks the promises on the way."""

    def __init__(
        self, plan: Plan, seed: int, behaviour: Behaviour, earlier: Mapping[str, PriorResult] | None = None
    ) -> None:
        self._earlier = earlier
        self.plans: dict[str, Plan] = {}
        """Those that may be applied, by the names of their files."""
        self.driver = Driver(
            plan,
            fence_s=behaviour.fence_s,
            max_unanswered=behaviour.window,
            earlier=earlier,
            plans=self.plans.__getitem__,
        )
        self.scheduler = self.driver.scheduler
        self.plan = plan
        self.finish: FinishRun | None = None
        self._random = random.Random(seed)
        self._behaviour = behaviour
        self._now = 0.0
        self._order = itertools.count()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self.agents = [SimulatedAgent(node) for node in range(len(plan.nodes))]
        self._sessions = ["" for _ in plan.nodes]
        self._newest = [(0, -1) for _ in plan.nodes]
        self._channels: list[Channel[ToAgent]] = [Channel() for _ in plan.nodes]
        self._abandoned: set[int] = set()
        self._last_arrivals: dict[tuple[int, str], float] = {}
        """By node and direction."""
        self._session_number = itertools.count()
        self._number = 1
        """Of the controller."""
        self._leased: dict[str, set[str]] = {}
        """All ports that a task ever had."""
        self._services = {task.name for task in plan.tasks if task.has_readiness}
        for agent in self.agents:
            self._at(self._random.random() * 0.1, lambda agent=agent: self._say_hello(agent))  # type: ignore[misc]
        for _ in range(behaviour.disconnects):
            agent = self._random.choice(self.agents)
            self._at(self._random.random() * 20, lambda agent=agent: self._reconnect(agent))  # type: ignore[misc]
        for _ in range(behaviour.agent_crashes):
            agent = self._random.choice(self.agents)
            self._at(self._random.random() * 20, lambda agent=agent: self._crash(agent))  # type: ignore[misc]
        for killed_at in behaviour.takeovers:
            self._at(killed_at, self._take_over)
        for number in range(behaviour.requests):
            event = OperatorRequest(id=f"r{number}", by="op", action=self._any_action())
            for _ in range(self._random.choice((1, 2))):
                self._at(self._random.random() * 8, lambda event=event: self._tell(event))  # type: ignore[misc]
        for suspended_at, seconds in behaviour.suspensions:
            self._at(suspended_at, lambda seconds=seconds: self._suspend(seconds))  # type: ignore[misc]
        if behaviour.stop_at is not None:
            self._at(behaviour.stop_at, lambda: self._tell(StopRequested(signal="SIGINT")))

    def run(self, limit_s: float = 5_000.0, dies_at: float | None = None) -> None:
        """Until the run finishes, or all of it is killed. Fails when it does not within `limit_s` of virtual time."""
        while self.finish is None and (dies_at is None or self._now < dies_at):
            wakeup = self.scheduler.next_wakeup()
            due = self._agenda[0][0] if self._agenda else None
            assert wakeup is not None or due is not None, (
                "nothing will ever happen again and the run has not ended"
            )
            if wakeup is not None and (due is None or wakeup <= due):
                self._now = max(self._now, wakeup)
                self._tell(WakeUp())
            else:
                assert due is not None
                self._now, _, action = heapq.heappop(self._agenda)
                action()
            assert self._now < limit_s, "the run does not end"

    # ---------------------------------------------------------------- a controller that is killed

    def _take_over(self) -> None:
        """Replace the controller by one that has nothing of it but the journal; agents notice after a while."""
        if self.finish is not None:
            return
        journal, before = self.driver.journal, self.driver.commands
        recorded = self._random.randint(0, 3)  # changes that were decided last, and not written
        changes = [one for one in before if isinstance(one, RecordTransition)]
        uploads = [one for one in before if isinstance(one, RecordUploads)]
        choices = [one for one in before if isinstance(one, RecordCheckpoint)]
        self._number += 1
        self.driver = Driver(
            self.plan,
            fence_s=self._behaviour.fence_s,
            max_unanswered=self._behaviour.window,
            earlier=self._earlier,
            plans=self.plans.__getitem__,
        )
        self.scheduler = self.driver.scheduler
        self._sessions = ["" for _ in self.plan.nodes]
        self._newest = [(0, -1) for _ in self.plan.nodes]
        self._channels = [Channel() for _ in self.plan.nodes]
        written = max(0, len(changes) - recorded)
        rebuilt = self.driver.rebuild(journal, Recorded(written, len(uploads), len(choices)))
        assert self.driver.commands == before, "the journal replays to other commands"
        assert [one for one in rebuilt.lost if isinstance(one, RecordTransition)] == changes[written:]
        for command in rebuilt.again:
            self._perform(command)
        for agent in self.agents:
            self._at(self._random.random() * 3, lambda agent=agent: self._reconnect(agent))  # type: ignore[misc]

    def _suspend(self, seconds: float) -> None:
        """Let time pass in which nothing happens, and have the controller notice."""
        if self.finish is not None:
            return
        self._now += seconds
        self._agenda = [(at + seconds, order, action) for at, order, action in self._agenda]
        self._last_arrivals = {link: at + seconds for link, at in self._last_arrivals.items()}
        self._tell(Suspended(seconds=seconds))
        for agent in self.agents:
            self._feed(agent, agent_events.SuspensionSeen(seconds))

    # ---------------------------------------------------------------- time and the link

    def _any_action(self) -> AnyAction:
        names = [task.name for task in self.plan.tasks]
        chosen = tuple(self._random.sample(names, self._random.randint(1, min(3, len(names)))))
        kind = self._random.randrange(8)
        if kind == 0:
            return StopRun(is_killed=self._random.random() < 0.5)
        if kind == 1:
            return SignalTasks(tasks=chosen, signal=10)
        if kind in (2, 3, 4):
            return RestartTasks(tasks=chosen)
        if kind == 5:
            self._at(20.0, lambda: self._tell(OperatorRequest(id="unpause", by="op", action=Unpause())))
            return Pause()
        return StopTasks(tasks=chosen, is_killed=self._random.random() < 0.3)

    def _at(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self._now + delay, next(self._order), action))

    def _transmit(self, node: int, direction: str, deliver: Callable[[], None]) -> None:
        if self._random.random() < self._behaviour.drop:
            return
        for _ in range(2 if self._random.random() < self._behaviour.repeat else 1):
            arrival = self._now + self._random.random() * self._behaviour.max_delay_s
            if self._behaviour.keeps_order:
                arrival = max(arrival, self._last_arrivals.get((node, direction), 0.0))
                self._last_arrivals[node, direction] = arrival
            heapq.heappush(self._agenda, (arrival, next(self._order), deliver))

    # ---------------------------------------------------------------- controller's side

    def _tell(self, event: SchedulerEvent) -> None:
        for command in self.driver.handle(event, self._now):
            self._perform(command)

    def _tell_later(self, delay: float, event: SchedulerEvent | Callable[[], SchedulerEvent]) -> None:
        """Report an outcome to the present controller: with it, what it waits for is lost."""
        number = self._number

        def tell() -> None:
            if number == self._number:
                self._tell(event() if callable(event) else event)

        self._at(delay, tell)

    def _perform(self, command: Command) -> None:
        match command:
            case AcceptAgent(node=node, session=session, kill=kill):
                self._sessions[node], self._channels[node] = session, Channel()
                self._order_agent(node, Welcome(session=session, incarnation=self._number, kill=kill))
            case SendToAgent(node=node, message=message):
                self._order_agent(node, message)
            case AbandonNode(node=node):
                self._abandoned.add(node)
                self._orphan(self.agents[node])
            case AwaitLog(rank=rank):
                if self._random.random() >= self._behaviour.lost_logs:
                    self._tell_later(self._random.random() * 5, LogArrived(rank=rank))
            case CollectOutputs(task=task, attempt=attempt):
                chunks = {
                    one.name: one.value
                    for one in self.scheduler.run.found.get(task, {}).values()
                    if one.kind == "param"
                }
                found = OutputsCollected(task=task, attempt=attempt, values=chunks or reported(task))
                self._tell_later(self._random.random() * 3, found)
            case RenderTexts():
                self._tell_later(self._random.random() * 2, lambda: rendered(self.scheduler, command))
            case (
                RecordTransition()
                | RecordWaiting()
                | RecordUploads()
                | RecordStall()
                | RecordCheckpoint()
                | Warn()
                | AskJobEnd()
                | AnswerRequest()
                | ReviseRun()
            ):
                pass  # for people
            case FinishRun():
                self.finish = command
            case _:
                assert_never(command)

    def _order_agent(self, node: int, message: ToAgent) -> None:
        if node in self._abandoned:
            return
        self._put_to_agent(node, self._channels[node].send((message,), self._now))
        self._repeat_later(node)

    def _put_to_agent(self, node: int, numbered: Numbered[ToAgent]) -> None:
        session, agent = self._sessions[node], self.agents[node]
        self._transmit(node, "order", lambda: self._agent_receives(agent, session, numbered))

    def _repeat_later(self, node: int) -> None:
        channel = self._channels[node]

        def again() -> None:
            if self._channels[node] is channel and node not in self._abandoned and self.finish is None:
                for numbered in channel.overdue(self._now):
                    self._put_to_agent(node, numbered)
                if not channel.is_idle:
                    self._at(1.0, again)

        self._at(1.0, again)

    def _controller_receives(self, node: int, session: str, numbered: Numbered[FromAgent]) -> None:
        if node in self._abandoned or session != self._sessions[node]:
            return
        channel = self._channels[node]
        if channel.receive(numbered.seq, numbered.ack, self._now):
            for message in numbered.messages:
                self._tell(MessageReceived(node=node, message=message))
        if channel.owes_ack:
            self._put_to_agent(node, channel.heartbeat())

    # ---------------------------------------------------------------- an agent's side

    def _say_hello(self, agent: SimulatedAgent) -> None:
        unacknowledged = agent.channel.unacknowledged()
        agent.session_number = next(self._session_number)
        agent.session = f"session-{agent.session_number}"
        agent.is_welcome = False
        agent.channel, agent.awaited = Channel(), None
        for message in unacknowledged:  # as the agent's link does: it may have been lost
            self._report(agent, message)
        self._repeat_hello(agent, agent.session)

    def _repeat_hello(self, agent: SimulatedAgent, session: str) -> None:
        if not agent.is_alive or agent.is_welcome or agent.session != session or self.finish is not None:
            return
        event = hello_event(
            agent.node,
            session,
            agent.incarnation,
            agent.core.live(),
            agent.core.exited(),
            agent.core.clearing(),
            agent.core.triggered(),
            agent.session_number,
            shares_run_directory=agent.node % 2 == 0,
        )
        self._transmit(agent.node, "fact", lambda: self._hello_arrives(agent.node, event))
        self._at(1.0 + self._random.random(), lambda: self._repeat_hello(agent, session))

    def _hello_arrives(self, node: int, event: AgentJoined) -> None:
        session = event.hello.session
        if node in self._abandoned or self.finish is not None:
            return
        if session == self._sessions[node]:
            for numbered in self._channels[node].repeat(self._now):
                self._put_to_agent(node, numbered)
            return
        order = (event.hello.agent_incarnation, event.hello.session_number)
        if order >= self._newest[node]:
            self._newest[node] = order
            self._tell(event)

    def _agent_receives(self, agent: SimulatedAgent, session: str, numbered: Numbered[ToAgent]) -> None:
        if not agent.is_alive or session != agent.session:
            return
        if agent.channel.receive(numbered.seq, numbered.ack, self._now):
            for message in numbered.messages:
                agent.is_welcome = agent.is_welcome or isinstance(message, Welcome)
                self._feed(agent, agent_events.Ordered(message))
        if agent.awaited is not None and agent.channel.has_acknowledged(agent.awaited):
            agent.awaited = None
            self._feed(agent, agent_events.FactsAcknowledged())
        if agent.awaited is None:
            agent.awaited = agent.channel.newest
            self._feed(agent, agent_events.FactsSent())
        if agent.is_welcome and agent.channel.owes_ack:
            self._put_to_controller(agent, agent.channel.heartbeat())

    # ---------------------------------------------------------------- an agent's shell

    def _feed(self, agent: SimulatedAgent, event: agent_events.AgentEvent) -> None:
        if not agent.is_alive or agent.has_left:
            return
        for command in agent.core.handle(event, self._now):
            self._do(agent, command)
        wakeup = agent.core.next_wakeup()
        if wakeup is not None:
            self._at(max(0.0, wakeup - self._now), lambda: self._wake(agent))

    def _wake(self, agent: SimulatedAgent) -> None:
        wakeup = agent.core.next_wakeup()
        if wakeup is not None and wakeup <= self._now and not agent.has_left:
            self._feed(agent, agent_events.WakeUp())

    def _do(self, agent: SimulatedAgent, command: agent_commands.AgentCommand) -> None:
        match command:
            case agent_commands.StartProcess(spec=spec):
                self._at(0.0, lambda: self._start(agent, spec))
            case agent_commands.TakePorts(order=order):
                self._at(0.0, lambda: self._lease(agent, order))
            case agent_commands.DropPorts(task=task):
                agent.leases.pop(task, None)
            case agent_commands.SignalTree(rank=rank, signal=number):
                if not command.is_once:  # what an operator sends may mean anything: here, nothing
                    self._at(self._random.random() * 0.5, lambda: self._signal_tree(agent, rank, number))
            case agent_commands.RunCommand(rank=rank, purpose=purpose):
                self._at(self._random.random() * 3, lambda: self._end_command(agent, rank, purpose))
            case agent_commands.WatchActivity(rank=rank) if self._random.random() < self._behaviour.silence:
                for is_quiet in (True, False, True):
                    quiet = agent_events.IdleChanged(rank, "output", is_quiet)
                    self._at(self._random.random() * 9, lambda quiet=quiet: self._feed(agent, quiet))  # type: ignore[misc]
            case agent_commands.GiveUpTree(rank=rank):
                self._at(0.0, lambda: self._feed(agent, agent_events.TreeSurvived(rank, ("7 stuck",))))
            case agent_commands.WatchCheck(rank=rank, key=key):
                seen = agent_events.CheckObserved(rank, key, True, "up")
                self._at(self._random.random() * 3, lambda: self._feed(agent, seen))
            case agent_commands.LookOnce(rank=rank, key=key):
                looked = agent_events.CheckObserved(rank, key, self._random.random() < 0.5, "up")
                self._at(self._random.random(), lambda: self._feed(agent, looked))
            case agent_commands.LookForListeners(rank=rank):
                if self._random.random() < 0.2:
                    self._at(0.0, lambda: self._feed(agent, agent_events.ListenerSeen(rank)))
            case agent_commands.FinishLogs():
                self._at(0.0, lambda: self._feed(agent, agent_events.LogsDelivered()))
            case agent_commands.BeginUpload(order=upload):
                self._upload(agent, upload)
            case agent_commands.EndUpload(attempt=attempt):
                ended = agent_events.UploadEnded(
                    attempt, UploadOutcome(problems=(UploadProblem(text="ended"),))
                )
                self._at(self._random.random(), lambda: self._feed(agent, ended))
            case agent_commands.Report(message=message):
                self._report(agent, message)
            case agent_commands.Exit():
                agent.has_left = True
            case agent_commands.DiagnoseExit(rank=rank):
                if self._random.random() < 0.5:  # else the core goes on without it
                    diagnosed = agent_events.ExitDiagnosed(rank, None)
                    self._at(self._random.random() * 5, lambda: self._feed(agent, diagnosed))
            case agent_commands.WatchLog() | agent_commands.UnwatchLog():
                raise AssertionError(f"there are no logs here, and none was asked for: {command}")
            case agent_commands.AdoptStep():
                raise AssertionError(f"no task here is a job step: {command}")
            case agent_commands.SearchCheckpoint(order=search):
                self._search(agent, search)
            case agent_commands.HandOver(order=asked):
                self._hand_over(agent, asked)
            case agent_commands.InspectNode():
                raise AssertionError(f"no inspection was asked for: {command}")
            case (
                agent_commands.WatchActivity()
                | agent_commands.UnwatchActivity()
                | agent_commands.UnwatchCheck()
                | agent_commands.EndCommand()
                | agent_commands.TakeBackPorts()
                | agent_commands.ForgetRank()
                | agent_commands.LearnSignatures()
                | agent_commands.LearnSecrets()
                | agent_commands.LearnMonitors()
                | agent_commands.NoteStored()
                | agent_commands.LearnTelemetry()
                | agent_commands.NoteTaken()
            ):
                pass  # what is simulated ends by itself
            case _:
                assert_never(command)

    def _lease(self, agent: SimulatedAgent, order: Lease) -> None:
        """As an agent does: the same ports for the same number, others for a higher one."""
        known = agent.leases.get(order.task)
        if known is None or order.number > known.number:
            ports = {}
            for block in order.blocks:
                ports[block.name] = tuple(range(agent.next_port, agent.next_port + block.count))
                agent.next_port += block.count
            known = Leased(task=order.task, number=order.number, ports=ports)
            agent.leases[order.task] = known
            for numbers in ports.values():
                self._leased.setdefault(order.task, set()).update(map(str, numbers))
        self._feed(agent, agent_events.PortsTaken(known))

    def _search(self, agent: SimulatedAgent, order: FindCheckpoint) -> None:
        """Answer some time later what an attempt continues from; now and then that is not clear."""
        problem = "two may be meant" if self._random.random() < self._behaviour.fail / 4 else ""
        path = "" if problem or self._random.random() < 0.5 else f"{order.directory}/step_7.pt"
        choice = CheckpointChoice(rule="step" if path else "none", why="so", path=path, problem=problem)
        is_listed = bool(path) and order.is_for_another
        files = (RecordedFile(path=path, bytes=7, mtime_ns=7),) if is_listed else ()
        found = CheckpointFound(attempt=order.attempt, choice=choice, files=files)
        self._at(self._random.random() * 5, lambda: self._report(agent, found))

    def _hand_over(self, agent: SimulatedAgent, order: FileOrder) -> None:
        """Answer some time later; now and then an output is missing, or an input has changed."""
        problem = "it is gone" if self._random.random() < self._behaviour.fail / 4 else ""
        if isinstance(order, CheckInputs):
            answer: FromAgent = InputsChecked(attempt=order.attempt, problem=problem)
        else:
            assert isinstance(order, FindOutputs)
            outputs = tuple(
                FoundOutput(
                    name=rule.name,
                    kind=rule.kind,
                    path=f"{order.directory}/{rule.name}",
                    files=(
                        RecordedFile(path=f"{order.directory}/{rule.name}", bytes=1, mtime_ns=1, sha256="d"),
                    ),
                )
                for rule in order.rules
            )
            if order.items is not None:
                outputs = tuple(self._entries(rule.name, order) for rule in order.rules)
            answer = OutputsFound(attempt=order.attempt, outputs=() if problem else outputs, problem=problem)
        self._at(self._random.random() * 5, lambda: self._report(agent, answer))

    def _entries(self, name: str, order: FindOutputs) -> FoundOutput:
        """Return an output of a chunk: the positions of its items, without some of them where the attempt has failed."""
        assert order.items is not None
        lacking = tuple(
            index for index in range(len(order.items)) if order.has_failed and self._random.random() < 0.5
        )
        entries = [None if index in lacking else one for index, one in enumerate(order.items)]
        return FoundOutput(name=name, kind="param", value=entries, lacking=lacking)

    def _upload(self, agent: SimulatedAgent, order: UploadFiles) -> None:
        """End an upload some time later; one of its files may be lost."""
        must = order.files[0].on_error == "fail"
        lost = (UploadProblem(text="the server is down", is_failure=must),)
        problems = lost if self._random.random() < self._behaviour.fail else ()
        if self._random.random() < 0.5:
            progress = agent_events.UploadProgressed(order.attempt, "1 of 2 files")
            self._at(self._random.random() * 5, lambda: self._feed(agent, progress))
        ended = agent_events.UploadEnded(order.attempt, UploadOutcome(count=1, bytes=3, problems=problems))
        self._at(self._random.random() * 5, lambda: self._feed(agent, ended))

    def _start(self, agent: SimulatedAgent, spec: RankSpec) -> None:
        rank = spec.rank
        for name, value in spec.env.items():
            if name == "SFLOW_PORT_HTTP":
                held = agent.leases[rank.attempt.task].ports["http"]
                assert value == str(held[0]), f"{rank} has port {value}, its agent keeps {held}"
            elif name.startswith("PORT_OF_"):
                assert value in self._leased[name.removeprefix("PORT_OF_")], f"{rank}: {name} is {value}"
            elif name == "SFLOW_MASTER_PORT":
                assert value in self._leased[rank.attempt.task], f"{rank} meets at {value}"
        if self.scheduler.run.task_named(rank.attempt.task).plan.has_master_port:
            assert "SFLOW_MASTER_PORT" in spec.env, f"{rank} has nowhere to meet"
        assert rank not in agent.started, f"{rank} was started twice"
        self._check_alone(rank)
        agent.started.append(rank)
        fails = self._random.random() < self._behaviour.fail
        if fails and self._random.random() < 0.2:
            self._feed(agent, agent_events.ProcessFailed(rank, 2, "no such program"))
            return
        agent.processes[rank] = Process(
            has_children=self._random.random() < self._behaviour.leftovers,
            is_deaf=self._random.random() < self._behaviour.leftovers,
            is_stuck=self._random.random() < self._behaviour.stuck,
        )
        self._feed(agent, agent_events.ProcessStarted(rank, 1, 0))
        if fails or rank.attempt.task not in self._services:
            code = self._random.randint(1, 3) if fails else 0
            self._at(self._random.random() * 5, lambda: self._exit(agent, rank, code, None))

    def _check_alone(self, new: RankId) -> None:
        """Fail if a process of another attempt of the task lives, on whichever node."""
        for agent in self.agents:
            if agent.is_alive or self._now < agent.orphans_until:
                for rank, process in agent.processes.items():
                    is_other = rank.attempt.task == new.attempt.task and rank.attempt != new.attempt
                    runs = process.is_running and not process.is_stuck  # else nothing of its program runs
                    assert not (is_other and runs), f"{new} starts beside {rank}"

    def _exit(self, agent: SimulatedAgent, rank: RankId, code: int | None, number: int | None) -> None:
        process = agent.processes.get(rank)
        if process is not None and process.is_running:
            process.is_running = False
            port_conflict = ""
            size = self._random.choice([0, 9])
            if code and rank.attempt.task in agent.leases and self._random.random() < self._behaviour.steal:
                port_conflict = "port 10000 (http) is taken by process 7 thief"
            end = agent_events.ProcessExited(rank, code, number, size, process.has_children, port_conflict)
            self._feed(agent, agent_events.ProcessesReaped((end,)))

    def _signal_tree(self, agent: SimulatedAgent, rank: RankId, number: int) -> None:
        process = agent.processes.get(rank)
        if number == ONLY_WAIT:
            return
        if process is None or (process.is_deaf and number != SIGKILL):
            return
        if process.is_stuck:
            self._at(self._random.random() * 60, lambda: self._answer(agent, rank))
            return
        if process.has_children:
            process.has_children = False
            if process.is_running:
                self._exit(agent, rank, None, number)
            else:
                self._feed(agent, agent_events.TreeGone(rank, 1))
        else:
            self._exit(agent, rank, None, number)

    def _answer(self, agent: SimulatedAgent, rank: RankId) -> None:
        """Let the kernel answer a process that has been killed meanwhile."""
        agent.processes[rank].is_stuck = False
        self._signal_tree(agent, rank, SIGKILL)

    def _end_command(self, agent: SimulatedAgent, rank: RankId, purpose: SidePurpose) -> None:
        problem = self._random.choice(["", "exited with 1"])
        if not problem and purpose == "stop" and self._random.random() < 0.5:
            self._at(self._random.random(), lambda: self._signal_tree(agent, rank, 15))
        self._feed(agent, agent_events.CommandEnded(rank, purpose, b"", problem))

    def _report(self, agent: SimulatedAgent, message: FromAgent) -> None:
        if not agent.session:
            return  # the first hello will say it; later ones may be on their way without it
        self._put_to_controller(agent, agent.channel.send((message,), self._now))
        channel = agent.channel

        def again() -> None:
            if agent.channel is channel and agent.is_alive and self.finish is None:
                for numbered in channel.overdue(self._now):
                    self._put_to_controller(agent, numbered)
                if not channel.is_idle:
                    self._at(1.0, again)

        self._at(1.0, again)

    def _put_to_controller(self, agent: SimulatedAgent, numbered: Numbered[FromAgent]) -> None:
        session, node = agent.session, agent.node
        self._transmit(node, "fact", lambda: self._controller_receives(node, session, numbered))

    # ---------------------------------------------------------------- disasters

    def _reconnect(self, agent: SimulatedAgent) -> None:
        is_over = agent.has_left and agent.channel.is_idle  # its goodbye has been acknowledged
        if agent.is_alive and not is_over:
            self._say_hello(agent)

    def _orphan(self, agent: SimulatedAgent) -> None:
        """End an agent; its processes follow within the fence's time."""
        if agent.is_alive:
            agent.is_alive = False
            agent.orphans_until = self._now + self._random.random() * self._behaviour.fence_s

    def _crash(self, agent: SimulatedAgent) -> None:
        if agent.is_alive and self.finish is None:
            self._orphan(agent)
            self._at(1.0, lambda: self._tell(AgentLost(node=agent.node, reason="killed")))
