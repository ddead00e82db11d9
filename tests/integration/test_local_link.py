"""The link between a controller and agents of its machine: streams that come through doors, below the usual sessions."""

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from protocol.ids import AttemptId, RankId
from protocol.messages.config import AgentConfig
from protocol.messages.facts import Hello, Notice
from protocol.messages.node import Inventory
from protocol.messages.orders import Watch
from protocol.messages.packets import LogAck, LogChunk
from protocol.session.codec import MAX_FRAME_BYTES, decode_log_frame, encode
from protocol.session.version import PROTOCOL_VERSION
from protocol.streams.door import accept, connect, make_door
from protocol.streams.frame_stream import MAX_BODY_BYTES, Frame, FrameStream
from protocol.streams.waiting import Waiting
from sflow_agent.connection import local
from sflow_agent.core.events import AgentEvent, FactsAcknowledged, FactsSent, Ordered
from sflow_agent.link import ControllerLink
from sflow_ctl.core.events import AgentJoined, MessageReceived, SchedulerEvent
from sflow_ctl.runtime.fleet.link import FleetLink
from sflow_ctl.runtime.peers.peer import LinkTimes
from sflow_ctl.runtime.transport.local import LocalTransport
from tests.support import wait_until

RANK = RankId(AttemptId("t", 1), 0)
HUGE = 1 << 30


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


Ends = tuple[FrameStream, FrameStream]


@pytest.fixture
def ends(waiting: Waiting) -> Iterator[Ends]:
    """Both ends of a stream, in one process."""
    one, other = socket.socketpair()
    made = tuple(FrameStream(end.detach(), waiting, HUGE) for end in (one, other))
    yield made[0], made[1]
    for end in made:
        end.close()


def all_of(ends: Ends, waiting: Waiting, count: int) -> list[Frame]:
    """Return so many messages that the second end receives, as loops serve both."""
    found: list[Frame] = []

    def look() -> bool:
        waiting.wait(10)
        for end in ends:
            if end.descriptor in waiting:
                end.flush()
        found.extend(ends[1].receive())
        return len(found) >= count

    wait_until(look, f"{count} messages")
    return found


@pytest.mark.parametrize("size", [0, 1, 70_000, 5 << 20, MAX_FRAME_BYTES])
def test_messages_of_any_size_arrive_whole_and_in_order(ends: Ends, waiting: Waiting, size: int) -> None:
    sent = [(b"first", b""), (os.urandom(size), b"body" * 100), (b"", bytes(MAX_BODY_BYTES)), (b"last", b"x")]
    assert all(ends[0].send(*one) for one in sent)
    assert all_of(ends, waiting, len(sent)) == sent


def test_what_was_sent_before_the_end_is_read_after_it(ends: Ends) -> None:
    assert ends[0].send(b"goodbye")
    ends[1].send(b"unread")
    ends[0].close()
    assert not ends[1].send(b"answer")
    assert ends[1].is_open
    assert ends[1].receive() == [(b"goodbye", b"")]
    assert ends[1].receive() == []
    assert not ends[1].is_open


def test_over_a_limit_nothing_is_kept_and_what_was_begun_arrives(waiting: Waiting) -> None:
    one, other = socket.socketpair()
    sender = FrameStream(one.detach(), waiting, 100_000)
    receiver = FrameStream(other.detach(), waiting, 100_000)
    sent = 0
    while sender.send(b"%d" % sent, bytes(50_000)):
        sent += 1
    assert sender.has_unsent
    found = all_of((sender, receiver), waiting, sent)
    assert [header for header, _ in found] == [b"%d" % number for number in range(sent)]
    assert not sender.has_unsent
    assert sender.send(b"more")
    sender.close()
    receiver.close()


def test_a_stream_that_lies_about_a_length_is_closed(ends: Ends) -> None:
    os.write(ends[0].descriptor, b"\xff" * 64)
    assert ends[1].receive() == []
    assert not ends[1].is_open


def test_the_end_of_a_stream_waits_until_its_rest_is_taken(ends: Ends) -> None:
    ends[0].send(bytes(400_000))
    assert ends[0].has_unsent
    taken: list[Frame] = []

    def take() -> list[Frame]:
        taken.extend(ends[1].receive())
        return taken

    thread = threading.Thread(target=wait_until, args=(take, "a message"))
    thread.start()
    ends[0].finish(10.0)
    thread.join()
    assert [len(header) for header, _ in taken] == [400_000]


# ---------------------------------------------------------------- doors


def test_connections_wait_until_someone_takes_them() -> None:
    outer, inner = make_door()
    assert accept(outer) is None
    ours = [connect(inner) for _ in range(3)]
    for number, (control, _) in enumerate(ours):
        os.write(control, b"%d" % number)
    for number in range(3):
        taken = accept(outer)
        assert taken is not None
        assert os.read(taken[0], 8) == b"%d" % number
        assert not any(os.get_inheritable(one) for one in taken), "tasks must not have them"
        for one in (*taken, *ours[number]):
            os.close(one)
    assert accept(outer) is None
    os.close(outer)
    with pytest.raises(OSError, match="Broken pipe"):
        connect(inner)
    os.close(inner)


# ---------------------------------------------------------------- sessions


def stand_behind(inner: int) -> None:
    """Have this process be the one that has inherited this end of a door."""
    vars(local)["INNER"] = inner


class Agent:
    """The real link of an agent, without anything that it would do."""

    def __init__(self, node: int, inner: int, claims: int | None = None) -> None:
        config = AgentConfig(run_id="r", node=node, node_name="n", marker="m", run_directory="/", nonce="")
        self.node = node if claims is None else claims
        self.inner, self.orders, self.hellos = inner, list[int](), 0
        stand_behind(inner)
        self.link = ControllerLink(config, self._hello, time.monotonic())

    def _hello(self, session: str, number: int, controller_incarnation: int) -> Hello:
        self.hellos += 1
        return Hello(
            version=PROTOCOL_VERSION, install_path="/opt", session=session, session_number=number, node=self.node,
            agent_incarnation=1, controller_incarnation=controller_incarnation, pid=1,
            inventory=Inventory(host="h", cpus=1, cpus_online=1, memory_bytes=1), shares_run_directory=True,
        )  # fmt: skip

    def turn(self) -> None:
        """One pass of an agent's loop."""
        stand_behind(self.inner)
        now = time.monotonic()
        self.link.wait(0)
        self.link.tick(now)
        self.link.flush(now)
        orders = self.link.receive(time.monotonic())
        self.orders += [order.offset for order in orders if isinstance(order, Watch)]


class Site:
    """A controller's real link and agents, which outlive it."""

    def __init__(self, nodes: int = 1) -> None:
        self.doors = [make_door() for _ in range(nodes)]
        self.agents: list[Agent] = []
        self.events: list[SchedulerEvent] = []
        self.link = self._link(0)

    def _link(self, number: int) -> FleetLink:
        transport = LocalTransport(len(self.doors))
        for node, (outer, _) in enumerate(self.doors):
            transport.open(node, os.dup(outer))  # the supervisor keeps the other copy
        return FleetLink(transport, number + 1, LinkTimes(), time.monotonic(), takes_over=number > 0)

    def kill_controller(self) -> None:
        """End everything that its process has, and begin with the next one."""
        self.link.close()
        self.link = self._link(self.link.incarnation)

    def turn(self) -> None:
        self.link.wait(0)
        now = time.monotonic()
        for event in [*self.link.receive(now), *self.link.tick(now)]:
            self.events.append(event)
            if isinstance(event, AgentJoined):
                self.link.accept(event.hello.node, event.hello.session, ())
        self.link.flush(now)
        for agent in self.agents:
            agent.turn()

    def until(self, condition: Callable[[], object], what: str) -> None:
        def look() -> object:
            self.turn()
            return condition()

        wait_until(look, what)

    def facts(self) -> list[str]:
        messages = [event.message for event in self.events if isinstance(event, MessageReceived)]
        return [message.text for message in messages if isinstance(message, Notice)]

    def close(self) -> None:
        for agent in self.agents:
            agent.link.close(0)
        self.link.close()
        for door in self.doors:
            for end in door:
                os.close(end)


@pytest.fixture
def make_site() -> Iterator[Callable[..., Site]]:
    made: list[Site] = []
    inner = vars(local)["INNER"]

    def make(nodes: int = 1) -> Site:
        made.append(Site(nodes))
        return made[-1]

    yield make
    stand_behind(inner)
    for site in made:
        site.close()


def joined(site: Site) -> Agent:
    """Return an agent in session."""
    agent = Agent(0, site.doors[0][1])
    site.agents.append(agent)
    site.until(lambda: agent.link.is_welcome, "the welcome")
    return agent


def talk(site: Site, agent: Agent, count: int) -> None:
    """Numbers both ways, until all have arrived."""
    begin = len(agent.orders)
    for number in range(begin, begin + count):
        agent.link.report(Notice(level="warning", text=str(number)))
        site.link.send(0, Watch(rank=RANK, offset=number))
        site.turn()
    site.until(lambda: len(agent.orders) >= begin + count and agent.link.is_idle, "all orders and facts")


def expect_all(site: Site, agent: Agent, count: int) -> None:
    assert agent.orders == list(range(count))
    assert site.facts() == [str(number) for number in range(count)]


def test_orders_and_facts_arrive_once_and_in_order(make_site: Callable[..., Site]) -> None:
    site = make_site()
    agent = joined(site)
    talk(site, agent, 100)
    expect_all(site, agent, 100)
    assert (agent.hellos, site.link.refused()) == (1, {})


def test_facts_are_acknowledged_though_there_is_always_a_newer_one(make_site: Callable[..., Site]) -> None:
    """As when tasks end all the time: an agent that waited for the moment without any would keep all that have ended."""
    site = make_site()
    agent = joined(site)
    progress: list[AgentEvent] = []
    number = 0

    def look() -> bool:
        nonlocal number
        number += 1
        agent.link.report(Notice(level="warning", text=str(number)))
        site.turn()
        assert not agent.link.is_idle
        stand_behind(agent.inner)
        progress.extend(agent.link.poll(time.monotonic()))
        return progress.count(FactsAcknowledged()) >= 3

    wait_until(look, "progress")
    said = [one for one in progress if isinstance(one, FactsSent | FactsAcknowledged)]
    assert said == [FactsSent(), FactsAcknowledged()] * (len(said) // 2) + [FactsSent()] * (len(said) % 2)
    site.until(lambda: agent.link.is_idle, "the rest")
    assert site.facts() == [str(one) for one in range(1, number + 1)]


def test_an_agent_takes_no_second_turn_for_a_packet_that_it_has_read(make_site: Callable[..., Site]) -> None:
    site = make_site()
    agent = joined(site)
    talk(site, agent, 1)
    for number in (1, 2):
        site.link.send(0, Watch(rank=RANK, offset=number))
        site.link.flush(time.monotonic())
        stand_behind(agent.inner)
        agent.link.wait(10_000)
        assert agent.link.next_wakeup() == 0.0
        orders = [event.message for event in agent.link.poll(time.monotonic()) if isinstance(event, Ordered)]
        assert orders == [Watch(rank=RANK, offset=number)]
        assert agent.link.next_wakeup() > 0.0


def test_a_connection_that_breaks_loses_nothing(make_site: Callable[..., Site]) -> None:
    site = make_site()
    agent = joined(site)
    talk(site, agent, 10)
    way = site.link.peers[0].way
    assert isinstance(way, FrameStream)
    way.close()
    talk(site, agent, 10)
    expect_all(site, agent, 20)
    assert agent.hellos == 1, "it is the same session"


def test_the_next_controller_finds_the_agents_at_the_same_doors(make_site: Callable[..., Site]) -> None:
    site = make_site()
    agent = joined(site)
    talk(site, agent, 5)
    site.kill_controller()
    agent.link.redial(time.monotonic())  # a pidfd says so
    site.until(lambda: agent.hellos > 1 and agent.link.is_welcome, "the next welcome")
    talk(site, agent, 5)
    assert agent.orders == list(range(10))
    assert site.facts()[-5:] == ["5", "6", "7", "8", "9"]


def test_a_packet_for_a_controller_that_was_killed_is_answered_by_the_next_one(
    make_site: Callable[..., Site],
) -> None:
    """It does not know the session, and asks for a hello."""
    site = make_site()
    agent = joined(site)
    site.kill_controller()
    agent.link.report(Notice(level="warning", text="late"))
    site.until(lambda: agent.hellos > 1 and agent.link.is_welcome, "a hello, which was asked for")
    site.until(lambda: site.facts() == ["late"], "the fact")


def test_an_agent_can_only_speak_for_the_node_of_its_door(make_site: Callable[..., Site]) -> None:
    site = make_site(2)
    site.agents.append(Agent(1, site.doors[1][1], claims=0))
    site.until(lambda: site.link.refused().get("wrong_identity"), "a refusal")
    assert not site.events


def test_the_agent_that_follows_has_the_door_for_itself(make_site: Callable[..., Site]) -> None:
    """Guardian and agent were killed, and others are started, with another door."""
    site = make_site()
    joined(site)
    before = site.agents.pop()
    with suppress(OSError):
        before.link.close(0)
    for end in site.doors[0]:
        os.close(end)
    site.doors[0] = make_door()
    transport = site.link.transport
    assert isinstance(transport, LocalTransport)
    transport.open(0, os.dup(site.doors[0][0]))
    site.events.clear()
    after = Agent(0, site.doors[0][1])
    after.link._session_number = 1  # it is newer
    site.agents.append(after)
    site.until(lambda: after.link.is_welcome, "the welcome")


# ---------------------------------------------------------------- logs


def test_chunks_and_acknowledgements_of_logs_pass_while_the_loop_does_something_else(
    make_site: Callable[..., Site],
) -> None:
    site = make_site()
    agent = joined(site)
    waiting = Waiting()
    site.link.transport.logs.watch(waiting)
    body = os.urandom(MAX_BODY_BYTES)
    acks: list[int] = []
    agent.link.listeners.on_log_ack = lambda _rank, offset: acks.append(offset)
    count = sent = received = 0

    def look() -> bool:
        nonlocal count, sent, received
        if sent < 40 and agent.link.send_log(LogChunk(rank=RANK, offset=sent * len(body)), body):
            sent += 1
        waiting.wait(0)
        for arrival in site.link.transport.logs.receive(32):
            assert arrival.node == 0
            assert bytes(arrival.body) == body
            offset = decode_log_frame(arrival.header).offset + len(body)
            assert site.link.transport.logs.send(arrival.way, encode(LogAck(rank=RANK, offset=offset)))
            received += 1
        agent.link.wait(0)
        agent.link.poll(time.monotonic())
        return len(acks) == 40

    wait_until(look, "all acknowledgements")
    assert (sent, received) == (40, 40)
    assert acks == [len(body) * number for number in range(1, 41)]


def test_an_agent_that_is_stopped_is_not_waited_for(make_site: Callable[..., Site]) -> None:
    """What it does not take is kept up to a limit, then repeated later as after a broken connection."""
    site = make_site()
    agent = joined(site)
    site.agents.clear()
    blob = "x" * (3 << 20)
    for _ in range(8):
        site.link.send(0, Watch(rank=RankId(AttemptId(blob, 1), 0), offset=-1))
        site.turn()
    assert site.link.refused()["unsent"] >= 1
    site.agents.append(agent)
    site.until(lambda: agent.orders.count(-1) == 8, "all orders")


def test_a_loop_that_stands_still_takes_packets_in(make_site: Callable[..., Site]) -> None:
    site = make_site()
    agent = joined(site)
    site.link.send(0, Watch(rank=RANK, offset=7))
    site.link.flush(time.monotonic())
    assert agent.link._connections.hold()
    assert agent.link.next_wakeup() == 0.0
    agent.turn()
    assert agent.orders == [7]


def test_only_what_a_wait_has_found_is_read(waiting: Waiting) -> None:
    one, other = os.pipe()
    waiting.add(one)
    assert waiting.ready_of([one]) == [one], "before the first wait anything may be"
    assert not waiting.wait(0)
    assert waiting.ready_of([one]) == []
    os.write(other, b"x")
    assert waiting.wait(1000)
    assert waiting.ready_of([one]) == [one]
    waiting.change(one, select.EPOLLIN)
    waiting.remove(one)
    assert not waiting.wait(0)
    for end in (one, other):
        os.close(end)
