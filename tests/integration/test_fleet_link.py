"""The controller's link against bad peers: real sockets, real keys.

Bad packets are refused and counted; good peers continue.
"""

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest
import zmq

from protocol.messages.facts import Hello, NodeDescribed, Notice
from protocol.messages.node import Inventory
from protocol.messages.orders import Enrolled, Refused, Welcome
from protocol.messages.packets import FromAgentPacket, ToAgentPacket
from protocol.session.codec import MAX_FRAME_BYTES, decode_to_agent, encode
from sflow_ctl.core.events import AgentJoined, AgentLost, MessageReceived, SchedulerEvent
from sflow_ctl.runtime.fleet.keys import KeyPair, RunKeys
from sflow_ctl.runtime.fleet.link import FleetLink
from sflow_ctl.runtime.peers.peer import LinkTimes
from sflow_ctl.runtime.transport.admission import Admission
from sflow_ctl.runtime.transport.network import NetworkTransport
from tests.integration.output.fleet import pair_of
from tests.support import wait_until


class Fixture:
    """A link with two agents' keys, and clients of any kind to try it with."""

    def __init__(self, keys: RunKeys | None = None) -> None:
        self.keys = keys or RunKeys.make(2)
        self.link = FleetLink(NetworkTransport(self.keys, ("127.0.0.1",)), 1, LinkTimes(), time.monotonic())
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.events: list[SchedulerEvent] = []
        self.sockets: list[zmq.Socket[bytes]] = []

    def client(
        self, pair: KeyPair | None, server_key: str | None = None, endpoint: str | None = None
    ) -> "zmq.Socket[bytes]":
        """A DEALER with these keys, or in plain text without any."""
        dealer = self.context.socket(zmq.DEALER)
        dealer.linger = 0
        dealer.sndtimeo = 10_000
        if pair is not None:
            dealer.curve_publickey = pair.public.encode()
            dealer.curve_secretkey = pair.secret.encode()
            dealer.curve_serverkey = (server_key or self.keys.controller.public).encode()
        dealer.connect(endpoint or self.link.transport.control_endpoints[0])
        self.sockets.append(dealer)
        return dealer

    def pump(self, done: Callable[[], object], what: str) -> None:
        """Lets the link work until something is so."""

        def step() -> object:
            now = time.monotonic()
            self.events += self.link.receive(now)
            self.link.flush(now)
            return done()

        wait_until(step, what)

    def join(self, node: int, session: str = "s", number: int = 1) -> "zmq.Socket[bytes]":
        """Return an agent that has said hello and been accepted."""
        agent = self.client(self.keys.agents[node])
        agent.send(encode(FromAgentPacket(session=session, messages=(a_hello(node, session, number),))))
        self.pump(
            lambda: any(isinstance(e, AgentJoined) and e.hello.session == session for e in self.events),
            "a hello",
        )
        self.link.accept(node, session, ())
        self.pump(lambda: agent.poll(0), "a welcome")
        return agent

    def close(self) -> None:
        """All sockets."""
        for each in self.sockets:
            each.close()
        self.context.term()
        self.link.close()


@pytest.fixture
def fixture() -> Iterator[Fixture]:
    """A link for one test."""
    made = Fixture()
    yield made
    made.close()


def a_hello(node: int, session: str, number: int = 1, version: tuple[int, int] = (1, 0)) -> Hello:
    """Return the first message of an agent."""
    return Hello(
        version=version, install_path="/opt/old", session=session, session_number=number, node=node, agent_incarnation=1,
        controller_incarnation=0, pid=1, inventory=Inventory(host="h", cpus=1, cpus_online=1, memory_bytes=1),
        shares_run_directory=True,
    )  # fmt: skip


def say(peer: "zmq.Socket[bytes]", packet: FromAgentPacket) -> None:
    """What somebody says who will be refused, and may be before that: a socket without a connection would wait."""
    with contextlib.suppress(zmq.Again):
        peer.send(encode(packet), zmq.NOBLOCK)


def received(agent: "zmq.Socket[bytes]") -> ToAgentPacket:
    """The next packet for an agent."""
    assert agent.poll(10_000), "nothing came"
    return decode_to_agent(agent.recv()).packet


def test_an_agent_is_welcomed_and_its_facts_arrive_once(fixture: Fixture) -> None:
    agent = fixture.join(0)
    assert isinstance(received(agent).messages[0], Welcome)
    fact = encode(FromAgentPacket(session="s", seq=1, ack=1, messages=(NodeDescribed(),)))
    agent.send(fact)
    agent.send(fact)
    agent.send(encode(FromAgentPacket(session="s", seq=2, messages=(NodeDescribed(),))))

    def facts() -> int:
        return sum(isinstance(event, MessageReceived) for event in fixture.events)

    fixture.pump(lambda: facts() == 2, "two facts")
    acknowledged = []

    def is_all_acknowledged() -> bool:  # in one packet or in two, as the facts arrived
        if agent.poll(0):
            acknowledged.append(received(agent).ack)
        return 2 in acknowledged

    fixture.pump(is_all_acknowledged, "the acknowledgement")
    assert acknowledged in ([2], [1, 2])


def test_a_fact_is_not_acknowledged_before_it_is_recorded(fixture: Fixture) -> None:
    """A heartbeat that is due meanwhile says nothing about it: a controller that is killed now has not written it down."""
    agent = fixture.join(0)
    received(agent)
    agent.send(encode(FromAgentPacket(session="s", seq=1, ack=1, messages=(NodeDescribed(),))))
    events: list[SchedulerEvent] = []

    def is_here() -> bool:
        events.extend(fixture.link.receive(time.monotonic()))
        return any(isinstance(event, MessageReceived) for event in events)

    wait_until(is_here, "the fact")
    later = time.monotonic() + 2.0
    fixture.link.tick(later)
    assert received(agent).ack == 0, "a heartbeat"
    fixture.link.flush(later)
    assert received(agent).ack == 1


def test_an_unknown_key_is_denied(fixture: Fixture) -> None:
    stranger = fixture.client(KeyPair.make())
    say(stranger, FromAgentPacket(session="s", messages=(a_hello(0, "s"),)))
    fixture.pump(lambda: fixture.link.refused().get("unauthenticated_connections"), "a denial")
    assert fixture.events == []
    fixture.join(0, "good")


def test_the_viewers_key_opens_no_agents_socket(fixture: Fixture) -> None:
    viewer = fixture.client(pair_of(fixture.keys.viewer))
    say(viewer, FromAgentPacket(session="s", messages=(a_hello(0, "s"),)))
    fixture.pump(lambda: fixture.link.refused().get("unauthenticated_connections"), "a denial")
    assert fixture.events == []


def test_a_plaintext_client_and_raw_bytes_get_nowhere(fixture: Fixture) -> None:
    plain = fixture.client(None)
    say(plain, FromAgentPacket(session="s", messages=(a_hello(0, "s"),)))
    port = int(fixture.link.transport.control_endpoints[0].rpartition(":")[2])
    for payload in (b"GET / HTTP/1.0\r\n\r\n", b"\xff" * 4096, struct.pack("!Q", 1 << 62)):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
            raw.sendall(payload)
    fixture.join(0, "good")
    assert [type(event) for event in fixture.events] == [AgentJoined]


def test_an_agent_that_trusts_another_controller_never_connects(fixture: Fixture) -> None:
    misled = fixture.client(fixture.keys.agents[1], server_key=KeyPair.make().public)
    say(misled, FromAgentPacket(session="bad", messages=(a_hello(1, "bad"),)))
    fixture.join(0, "good")
    assert [event.hello.node for event in fixture.events if isinstance(event, AgentJoined)] == [0]


@pytest.mark.parametrize(
    "frames", [[b"garbage"], [b""], [b"a", b"b"], [msgspec.msgpack.encode({"session": 5})]]
)
def test_garbage_from_a_known_key_is_counted_and_the_session_continues(
    fixture: Fixture, frames: list[bytes]
) -> None:
    agent = fixture.join(0)
    agent.send_multipart(frames)
    fixture.pump(lambda: fixture.link.refused().get("malformed") == 1, "the count")
    agent.send(encode(FromAgentPacket(session="s", seq=1, messages=(NodeDescribed(),))))
    fixture.pump(lambda: isinstance(fixture.events[-1], MessageReceived), "a fact")


def test_an_oversized_frame_closes_only_its_senders_connection(fixture: Fixture) -> None:
    big, good = fixture.join(0, "a"), fixture.join(1, "b")
    big.send(b"x" * (MAX_FRAME_BYTES + 1))
    good.send(encode(FromAgentPacket(session="b", seq=1, messages=(NodeDescribed(),))))
    fixture.pump(
        lambda: any(isinstance(e, MessageReceived) and e.node == 1 for e in fixture.events),
        "the other's fact",
    )
    assert not any(isinstance(event, MessageReceived) and event.node == 0 for event in fixture.events)


def test_f15_a_key_may_speak_for_its_own_node_only(fixture: Fixture) -> None:
    agent = fixture.client(fixture.keys.agents[1])
    agent.send(encode(FromAgentPacket(session="s", messages=(a_hello(0, "s"),))))
    fixture.pump(lambda: agent.poll(0), "a refusal")
    refusal = received(agent).messages[0]
    assert isinstance(refusal, Refused)
    assert refusal.code == "wrong-identity"
    assert fixture.events == []


def test_f66_another_major_version_is_refused_by_name(fixture: Fixture) -> None:
    agent = fixture.client(fixture.keys.agents[0])
    agent.send(encode(FromAgentPacket(session="s", messages=(a_hello(0, "s", version=(2, 0)),))))
    fixture.pump(lambda: agent.poll(0), "a refusal")
    refusal = received(agent).messages[0]
    assert isinstance(refusal, Refused)
    assert refusal.code == "version-mismatch"
    assert "1.0" in refusal.reason
    assert "2.0" in refusal.reason
    assert "/opt/old" in refusal.reason
    assert [type(event) for event in fixture.events] == [AgentLost]


def test_a_late_hello_of_an_older_session_changes_nothing(fixture: Fixture) -> None:
    fixture.join(0, "new", number=2)
    late = fixture.client(fixture.keys.agents[0])
    late.send(encode(FromAgentPacket(session="old", messages=(a_hello(0, "old", number=1),))))
    fixture.pump(lambda: fixture.link.refused().get("stale_hellos") == 1, "the count")
    assert len(fixture.events) == 1


def test_packets_of_another_session_are_dropped(fixture: Fixture) -> None:
    agent = fixture.join(0)
    agent.send(encode(FromAgentPacket(session="other", seq=1, messages=(NodeDescribed(),))))
    fixture.pump(lambda: fixture.link.refused().get("stale_packets") == 1, "the count")
    assert len(fixture.events) == 1


def test_an_abandoned_node_is_refused_from_then_on(fixture: Fixture) -> None:
    agent = fixture.join(0)
    received(agent)
    fixture.link.abandon(0, "silent")
    first = received(agent).messages[0]
    assert isinstance(first, Refused)
    assert first.reason == "silent"
    agent.send(encode(FromAgentPacket(session="s", seq=1, messages=(NodeDescribed(),))))
    fixture.pump(lambda: agent.poll(0), "another refusal")
    assert isinstance(received(agent).messages[0], Refused)


def test_silence_loses_a_node_and_an_agent_that_never_reports_is_named(fixture: Fixture) -> None:
    fixture.join(0)
    reasons = lost_within(fixture.link, time.monotonic(), 100)
    assert "silent" in reasons[0]
    assert "no message" in reasons[1]


def lost_within(link: FleetLink, now: float, seconds: int) -> dict[int, str]:
    """Look after the link every second; return why each node was lost."""
    reasons: dict[int, str] = {}
    for second in range(seconds):
        for event in link.tick(now + second):
            if isinstance(event, AgentLost):
                reasons.setdefault(event.node, event.reason)
    return reasons


def test_p5_time_in_which_the_controller_was_suspended_is_not_counted_as_silence(fixture: Fixture) -> None:
    fixture.join(0)
    now = time.monotonic()
    patience = LinkTimes()
    assert lost_within(fixture.link, now, 5) == {}
    resumed = now + 5 + 10 * max(patience.lost_after_s, patience.join_within_s)
    assert lost_within(fixture.link, resumed, int(patience.lost_after_s) - 10) == {}
    assert 0 in lost_within(fixture.link, resumed + patience.lost_after_s - 10, 30), (
        "then silence counts again"
    )


# ---------------------------------------------------------------- agents of a job step make their own keys


@pytest.fixture
def step() -> Iterator[Fixture]:
    """A link whose node 1 belongs to a job step."""
    made = Fixture(RunKeys.for_step(2, (1,)))
    yield made
    made.close()


def admission_of(fixture: Fixture) -> Admission:
    assert fixture.link.transport.admission is not None
    return fixture.link.transport.admission


def say_hello(
    fixture: Fixture, pair: KeyPair, key: str = "", node: int = 1, session: str = "e"
) -> "zmq.Socket[bytes]":
    socket = fixture.client(pair)
    hello = msgspec.structs.replace(a_hello(node, session), key=key)
    socket.send(encode(FromAgentPacket(session=session, messages=(hello,))))
    return socket


def answer_to(fixture: Fixture, socket: "zmq.Socket[bytes]") -> object:
    fixture.pump(lambda: socket.poll(0), "an answer")
    return decode_to_agent(socket.recv()).packet.messages[0]


def test_s4_a_key_of_the_environment_only_names_another_one(step: Fixture) -> None:
    first, own = step.keys.enrolment[1], KeyPair.make()
    enrolling = say_hello(step, first, own.public)
    assert answer_to(step, enrolling) == Enrolled(key=own.public)
    assert step.events == []
    assert admission_of(step).node_of_key(first.public) is None
    assert admission_of(step).node_of_key(own.public) == 1
    enrolling.send(encode(FromAgentPacket(session="e", seq=1, messages=(Notice(level="warning", text="x"),))))
    step.pump(lambda: step.link.counters["stale_packets"], "a packet that does not count")
    say_hello(step, own, session="own")
    step.pump(lambda: step.events, "a hello")
    assert [event.hello.node for event in step.events if isinstance(event, AgentJoined)] == [1]


def test_s4_the_answer_to_an_enrolment_may_be_lost(step: Fixture) -> None:
    own = KeyPair.make()
    for _ in range(2):
        assert answer_to(step, say_hello(step, step.keys.enrolment[1], own.public)) == Enrolled(
            key=own.public
        )


@pytest.mark.parametrize("key", ["", "short", "~" * 40, "\x1b" * 40])
def test_s4_an_enrolment_without_a_usable_key_is_refused(step: Fixture, key: str) -> None:
    answer = answer_to(step, say_hello(step, step.keys.enrolment[1], key))
    assert isinstance(answer, Refused)
    assert answer.code == "not-enrolled"


def test_s4_a_second_agent_cannot_take_a_nodes_place(step: Fixture) -> None:
    own = KeyPair.make()
    answer_to(step, say_hello(step, step.keys.enrolment[1], own.public))
    answer = answer_to(step, say_hello(step, step.keys.enrolment[1], KeyPair.make().public))
    assert isinstance(answer, Refused)
    assert answer.code == "not-enrolled"
    assert admission_of(step).node_of_key(own.public) == 1
    answer = answer_to(step, say_hello(step, step.keys.enrolment[1], own.public, node=0))
    assert isinstance(answer, Refused)
    assert answer.code == "wrong-identity"


def test_s4_once_all_have_reported_the_keys_of_the_environment_are_void(step: Fixture) -> None:
    first, own = step.keys.enrolment[1], KeyPair.make()
    before = say_hello(step, first, own.public)
    answer_to(step, before)
    admission_of(step).end_enrolment()
    late = say_hello(step, first, KeyPair.make().public)
    step.pump(lambda: step.link.refused().get("connections_with_a_void_key"), "a refused connection")
    assert not late.poll(0)
    before.send(encode(FromAgentPacket(session="e", messages=(a_hello(1, "e"),))))
    step.pump(lambda: step.link.counters["malformed"], "an old connection's packet that does not count")
    assert step.events == []
    say_hello(step, own, session="own")
    step.pump(lambda: step.events, "the agent's own key")


def test_s4_agents_of_a_step_that_is_started_again_name_new_keys(step: Fixture) -> None:
    first, own, new = step.keys.enrolment[1], KeyPair.make(), KeyPair.make()
    answer_to(step, say_hello(step, first, own.public))
    admission_of(step).restart_enrolment()
    assert answer_to(step, say_hello(step, first, new.public)) == Enrolled(key=new.public)
    assert admission_of(step).node_of_key(own.public) is None


def test_s4_an_enrolment_key_does_not_open_the_socket_for_logs(step: Fixture) -> None:
    step.client(step.keys.enrolment[1], endpoint=step.link.transport.log_endpoints[0]).send(b"x")
    step.pump(lambda: step.link.refused().get("unauthenticated_connections"), "a refused connection")
