"""The socket on which the controller and its agents exchange packets: frames in, packets out. Used by `link.py`.

Knows no rules of sessions. One thread at a time may use it.
"""

from collections import Counter

import zmq
from msgspec.structs import replace

from protocol.machine.loop_watch import MOVES, Standstill
from protocol.machine.waiting import Waiting, has_waiting
from protocol.messages.orders import Refused, ToAgent
from protocol.messages.packets import ToAgentPacket
from protocol.session.channel import Numbered
from protocol.session.codec import encode
from sflow_ctl.runtime.peers.held_packets import Frames, HeldPackets
from sflow_ctl.runtime.peers.peer import Peer

MAX_PACKETS_PER_PASS = 512
"""After so many packets the loop serves its other sources once before it reads on."""


class ControlSocket:
    """Sends packets of this controller, and returns those of agents."""

    def __init__(
        self, made: "zmq.Socket[bytes]", incarnation: int, counters: "Counter[str]", waiting: Waiting
    ) -> None:
        """`waiting` is how the loop waits for the socket."""
        self.socket, self._waiting = made, waiting
        waiting.add(made)
        self._incarnation = incarnation
        self._counters = counters
        self._held = HeldPackets()

    def receive(self, agents: int, *, has_more: bool = True) -> list[Frames]:
        """Return the packets that have arrived, up to a bounded number, of so many agents; only those taken in unless `has_more`.

        A socket hands out one of each agent in turn, so each that has sent something is heard: silence is judged after that.
        """
        packets = self._held.take()
        self._waiting.note_use(self.socket)
        most = len(packets) + max(MAX_PACKETS_PER_PASS, 2 * agents)
        while has_more and len(packets) < most and (frames := self._next()):
            packets.append(frames)
            has_more = has_waiting(self.socket)
        return packets

    def hold(self, standstill: Standstill) -> None:
        """Take packets in for a later `receive`; answer hellos that this controller lives, though its loop stands still."""
        alive = ToAgentPacket(
            session="",
            incarnation=self._incarnation,
            stalled_s=standstill.seconds,
            stalled_in=standstill.doing,
        )
        self._waiting.note_use(self.socket)
        while not self._held.is_full and (frames := self._next()):
            session = self._held.add(frames)
            if session is not None:
                self._send(frames[0].bytes, encode(replace(alive, session=session)))

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
        assert peer.routing_id is not None
        peer.last_sent = now
        self._send(peer.routing_id, frame)

    def refuse(self, routing_id: bytes, session: str, code: str, reason: str) -> None:
        """Answer a connection that this agent will never be accepted."""
        self.answer(routing_id, session, Refused(code=code, reason=reason))

    def answer(self, routing_id: bytes, session: str, message: ToAgent) -> None:
        """Send one message outside of a session."""
        packet = ToAgentPacket(session=session, incarnation=self._incarnation, messages=(message,))
        self._send(routing_id, encode(packet))

    def _next(self) -> Frames:
        """Return the next packet's frames; none if nothing has arrived."""
        try:
            frame = self.socket.recv(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return []
        frames = [frame]
        while frame.more:  # `recv_multipart` asks the socket instead, which takes longer than the frame
            frame = self.socket.recv(zmq.NOBLOCK, copy=False)
            frames.append(frame)
        return frames

    def _send(self, routing_id: bytes, frame: bytes) -> None:
        self._waiting.note_use(self.socket)
        try:
            self.socket.send_multipart((routing_id, frame), zmq.NOBLOCK)
        except (zmq.Again, zmq.ZMQError):
            self._counters["unsent"] += 1  # the channel repeats it, or the peer sends another hello
