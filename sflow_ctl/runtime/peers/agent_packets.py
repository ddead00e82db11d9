"""The packets that the controller and its agents exchange. Used by `link.py`.

Knows no rules of sessions, and not how packets travel. One thread at a time may use it.
"""

from collections import Counter

from msgspec.structs import replace

from protocol.machine.loop_watch import MOVES, Standstill
from protocol.messages.orders import Refused, ToAgent
from protocol.messages.packets import ToAgentPacket
from protocol.session.channel import Numbered
from protocol.session.codec import encode
from sflow_ctl.runtime.peers.held_packets import HeldPackets
from sflow_ctl.runtime.peers.peer import Peer
from sflow_ctl.runtime.transport.transport import Arrival, ControlChannel, Way

MAX_PACKETS_PER_PASS = 512
"""After so many packets the loop serves its other sources once before it reads on."""
HELD_AT_ONCE = 64


class AgentPackets:
    """Sends packets of this controller, and returns those of agents."""

    def __init__(self, channel: ControlChannel, incarnation: int, counters: "Counter[str]") -> None:
        self._channel = channel
        self._incarnation = incarnation
        self._counters = counters
        self._held = HeldPackets()

    def receive(self, agents: int) -> list[Arrival]:
        """Return the packets that have arrived, up to a bounded number, of so many agents, with those that were taken in.

        Each agent that has sent something is heard: silence is judged after that.
        """
        found = self._channel.receive(max(MAX_PACKETS_PER_PASS, 2 * agents))
        held = self._held.take()
        return [*held, *found] if held else found

    def hold(self, standstill: Standstill) -> None:
        """Take packets in for a later `receive`; answer hellos that this controller lives, though its loop stands still."""
        alive = ToAgentPacket(
            session="",
            incarnation=self._incarnation,
            stalled_s=standstill.seconds,
            stalled_in=standstill.doing,
        )
        while not self._held.is_full and (arrivals := self._channel.receive_now(HELD_AT_ONCE)):
            for arrival in arrivals:
                session = self._held.add(arrival)
                if session is not None:
                    self._send(arrival.way, encode(replace(alive, session=session)))

    def put(
        self, peer: Peer, numbered: Numbered[ToAgent], now: float, standstill: Standstill = MOVES
    ) -> None:
        """Send a packet of an agent's session."""
        self.send_to(peer, self.frame(peer, numbered, standstill), now)

    def frame(self, peer: Peer, numbered: Numbered[ToAgent], standstill: Standstill = MOVES) -> bytes:
        """Return the frame of a packet of an agent's session."""
        packet = ToAgentPacket(
            session=peer.session,
            incarnation=self._incarnation,
            seq=numbered.seq,
            ack=numbered.ack,
            messages=numbered.messages,
            stalled_s=standstill.seconds,
            stalled_in=standstill.doing,
        )
        return encode(packet)

    def send_to(self, peer: Peer, frame: bytes, now: float) -> None:
        """Send a frame to an agent."""
        assert peer.way is not None
        peer.last_sent = now
        self._send(peer.way, frame)

    def refuse(self, way: Way, session: str, code: str, reason: str) -> None:
        """Answer a connection that this agent will never be accepted."""
        self.answer(way, session, Refused(code=code, reason=reason))

    def answer(self, way: Way, session: str, message: ToAgent) -> None:
        """Send one message outside of a session."""
        packet = ToAgentPacket(session=session, incarnation=self._incarnation, messages=(message,))
        self._send(way, encode(packet))

    def _send(self, way: Way, frame: bytes) -> None:
        if not self._channel.send(way, frame):
            self._counters["unsent"] += 1  # the channel repeats it, or the peer sends another hello
