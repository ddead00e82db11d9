"""Packets that were taken in while the controller's loop stood still, for the loop. Used by `link.py`, under its lock."""

from protocol.errors import MalformedMessageError
from protocol.messages.facts import Hello
from protocol.session.codec import decode_from_agent
from sflow_ctl.runtime.transport.transport import Arrival, Way

MOST_BYTES = 256 * 1024 * 1024
"""A thousand agents with a few full packets each; more stay in the socket."""


class HeldPackets:
    """Packets in the order in which they came. Heartbeats are left out, and all but the newest hello of a connection."""

    def __init__(self) -> None:
        self._numbered: list[Arrival] = []
        self._hellos: dict[Way, Arrival] = {}
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """True when no more may be added before `take`."""
        return self._bytes >= MOST_BYTES

    def add(self, arrival: Arrival) -> str | None:
        """Add a packet; return the session of one whose sender waits for an answer to its hello, else None."""
        try:
            packet = decode_from_agent(arrival.frame).packet
        except MalformedMessageError:
            return None
        if packet.messages and isinstance(packet.messages[0], Hello):
            self._hellos[arrival.way] = arrival
            return packet.session
        if packet.seq:
            self._numbered.append(arrival)
            self._bytes += len(arrival.frame)
        return None

    def take(self) -> list[Arrival]:
        """Return everything, and forget it."""
        if not self._numbered and not self._hellos:
            return []
        taken = [*self._numbered, *self._hellos.values()]
        self._numbered, self._hellos, self._bytes = [], {}, 0
        return taken
