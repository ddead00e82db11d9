"""Exactly-once, in-order delivery between two sides of a link that may drop, repeat, delay and reorder.

A pure core: it numbers packets, keeps them until acknowledged, and decides when to repeat. ZeroMQ delivers in
order while a connection lives and loses the packets in flight when one breaks; both ends use one `Channel`
per session, and a new session (a new `Hello`) starts from the hello, not from here.
"""

from collections import deque
from typing import Generic, TypeVar

from msgspec import Struct, field

M = TypeVar("M")

RESEND_AFTER_S = 1.0
"""Far above a round trip (0.2 ms here, a few ms between nodes), far below any grace."""
MAX_UNACKNOWLEDGED = 10_000
"""The limit of packets. At the limit the other side is gone; the session is then broken and must start again."""


class Numbered(Struct, Generic[M], frozen=True):
    """A packet's content ready to be framed: the channel keeps everything unacknowledged."""

    seq: int
    ack: int
    messages: tuple[M, ...]


class Channel(Struct, Generic[M]):
    """One side of a session. `M` is the type of the messages that this side sends."""

    _next_seq: int = 1
    _expected: int = 1
    _owes_ack: bool = False
    _acknowledged: int = 0
    holds_acks: bool = False
    """While set, packets acknowledge nothing new: what they brought is not recorded safely yet."""
    _last_sent_at: float = 0.0
    _unacknowledged: deque[tuple[int, tuple[M, ...]]] = field(default_factory=deque)
    duplicates: int = 0
    gaps: int = 0

    def send(self, messages: tuple[M, ...], now: float) -> Numbered[M]:
        """Number `messages`; the caller puts the result on the wire once."""
        if not self._unacknowledged:
            self._last_sent_at = now
        seq, self._next_seq = self._next_seq, self._next_seq + 1
        self._unacknowledged.append((seq, messages))
        return Numbered(seq, self._acknowledge(), messages)

    def take_back(self) -> None:
        """Forget the packet that was numbered last and is not on the wire: it turned out to be too large for one."""
        self._unacknowledged.pop()
        self._next_seq -= 1

    def heartbeat(self) -> Numbered[M]:
        """Return an unnumbered packet that only acknowledges."""
        return Numbered(0, self._acknowledge(), ())

    def unacknowledging_heartbeat(self) -> Numbered[M]:
        """Return an unnumbered packet that acknowledges nothing new: what came last may still have to be handled."""
        return Numbered(0, self._acknowledged, ())

    def receive(self, seq: int, ack: int, now: float) -> bool:
        """Take a packet's numbers; return True when its messages are new and in order and must be handled now."""
        while self._unacknowledged and self._unacknowledged[0][0] <= ack:
            self._unacknowledged.popleft()
            self._last_sent_at = now
        if seq == 0:
            return False
        self._owes_ack = True
        if seq == self._expected:
            self._expected += 1
            return True
        if seq < self._expected:
            self.duplicates += 1
        else:
            self.gaps += 1
        return False

    def overdue(self, now: float) -> list[Numbered[M]]:
        """Return the packets that were not acknowledged for `RESEND_AFTER_S`; usually empty."""
        if now < self._last_sent_at + RESEND_AFTER_S:
            return []
        return self.repeat(now)

    def repeat(self, now: float) -> list[Numbered[M]]:
        """Return everything unacknowledged, to be sent again at once: the other side is known to lack it."""
        self._last_sent_at = now
        ack = self._acknowledge()
        return [Numbered(seq, ack, messages) for seq, messages in self._unacknowledged]

    def _acknowledge(self) -> int:
        """Return the number up to which a packet acknowledges what was received."""
        if not self.holds_acks:
            self._acknowledged = self._expected - 1
            self._owes_ack = False
        return self._acknowledged

    def unacknowledged(self) -> list[M]:
        """Return the messages that may have been lost, in order: a new session sends them again."""
        return [message for _, messages in self._unacknowledged for message in messages]

    @property
    def owes_ack(self) -> bool:
        """Return whether the other side has sent a packet that no packet of ours has acknowledged."""
        return self._owes_ack

    @property
    def is_idle(self) -> bool:
        """Return whether everything sent has been acknowledged."""
        return not self._unacknowledged

    @property
    def newest(self) -> int:
        """Return the number of the packet that was sent last; 0 before the first."""
        return self._next_seq - 1

    def has_acknowledged(self, seq: int) -> bool:
        """Return whether the other side has acknowledged this packet and all before it."""
        return not self._unacknowledged or self._unacknowledged[0][0] > seq

    @property
    def is_broken(self) -> bool:
        """Return whether the other side has stopped acknowledging for good: start a new session."""
        return len(self._unacknowledged) > MAX_UNACKNOWLEDGED

    def next_wakeup(self) -> float | None:
        """Return when `overdue` is due, or None."""
        return self._last_sent_at + RESEND_AFTER_S if self._unacknowledged else None
