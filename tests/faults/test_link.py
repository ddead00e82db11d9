"""Both ends of the real link over bad ways and in crowds: F7, F15, F18, F19."""

import resource
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

import pytest
import zmq

from protocol.ids import AttemptId, RankId
from protocol.machine.loop_watch import Standstill
from protocol.messages.config import AgentConfig
from protocol.messages.facts import Hello, Notice
from protocol.messages.node import Inventory
from protocol.messages.orders import Watch
from protocol.messages.packets import FromAgentPacket
from protocol.session.codec import encode
from protocol.session.version import PROTOCOL_VERSION
from sflow_agent.connection.network import NetworkConnections
from sflow_agent.link import ControllerLink
from sflow_ctl.core.events import AgentJoined, AgentLost, MessageReceived, NodeStandsStill, SchedulerEvent
from sflow_ctl.runtime.fleet.keys import RunKeys
from sflow_ctl.runtime.fleet.link import FleetLink
from sflow_ctl.runtime.peers.agent_packets import MAX_PACKETS_PER_PASS
from sflow_ctl.runtime.peers.peer import LinkTimes
from sflow_ctl.runtime.peers.silences import Silences
from sflow_ctl.runtime.run.node_book import NodeBook
from sflow_ctl.runtime.transport.network import NetworkControl, NetworkTransport
from tests.faults.wire import Wire
from tests.support import PATIENCE_S, wait_until

RANK = RankId(AttemptId("t", 1), 0)


class Agent:
    """The real link of an agent, without anything that it would do."""

    def __init__(self, node: int, fleet: "Fleet", endpoint: str, orphan_grace_s: float = 60.0) -> None:
        pair = fleet.keys.agents[node]
        config = AgentConfig(
            run_id="r", node=node, node_name=f"n{node}", control_endpoints=(endpoint,),
            log_endpoints=fleet.link.transport.log_endpoints, controller_key=fleet.keys.controller.public,
            public_key=pair.public, secret_key=pair.secret, marker="m", run_directory="/", nonce="",
            orphan_grace_s=orphan_grace_s,
        )  # fmt: skip
        self.node = node
        self.hellos = 0
        self.orders: list[int] = []
        """Offsets of the watches it was ordered."""
        self.given_up: str | None = None
        self.link = ControllerLink(config, self._hello, time.monotonic())

    def _hello(self, session: str, number: int, controller_incarnation: int) -> Hello:
        self.hellos += 1
        return Hello(
            version=PROTOCOL_VERSION, install_path="/opt", session=session, session_number=number, node=self.node,
            agent_incarnation=1, controller_incarnation=controller_incarnation, pid=self.node + 1,
            inventory=Inventory(host="h", cpus=1, cpus_online=1, memory_bytes=1), shares_run_directory=True,
        )  # fmt: skip

    def turn(self) -> None:
        """One pass of an agent's loop."""
        now = time.monotonic()
        self.given_up = self.link.tick(now) or self.given_up
        self.link.flush(now)
        for order in self.link.receive(time.monotonic()):
            if isinstance(order, Watch):
                self.orders.append(order.offset)


class Fleet:
    """A controller's real link, and agents."""

    def __init__(self, nodes: int, *, lost_after_s: float = 30.0) -> None:
        self.keys = RunKeys.make(nodes)
        times = LinkTimes(lost_after_s=lost_after_s, orphan_grace_s=60.0)
        self.link = FleetLink(NetworkTransport(self.keys, ("127.0.0.1",)), 1, times, time.monotonic())
        self.agents: list[Agent] = []
        self.events: list[SchedulerEvent] = []
        self.wires: list[Wire] = []

    def add(self, **wire: float) -> Wire:
        """Add the next agent, behind its own wire."""
        made = Wire(self.link.transport.control_endpoints[0], **wire)
        self.wires.append(made)
        self.agents.append(Agent(len(self.agents), self, made.endpoint))
        return made

    def add_patient(self, orphan_grace_s: float) -> None:
        """Add the next agent without a wire, which gives a silent controller up after this time."""
        endpoint = self.link.transport.control_endpoints[0]
        self.agents.append(Agent(len(self.agents), self, endpoint, orphan_grace_s))

    def turn(self) -> None:
        """One pass of the controller's loop."""
        now = time.monotonic()
        for event in [*self.link.receive(now), *self.link.tick(now)]:
            self.events.append(event)
            if isinstance(event, AgentJoined):
                self.link.accept(event.hello.node, event.hello.session, ())
        self.link.flush(time.monotonic())

    def until(self, condition: Callable[[], object], what: str, within_s: float = PATIENCE_S) -> None:
        """Lets all work until something is so."""

        def look() -> object:
            self.turn()
            for agent in self.agents:
                agent.turn()
            return condition()

        wait_until(look, what, within_s)

    def of(self, kind: type[SchedulerEvent]) -> list[SchedulerEvent]:
        """Return the events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def facts(self) -> list[int]:
        """Numbers that agents have reported, in the order of their arrival."""
        messages = [event.message for event in self.events if isinstance(event, MessageReceived)]
        return [int(message.text) for message in messages if isinstance(message, Notice)]

    def close(self) -> None:
        """All sockets and threads."""
        for wire in self.wires:
            wire.close()
        for agent in self.agents:
            agent.link.close(0)
        self.link.close()


@pytest.fixture
def make_fleet() -> Iterator[Callable[..., Fleet]]:
    """Fleets that end with the test."""
    made: list[Fleet] = []

    def make(nodes: int = 1, **arguments: float) -> Fleet:
        made.append(Fleet(nodes, **arguments))
        return made[-1]

    yield make
    for fleet in made:
        fleet.close()


def talk(fleet: Fleet, count: int, until: Callable[[], bool] = lambda: True) -> None:
    """Numbers both ways, at least `count` and until something is so; then until all have arrived."""
    agent, begin = fleet.agents[0], len(fleet.agents[0].orders)
    number = begin
    while number < begin + count or not until():
        agent.link.report(Notice(level="warning", text=str(number)))
        fleet.link.send(0, Watch(rank=RANK, offset=number))
        number += 1
        pause = time.monotonic() + 0.02
        fleet.until(lambda at=pause: time.monotonic() >= at, "a moment")  # type: ignore[misc]
    fleet.until(lambda: len(fleet.facts()) >= number and len(agent.orders) >= number, "all numbers")
    assert fleet.facts() == list(range(number))
    assert agent.orders == list(range(number))


def test_f07_two_hundred_agents_register_with_a_suspended_controller(
    make_fleet: Callable[..., Fleet],
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        fleet = make_fleet(200)
        for node in range(200):
            fleet.agents.append(Agent(node, fleet, fleet.link.transport.control_endpoints[0]))

        def all_have_called() -> bool:
            for agent in fleet.agents:
                agent.turn()
            return min(agent.hellos for agent in fleet.agents) >= 6

        wait_until(all_have_called, "all agents have called six times, and nobody answered")
        fleet.until(lambda: len(fleet.of(AgentJoined)) >= 200, "all have joined")
        fleet.until(lambda: all(agent.link.is_idle for agent in fleet.agents), "they are welcome")
        nodes = [event.hello.node for event in fleet.events if isinstance(event, AgentJoined)]
        assert sorted(nodes) == list(range(200))
        for agent in fleet.agents:
            agent.link.report(Notice(level="warning", text=str(agent.node)))
        fleet.until(lambda: len(fleet.facts()) == 200, "what they say arrives")
        assert sorted(fleet.facts()) == list(range(200))
        assert not fleet.of(AgentLost)
        assert not any(agent.given_up for agent in fleet.agents)
        fleet.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Waiting:
    """A socket on which a heartbeat of each agent waits to be read."""

    def __init__(self, fleet: Fleet) -> None:
        self.frames: list[SentBy] = []
        for node, peer in enumerate(fleet.link.peers):
            packet = FromAgentPacket(session=peer.session, seq=0, ack=0, messages=())
            self.frames += [SentBy(str(node).encode(), more=True)]
            self.frames += [SentBy(encode(packet), fleet.keys.agents[node].public)]

    def recv(self, *_: object, **__: object) -> "SentBy":
        if not self.frames:
            raise zmq.Again
        return self.frames.pop(0)

    def get(self, _option: int) -> int:
        """Return the events that are ready."""
        return int(zmq.POLLIN) if self.frames else 0

    def send_multipart(self, *_: object) -> None:
        """Drop what is sent."""


class SentBy(NamedTuple):
    bytes: bytes
    key: str = ""
    more: bool = False

    def get(self, _name: str) -> str:
        return self.key


def test_f07_silence_is_judged_when_all_that_waits_has_been_read(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(MAX_PACKETS_PER_PASS + 100)
    link = fleet.link
    for node, peer in enumerate(link.peers):
        peer.session, peer.way = f"s{node}", str(node).encode()
        peer.has_joined, peer.last_heard = True, 0.0
    link.silences = Silences(link.peers, link.times, 0.0)
    for now in range(1, 30):
        assert not link.silences.look(float(now))
    control = link.transport.control
    assert isinstance(control, NetworkControl)
    real = control.socket
    control.socket = Waiting(fleet)  # type: ignore[assignment]
    link.receive(30.0)
    control.socket = real
    assert not link.silences.look(31.0)
    assert {peer.last_heard for peer in link.peers} == {30.0}


def test_f15_agents_behind_one_address_are_distinguished(make_fleet: Callable[..., Fleet]) -> None:
    """What the controller sees of both is the address of what forwards them."""
    fleet = make_fleet(2)
    wire = fleet.add()
    fleet.agents.append(Agent(1, fleet, wire.endpoint))
    fleet.until(lambda: len(fleet.of(AgentJoined)) == 2, "both have joined")
    for agent in fleet.agents:
        agent.link.report(Notice(level="warning", text=str(agent.node)))
    fleet.until(lambda: len(fleet.facts()) == 2, "what they say arrives")
    said = [event for event in fleet.events if isinstance(event, MessageReceived)]
    assert all(isinstance(e.message, Notice) and e.message.text == str(e.node) for e in said)


def test_f18_connections_that_are_cut_for_their_age_lose_and_repeat_nothing(
    make_fleet: Callable[..., Fleet],
) -> None:
    fleet = make_fleet()
    wire = fleet.add(oldest_s=0.5)
    fleet.until(lambda: fleet.of(AgentJoined), "it has joined")
    talk(fleet, 100, lambda: wire.too_old >= 5)
    assert len(fleet.of(AgentJoined)) == 1
    assert not fleet.of(AgentLost)
    assert fleet.agents[0].given_up is None


def test_f18_a_connection_that_was_cut_for_its_idleness_is_made_anew(
    make_fleet: Callable[..., Fleet],
) -> None:
    fleet = make_fleet()
    wire = fleet.add(longest_idle_s=0.5)  # less than a heartbeat
    fleet.until(lambda: fleet.of(AgentJoined), "it has joined")
    talk(fleet, 1)
    fleet.until(lambda: wire.too_idle >= 3, "silence has been punished")
    talk(fleet, 10)
    assert len(fleet.of(AgentJoined)) == 1
    assert not fleet.of(AgentLost)
    assert fleet.agents[0].given_up is None


def test_f18_heartbeats_keep_a_connection_from_being_idle(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet()
    wire = fleet.add(longest_idle_s=4.0)
    fleet.until(lambda: fleet.of(AgentJoined), "it has joined")
    talk(fleet, 1)
    before = wire.pieces
    fleet.until(lambda: wire.pieces >= before + 6, "heartbeats of both sides, three times")
    assert (wire.too_idle, wire.too_old) == (0, 0)


def test_f19_a_round_trip_of_two_seconds_loses_no_node(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(lost_after_s=6.0)
    fleet.add(delay_s=1.0)
    fleet.until(lambda: fleet.of(AgentJoined), "it has joined")
    talk(fleet, 50)
    assert len(fleet.of(AgentJoined)) == 1
    assert not fleet.of(AgentLost)
    assert fleet.agents[0].given_up is None


# ---------------------------------------------------------------- loops that stand still


STUCK = Standstill(7.0, "stat of /mnt/x (output.py:81)")


def test_an_agent_that_stands_still_is_not_lost_and_its_controller_says_so(
    make_fleet: Callable[..., Fleet],
) -> None:
    fleet = make_fleet(lost_after_s=3.0)
    fleet.add()
    fleet.until(lambda: fleet.of(AgentJoined), "a session")
    fleet.until(lambda: fleet.agents[0].link.is_welcome, "the welcome")
    agent, began = fleet.agents.pop(), time.monotonic()
    fleet.link.send(0, Watch(rank=RANK, offset=1))

    def speak() -> bool:
        agent.link.speak_for_loop(time.monotonic(), STUCK)
        return time.monotonic() > began + 6.0

    fleet.until(speak, "twice the time after which it would be lost")
    assert not fleet.of(AgentLost)
    (event,) = fleet.of(NodeStandsStill)
    assert isinstance(event, NodeStandsStill)
    assert NodeBook(["n0"], is_spooled=False).standstill_text(event, 900.0) == (
        "node n0: its agent has stood still for 7 s in stat of /mnt/x (output.py:81); "
        "its tasks run on, and it is given up after 900 s"
    )
    assert fleet.link.counters["repeated"] <= 3, "what it cannot take is not sent over and over"
    fleet.agents.append(agent)
    fleet.until(lambda: len(fleet.of(NodeStandsStill)) == 2, "it moves again")
    event = fleet.of(NodeStandsStill)[-1]
    assert isinstance(event, NodeStandsStill)
    assert event.is_over
    fleet.until(lambda: agent.orders, "its orders")
    assert agent.orders == [1]


def test_an_agent_that_stands_still_for_too_long_is_lost_by_name(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet()
    fleet.add()
    fleet.until(lambda: fleet.agents and fleet.agents[0].link.is_welcome, "the welcome")
    agent = fleet.agents.pop()

    def speak() -> list[SchedulerEvent]:
        agent.link.speak_for_loop(time.monotonic(), Standstill(901.0, STUCK.doing))
        return fleet.of(AgentLost)

    fleet.until(speak, "the loss")
    (lost,) = {event for event in fleet.of(AgentLost) if isinstance(event, AgentLost)}
    assert lost.reason == f"its agent has stood still for 901 s in {STUCK.doing}"
    fleet.agents.append(agent)


def test_a_controller_that_stands_still_keeps_its_agents_and_answers_new_connections(
    make_fleet: Callable[..., Fleet],
) -> None:
    fleet = make_fleet(nodes=2)
    fleet.add()
    fleet.until(lambda: fleet.agents[0].link.is_welcome, "the welcome")
    hellos = fleet.agents[0].hellos
    fleet.agents[0].link.report(Notice(level="warning", text="1"))
    fleet.add_patient(orphan_grace_s=4.0)
    began = time.monotonic()

    def stand() -> bool:
        fleet.link.speak_for_loop(time.monotonic(), STUCK)
        for agent in fleet.agents:
            agent.turn()
        return time.monotonic() > began + 9.0

    wait_until(stand, "more than three heartbeats", 30)
    assert fleet.agents[0].hellos == hellos, "it has heard of its controller all the time"
    assert fleet.agents[0].link.counters["repeated"] <= 2
    assert not fleet.facts()
    assert len(fleet.of(AgentJoined)) == 1
    fleet.until(lambda: fleet.facts() == [1], "what was held for the loop, once", 20)
    fleet.until(lambda: fleet.agents[1].link.is_welcome, "the other's welcome")
    assert not fleet.of(AgentLost)
    assert all(agent.given_up is None for agent in fleet.agents)


@pytest.mark.parametrize("jump_s", [86_400, -86_400], ids=["ahead", "back"])
def test_a_jump_of_the_wall_clock_loses_no_agent(
    make_fleet: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch, jump_s: int
) -> None:
    fleet = make_fleet(lost_after_s=5.0)
    fleet.add()
    fleet.until(lambda: fleet.agents[0].link.is_welcome, "the welcome")
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + jump_s * 10**9)
    fleet.agents[0].link.report(Notice(level="warning", text="1"))
    fleet.until(lambda: fleet.facts() == [1], "the fact")
    began = time.monotonic()
    fleet.until(lambda: time.monotonic() > began + 3.0, "a heartbeat")
    assert not fleet.of(AgentLost)
    assert fleet.agents[0].hellos == 1 or len(fleet.of(AgentJoined)) == 1
    assert fleet.agents[0].given_up is None


class Untouched:
    """A socket that must not be read: to find one empty costs more than a packet."""

    def __init__(self) -> None:
        self.reads = 0

    def recv(self, _flags: int) -> bytes:
        """Have nothing."""
        self.reads += 1
        raise zmq.Again

    def get(self, _option: int) -> int:
        """Have nothing that could be read."""
        return 0


def test_an_agent_reads_only_what_its_wait_has_found_ready(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet()
    fleet.add_patient(60.0)
    link, control = fleet.agents[0].link, Untouched()
    fleet.until(lambda: link.is_welcome, "the session")
    connections = link._connections
    assert isinstance(connections, NetworkConnections)
    real = connections.dialled[0].control
    connections.dialled[0].control = cast("zmq.Socket[bytes]", control)
    link.receive(time.monotonic())
    assert control.reads == 1, "without a wait everything is looked at"
    link.wait(0)
    link.receive(time.monotonic())
    assert control.reads == 1
    connections.dialled[0].control = real


def test_a_burst_of_packets_is_read_after_one_wait(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet()
    fleet.add_patient(60.0)
    link = fleet.agents[0].link
    seen: list[int] = []
    fleet.until(lambda: link.is_welcome, "the session")

    def take() -> bool:
        link.wait(100)
        seen.extend(order.offset for order in link.receive(time.monotonic()) if isinstance(order, Watch))
        return len(seen) == 5

    for offset in range(5):
        fleet.link.send(0, Watch(rank=RANK, offset=offset))
        fleet.link.flush(time.monotonic())
    wait_until(take, "all of them")
    assert seen == [0, 1, 2, 3, 4]
