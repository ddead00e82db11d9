"""A whole fleet in one process: the scheduler, simulated agents, a link that drops, delays and repeats,
a virtual clock.

Agents here are the protocol's promises and nothing else: orders are idempotent, exits are kept until
acknowledged, a new
session starts with the whole truth. Every choice comes from one `random.Random`, so a seed is a run.
"""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from protocol.channel import Channel, Numbered
from protocol.ids import AttemptId, RankId
from protocol.messages import (
    FromAgent,
    Goodbye,
    Hello,
    Leave,
    LiveRank,
    ProbeTriggered,
    RankCleared,
    RankExited,
    RankStarted,
    Spawn,
    Stop,
    ToAgent,
    Welcome,
)
from sflow_ctl.core.commands import (
    AbandonNode,
    AcceptAgent,
    Command,
    FinishRun,
    RecordTransition,
    SendToAgent,
)
from sflow_ctl.core.events import (
    AgentJoined,
    AgentLost,
    MessageReceived,
    SchedulerEvent,
    StopRequested,
    WakeUp,
)
from sflow_ctl.core.invariants import check_invariants, is_satisfied
from sflow_ctl.core.scheduler import Scheduler
from sflow_ctl.core.states import LIVE, TERMINAL, TRANSITIONS, TaskState
from sflow_ctl.planner.plan import Plan
from tests.unit.core.plans import hello as hello_event


@dataclass(slots=True)
class SimulatedAgent:
    """One node's agent: what it runs, what it has told, and its side of the session."""

    node: int
    incarnation: int = 1
    session: str = ""
    session_number: int = 0
    is_welcome: bool = False
    is_alive: bool = True
    channel: Channel[FromAgent] = field(default_factory=Channel)
    live: dict[RankId, bool] = field(default_factory=dict)
    """Rank to whether it is a service."""
    exited: dict[RankId, RankExited] = field(default_factory=dict)
    known: set[RankId] = field(default_factory=set)
    clearing: set[RankId] = field(default_factory=set)
    ready: set[RankId] = field(default_factory=set)


@dataclass(slots=True)
class Behaviour:
    """How wild a run is. Probabilities per packet, attempt or fleet."""

    drop: float = 0.0
    repeat: float = 0.0
    max_delay_s: float = 0.001
    fail: float = 0.0
    leftovers: float = 0.0
    disconnects: int = 0
    agent_crashes: int = 0
    stop_at: float | None = None


class Fleet:
    """Runs a plan to its end in virtual time, and checks the promises on the way."""

    def __init__(self, plan: Plan, seed: int, behaviour: Behaviour) -> None:
        self.scheduler = Scheduler(plan)
        self.plan = plan
        self.journal: list[tuple[float, SchedulerEvent]] = []
        self.commands: list[Command] = []
        self.finish: FinishRun | None = None
        self._random = random.Random(seed)
        self._behaviour = behaviour
        self._now = 0.0
        self._order = itertools.count()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._agents = [SimulatedAgent(node) for node in range(len(plan.nodes))]
        self._sessions = ["" for _ in plan.nodes]
        self._newest = [(0, -1) for _ in plan.nodes]
        self._channels: list[Channel[ToAgent]] = [Channel() for _ in plan.nodes]
        self._abandoned: set[int] = set()
        self._session_number = itertools.count()
        self._ever_started: dict[str, int] = {}
        self._terminal: dict[str, TaskState] = {}
        self._services = {task.name for task in plan.tasks if task.has_readiness}
        for agent in self._agents:
            self._at(self._random.random() * 0.1, lambda agent=agent: self._say_hello(agent))  # type: ignore[misc]
        for _ in range(behaviour.disconnects):
            agent = self._random.choice(self._agents)
            self._at(self._random.random() * 20, lambda agent=agent: self._reconnect(agent))  # type: ignore[misc]
        for _ in range(behaviour.agent_crashes):
            agent = self._random.choice(self._agents)
            self._at(self._random.random() * 20, lambda agent=agent: self._crash(agent))  # type: ignore[misc]
        if behaviour.stop_at is not None:
            self._at(behaviour.stop_at, lambda: self._tell(StopRequested(signal="SIGINT")))

    def run(self, limit_s: float = 5_000.0) -> None:
        """Until the run finishes. Fails when it does not within `limit_s` of virtual time."""
        while self.finish is None:
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

    # ---------------------------------------------------------------- time and the link

    def _at(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self._now + delay, next(self._order), action))

    def _transmit(self, deliver: Callable[[], None]) -> None:
        if self._random.random() < self._behaviour.drop:
            return
        for _ in range(2 if self._random.random() < self._behaviour.repeat else 1):
            self._at(self._random.random() * self._behaviour.max_delay_s, deliver)

    # ---------------------------------------------------------------- controller's side

    def _tell(self, event: SchedulerEvent) -> None:
        self.journal.append((self._now, event))
        commands = self.scheduler.handle(event, self._now)
        check_invariants(self.scheduler)
        self.commands.extend(commands)
        for command in commands:
            self._perform(command)

    def _perform(self, command: Command) -> None:
        match command:
            case AcceptAgent(node=node, session=session, kill=kill):
                self._sessions[node], self._channels[node] = session, Channel()
                self._order_agent(node, Welcome(session=session, incarnation=1, kill=kill))
            case SendToAgent(node=node, message=message):
                self._check_order(node, message)
                self._order_agent(node, message)
            case AbandonNode(node=node):
                self._abandoned.add(node)
                self._agents[node].is_alive = False
            case RecordTransition(transition=transition):
                assert transition.new in TRANSITIONS[transition.old]
                assert transition.task not in self._terminal, f"{transition.task} had ended"
                if transition.new in TERMINAL:
                    self._terminal[transition.task] = transition.new
            case FinishRun():
                self.finish = command

    def _check_order(self, node: int, message: ToAgent) -> None:
        if not isinstance(message, Spawn):
            return
        assert node not in self._abandoned, "an order to start on a lost node"
        for spec in message.ranks:
            task = self.scheduler.task_named(spec.rank.attempt.task)
            assert spec.rank.attempt.number == task.attempt, "an order to start an old attempt"
            is_new = self._ever_started.get(task.plan.name, 0) < task.attempt
            if is_new:
                assert task.state in LIVE and self.scheduler.outcome is None, (
                    "started after the run began to stop"
                )
                self._ever_started[task.plan.name] = task.attempt
                for dependency in task.plan.depends_on:
                    other = self.scheduler.task_named(dependency.task)
                    assert is_satisfied(other, dependency.needs_completion), (
                        f"{task.plan.name} before {other.plan.name}"
                    )

    def _order_agent(self, node: int, message: ToAgent) -> None:
        if node in self._abandoned:
            return
        self._put_to_agent(node, self._channels[node].send((message,), self._now))
        self._repeat_later(node)

    def _put_to_agent(self, node: int, numbered: Numbered[ToAgent]) -> None:
        session, agent = self._sessions[node], self._agents[node]
        self._transmit(lambda: self._agent_receives(agent, session, numbered))

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
        agent.session_number = next(self._session_number)
        agent.session = f"session-{agent.session_number}"
        agent.is_welcome = False
        agent.channel = Channel()
        self._repeat_hello(agent, agent.session)

    def _repeat_hello(self, agent: SimulatedAgent, session: str) -> None:
        if not agent.is_alive or agent.is_welcome or agent.session != session or self.finish is not None:
            return
        event = hello_event(
            agent.node,
            session,
            agent.incarnation,
            tuple(LiveRank(rank, 1, 0) for rank in agent.live),
            tuple(agent.exited.values()),
            tuple(agent.clearing),
            tuple(
                ProbeTriggered(attempt=rank.attempt, kind="readiness", detail="up")
                for rank in agent.live
                if rank in agent.ready
            ),
            agent.session_number,
        )
        self._transmit(lambda: self._hello_arrives(agent.node, event))
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
                self._obey(agent, message)
        if agent.is_welcome and agent.channel.owes_ack:
            self._put_to_controller(agent, agent.channel.heartbeat())

    def _obey(self, agent: SimulatedAgent, message: ToAgent) -> None:
        match message:
            case Welcome(kill=kill):
                agent.is_welcome = True
                for rank in kill:
                    agent.live.pop(rank, None)
            case Spawn(ranks=ranks):
                for spec in ranks:
                    if spec.rank not in agent.known:
                        agent.known.add(spec.rank)
                        self._begin(agent, spec.rank)
            case Stop(attempt=attempt):
                delay = self._random.random() * 3
                self._at(delay, lambda: self._end(agent, RankId(attempt, 0), signal=15))
            case Leave():
                for rank in list(agent.live):
                    self._end(agent, rank, signal=9)
                self._report(agent, Goodbye())
            case _:
                raise AssertionError(message)

    def _begin(self, agent: SimulatedAgent, rank: RankId) -> None:
        is_service = rank.attempt.task in self._services
        agent.live[rank] = is_service
        self._report(agent, RankStarted(rank=rank, pid=1, started_at_ns=0))
        if is_service:
            self._at(self._random.random() * 3, lambda: self._become_ready(agent, rank))
        does_fail = self._random.random() < self._behaviour.fail
        if does_fail or not is_service:
            self._at(
                self._random.random() * 5,
                lambda: self._end(agent, rank, code=self._random.randint(1, 3) if does_fail else 0),
            )

    def _become_ready(self, agent: SimulatedAgent, rank: RankId) -> None:
        if rank in agent.live and agent.is_alive:
            agent.ready.add(rank)
            self._report(
                agent, ProbeTriggered(attempt=AttemptId(*rank.attempt), kind="readiness", detail="up")
            )

    def _end(
        self, agent: SimulatedAgent, rank: RankId, code: int | None = None, signal: int | None = None
    ) -> None:
        if not agent.is_alive or agent.live.pop(rank, None) is None:
            return
        cleared = self._random.random() >= self._behaviour.leftovers
        message = RankExited(rank=rank, exit_code=code, signal=signal, cleared=cleared)
        agent.exited[rank] = message
        self._report(agent, message)
        if not cleared:
            agent.clearing.add(rank)
            self._at(self._random.random(), lambda: self._clear(agent, rank))

    def _clear(self, agent: SimulatedAgent, rank: RankId) -> None:
        if agent.is_alive:
            agent.clearing.discard(rank)
            self._report(agent, RankCleared(rank=rank))

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
        self._transmit(lambda: self._controller_receives(node, session, numbered))

    # ---------------------------------------------------------------- disasters

    def _reconnect(self, agent: SimulatedAgent) -> None:
        if agent.is_alive:
            self._say_hello(agent)

    def _crash(self, agent: SimulatedAgent) -> None:
        if agent.is_alive and self.finish is None:
            agent.is_alive = False
            self._at(1.0, lambda: self._tell(AgentLost(node=agent.node, reason="killed")))


def replay(plan: Plan, journal: list[tuple[float, SchedulerEvent]]) -> list[Command]:
    """All commands of a scheduler that is told the same things at the same times."""
    scheduler = Scheduler(plan)
    return [command for now, event in journal for command in scheduler.handle(event, now)]


__all__ = ["Behaviour", "Fleet", "Hello", "replay"]
