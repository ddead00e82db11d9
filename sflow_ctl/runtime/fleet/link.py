"""The controller's sessions with its agents, whatever carries their packets.

Turns packets into scheduler events. Keeps one `Channel` per agent session, repeats unacknowledged messages,
sends heartbeats, and notices silence. Everything a peer sends is checked and counted; nothing it sends is
fatal.
"""

import os
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

from protocol.diagnosis.signatures import Signature
from protocol.errors import MalformedMessageError
from protocol.ids import RankId
from protocol.machine.loop_watch import MOVES, Standstill
from protocol.messages.facts import Goodbye, Hello
from protocol.messages.monitor import MonitorOrders
from protocol.messages.orders import Refused, Reintroduce, ToAgent, Welcome, before_spawns
from protocol.messages.packets import FromAgentPacket
from protocol.messages.telemetry import TelemetryOrders
from protocol.session.codec import decode_from_agent
from protocol.session.packing import packed
from protocol.session.version import PROTOCOL_VERSION, is_compatible
from sflow_ctl.core.events import AgentJoined, AgentLost, MessageReceived, NodeCleared, SchedulerEvent
from sflow_ctl.runtime.peers.agent_packets import AgentPackets
from sflow_ctl.runtime.peers.peer import LinkTimes, Peer
from sflow_ctl.runtime.peers.silences import ROUND_S, Silences
from sflow_ctl.runtime.transport.transport import Arrival, Transport, Way

HEARTBEAT_S = 2.0
SPOKEN_WITHIN_S = 0.5
"""How long the thread that speaks for the loop waits for the sockets: the loop has them for a moment only."""

ABANDONED = "the run continues without this node"


class FleetLink:
    """The sessions of a run's controller with all of its agents.

    While the loop stands still, a thread may call `speak_for_loop`.
    """

    def __init__(
        self,
        transport: Transport,
        incarnation: int,
        times: LinkTimes,
        now: float,
        *,
        takes_over: bool = False,
    ) -> None:
        """`takes_over` is true after a controller that was killed: its agents do not know this one."""
        self.counters: Counter[str] = Counter()
        self.incarnation = incarnation
        self.times, self.lost_after_s, self.still_after_s = times, times.lost_after_s, times.still_after_s
        self.transport, self.waiting = transport, transport.waiting
        self._takes_over = takes_over
        # How far the controller's clock is ahead of the nodes', as a killed controller knew.
        self.known_clocks_ns: dict[int, int] = {}
        self.secrets: tuple[tuple[str, str], ...] = ()
        """(name, value) of what agents mask in the output of tasks."""
        self.signatures: tuple[Signature, ...] = ()
        """The failure signatures of the workflow: every agent gets them when it joins."""
        self.monitoring: MonitorOrders | None = None  # of most runs: no monitor
        self.telemetry: TelemetryOrders | None = None
        self.peers = [Peer(last_heard=now) for _ in range(transport.agents)]
        self.silences = Silences(self.peers, times, now)
        self._lock = threading.RLock()
        """Around every use of connections and of sessions, the wait for events included."""
        self._is_closed = False
        self._control = AgentPackets(transport.control, incarnation, self.counters)
        self._next_round = now + ROUND_S
        self._dirty: set[int] = set()
        self._unacknowledging: set[int] = set()
        """Nodes whose agents get an acknowledgement once the record is safe."""

    # ------------------------------------------------------------------ the loop's side

    def wait(self, timeout_ms: int) -> bool:
        """Wait for packets, or for what else was added to `waiting`; return whether anything is here."""
        with self._lock:
            return self.waiting.wait(timeout_ms)

    def receive(self, now: float) -> list[SchedulerEvent]:
        """Return everything that has arrived, up to a bounded number of packets."""
        events: list[SchedulerEvent] = []
        with self._lock:
            self.transport.answer()
            for arrival in self._control.receive(len(self.peers)):
                self._take(arrival, now, events)
        return events

    def speak_for_loop(self, now: float, standstill: Standstill) -> None:
        """Tell all agents that the controller lives, and take in what they send; for the thread that does so.

        Agents that connect anew get an answer, too; what packets say is left to the loop.
        """
        if not self._lock.acquire(timeout=SPOKEN_WITHIN_S):
            return  # the loop moves again
        try:
            if self._is_closed:
                return
            self.transport.answer_now()
            self._control.hold(standstill)
            for peer in self.peers:
                if peer.is_in_session and now - peer.last_sent >= HEARTBEAT_S - ROUND_S / 2:
                    self._control.put(peer, peer.channel.unacknowledging_heartbeat(), now, standstill)
        finally:
            self._lock.release()

    def send(self, node: int, message: ToAgent) -> None:
        """Queue an order; it leaves with the next `flush`, in one packet with the others of this pass."""
        peer = self.peers[node]
        if not peer.is_abandoned:
            peer.outbox.append(message)
            self._dirty.add(node)

    def accept(self, node: int, session: str, kill: tuple[RankId, ...]) -> None:
        """Start the session that a hello asked for. Unprocessed messages of an older session are dropped."""
        peer = self.peers[node]
        if peer.hello_from is None or peer.hello_from[1] != session:
            return
        with self._lock:
            peer.begin_session(*peer.hello_from)
        peer.outbox = [_welcome(self, session, kill)]
        self._dirty.add(node)

    def abandon(self, node: int, reason: str) -> None:
        """Inform the node's agent, if it is reachable, that it no longer belongs to the run; refuse it from now on."""
        peer = self.peers[node]
        peer.is_abandoned = True
        peer.outbox.clear()
        with self._lock:
            for target in {peer.way, peer.hello_from[0] if peer.hello_from else None} - {None}:
                assert target is not None
                self._control.refuse(target, peer.session, "node-abandoned", reason)

    def flush(self, now: float, *, holds_spawns: bool = False, holds_acks: bool = False) -> None:
        """Send everything queued, but nothing from an order to start on with `holds_spawns`; acknowledge unless `holds_acks`."""
        with self._lock:
            self._flush(now, holds_spawns=holds_spawns, holds_acks=holds_acks)

    def _flush(self, now: float, *, holds_spawns: bool, holds_acks: bool) -> None:
        owing = self._dirty | self._unacknowledging
        self._unacknowledging = owing if holds_acks else set()
        self._dirty = self._dirty if holds_acks else owing
        for node in self._dirty:
            peer = self.peers[node]
            peer.channel.holds_acks = holds_acks
            if peer.way is None:
                continue
            count = before_spawns(peer.outbox) if holds_spawns else len(peer.outbox)
            messages, peer.outbox = tuple(peer.outbox[:count]), peer.outbox[count:]
            if messages:
                for frame in packed(peer.channel, messages, now, partial(self._control.frame, peer)):
                    self._control.send_to(peer, frame, now)
            elif peer.channel.owes_ack and not holds_acks:
                self._control.put(peer, peer.channel.heartbeat(), now)
            peer.channel.holds_acks = True  # what arrives now is not recorded before the next call
        self._dirty = {node for node in self._dirty if holds_spawns and self.peers[node].outbox}

    def next_wakeup(self) -> float:
        """Return when `tick` is due."""
        return self._next_round

    def tick(self, now: float) -> list[SchedulerEvent]:
        """Send heartbeats and repetitions, and return agents that have been silent for too long.

        Cheap when not due.
        """
        if now < self._next_round:
            return []
        self._next_round = now + ROUND_S
        with self._lock:
            self.transport.look()
            events = self.silences.look(now)
            lost = {event.node for event in events if isinstance(event, AgentLost)}
            for node, peer in enumerate(self.peers):
                if peer.has_joined and not peer.is_abandoned and node not in lost:
                    self._keep_up(peer, now)
        return events

    def _keep_up(self, peer: Peer, now: float) -> None:
        """Repeat what an agent has not acknowledged, unless it cannot take anything now; send a heartbeat if one is due."""
        for numbered in () if peer.standstill.seconds else peer.channel.overdue(now):
            self.counters["repeated"] += 1
            self._control.put(peer, numbered, now)
        if now - peer.last_sent >= HEARTBEAT_S - ROUND_S / 2:
            self._control.put(peer, peer.channel.heartbeat(), now)

    def refused(self) -> dict[str, int]:
        """Return the counts of refused and dropped messages, by kind; for `summary.json` and the log."""
        return {kind: n for kind, n in (self.counters | self.transport.refused()).items() if n}

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            self._is_closed = True
            self.transport.close()

    # ------------------------------------------------------------------ frames

    def _take(self, arrival: Arrival, now: float, events: list[SchedulerEvent]) -> None:
        way, node, is_enrolling, frame = arrival
        if node is None:
            self.counters["malformed"] += 1
            return
        try:
            packet, unknown = decode_from_agent(frame)
        except MalformedMessageError:
            self.counters["malformed"] += 1
            return
        self.counters["unknown_messages"] += unknown
        peer = self.peers[node]
        if packet.messages and isinstance(packet.messages[0], Hello):
            hello = packet.messages[0]
            if self._may_join(node, peer, way, hello, events):
                if not is_enrolling:
                    self._take_hello(peer, way, hello, now, events)
                else:
                    self._enrol(node, way, hello)
            return
        if not is_enrolling and peer.is_abandoned:
            self._take_of_abandoned(node, way, packet, events)
            return
        if is_enrolling or packet.session != peer.session:
            self.counters["stale_packets"] += 1
            if self._takes_over and peer.newest == (0, 0):
                self._control.answer(way, packet.session, Reintroduce())
            return
        is_made_anew = way != peer.way
        peer.way = way
        peer.last_heard = now
        peer.standstill = Standstill(packet.stalled_s, packet.stalled_in) if packet.stalled_s else MOVES
        if peer.channel.receive(packet.seq, packet.ack, now):
            events += [MessageReceived(node=node, message=message) for message in packet.messages]
        if is_made_anew:
            # What was on its way through the old connection is lost; this one may break soon as well.
            for numbered in peer.channel.repeat(now) or [peer.channel.heartbeat()]:
                self._control.put(peer, numbered, now)
        self._dirty.add(node)

    def _take_of_abandoned(
        self, node: int, way: Way, packet: FromAgentPacket, events: list[SchedulerEvent]
    ) -> None:
        """Note that nothing of the run is left on the node of an abandoned agent, or refuse the agent once more."""
        self.counters["stale_packets"] += 1
        farewells = [one for one in packet.messages if isinstance(one, Goodbye)]
        if farewells and packet.session == self.peers[node].session:
            events.append(NodeCleared(node=node, survivors=farewells[0].survivors))
        else:
            self._control.refuse(way, packet.session, "node-abandoned", ABANDONED)

    def _may_join(self, node: int, peer: Peer, way: Way, hello: Hello, events: list[SchedulerEvent]) -> bool:
        """Refuse an agent that is not the key's, of another version, or of a node that the run continues without."""
        if hello.node != node:
            self.counters["wrong_identity"] += 1
            self._control.refuse(
                way,
                hello.session,
                "wrong-identity",
                f"this key belongs to node {node}, not to {hello.node}",
            )
            return False
        text = version_mismatch(hello)
        if text is not None:
            self._control.refuse(way, hello.session, "version-mismatch", text)
            events.append(AgentLost(node=node, reason=text))
            return False
        if peer.is_abandoned:
            if hello.agent_incarnation == peer.newest[0] and not (hello.live or hello.clearing):
                events.append(NodeCleared(node=node))
            self._control.refuse(way, hello.session, "node-abandoned", ABANDONED)
            return False
        return True

    def _enrol(self, node: int, way: Way, hello: Hello) -> None:
        assert self.transport.admission is not None
        answer = self.transport.admission.enrol(node, hello)
        self.counters["refused_enrolments"] += isinstance(answer, Refused)
        self._control.answer(way, hello.session, answer)

    def _take_hello(
        self, peer: Peer, way: Way, hello: Hello, now: float, events: list[SchedulerEvent]
    ) -> None:
        peer.last_heard = now
        if hello.session == peer.session:  # our welcome is late or lost; the channel repeats it
            peer.way = way
            for numbered in peer.channel.repeat(now):
                self._control.put(peer, numbered, now)
            return
        if peer.hello_from is not None and peer.hello_from[1] == hello.session:
            return  # repeated while unanswered; the first one arrived on a working connection
        order = (hello.agent_incarnation, hello.session_number)
        if order < peer.newest:
            self.counters["stale_hellos"] += 1
            return
        peer.newest = order
        if self.transport.admission is not None:
            self.transport.admission.has_joined(hello.node)
        peer.hello_from = (way, hello.session)
        clock_ahead_ns = time.time_ns() - hello.sent_at_ns if hello.sent_at_ns else 0
        if (
            self._takes_over and peer.session == ""
        ):  # it has waited for this controller: what was known is better
            clock_ahead_ns = self.known_clocks_ns.get(hello.node, 0)
        events.append(AgentJoined(hello=hello, clock_ahead_ns=clock_ahead_ns))


def refuse_all(link: FleetLink, reason: str) -> None:
    """Have all agents end, with their tasks, for the thread that speaks for the loop."""
    if not link._lock.acquire(timeout=SPOKEN_WITHIN_S):
        return
    try:
        for peer in () if link._is_closed else link.peers:
            if peer.way is not None:
                link._control.refuse(peer.way, peer.session, "run-ended", reason)
    finally:
        link._lock.release()


def _welcome(link: FleetLink, session: str, kill: tuple[RankId, ...]) -> Welcome:
    return Welcome(
        session=session, incarnation=link.incarnation, kill=kill,
        heartbeat_s=HEARTBEAT_S, orphan_grace_s=link.times.orphan_grace_s, signatures=link.signatures,
        secrets=link.secrets, monitoring=link.monitoring, telemetry=link.telemetry,
        controller_pid=os.getpid(),
    )  # fmt: skip


def version_mismatch(hello: Hello) -> str | None:
    """Return why an agent's version cannot be talked to; None when it can."""
    if is_compatible(PROTOCOL_VERSION, hello.version):
        return None
    ours, theirs = (".".join(map(str, version)) for version in (PROTOCOL_VERSION, hello.version))
    here = Path(__file__).resolve().parents[3]
    return f"the controller speaks protocol {ours} ({here}), the agent {theirs} ({hello.install_path})"
