"""What the two sockets carry: packets, which are numbered batches of messages, and chunks of logs with their acknowledgements.

`session.channel` numbers packets, `session.codec` packs them.
"""

import msgspec

from protocol.ids import RankId
from protocol.messages.base import Message
from protocol.messages.facts import FromAgent
from protocol.messages.orders import ToAgent


class ToAgentPacket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A frame to an agent."""

    session: str
    """As the agent's `Hello` named it."""
    incarnation: int
    """Of the controller: an agent obeys the highest one only."""
    seq: int = 0
    """Its number in this direction and session, from 1; 0 for a heartbeat."""
    ack: int = 0
    """All packets of the agent up to this number have been handled."""
    messages: tuple[ToAgent, ...] = ()
    stalled_s: float = 0.0
    """For so long the controller's loop has stood still, for which a thread of its process speaks; 0 while it moves."""
    stalled_in: str = ""
    """What holds it up, for people: "stat of /mnt/x (output.py:81)"."""


class FromAgentPacket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A frame from an agent."""

    session: str
    """As its `Hello` names it."""
    seq: int = 0
    """Its number in this direction and session, from 1; 0 for a `Hello` or a heartbeat."""
    ack: int = 0
    """All packets of the controller up to this number have been handled."""
    messages: tuple[FromAgent, ...] = ()
    stalled_s: float = 0.0
    """For so long the agent's loop has stood still, for which a thread of its process speaks; 0 while it moves."""
    stalled_in: str = ""
    """What holds it up, for people: "stat of /mnt/x (output.py:81)"."""


class LogChunk(Message, frozen=True, kw_only=True, tag="log_chunk"):
    """Bytes of a log at `offset`; they travel as the frame after this header, at most 256 KiB."""

    rank: RankId
    offset: int
    is_spool: bool = False
    """The controller must append them to its own file: the run directory is not shared."""
    is_end: bool = False
    """The rank has ended and its log stops here. The body may be empty."""


class LogAck(Message, frozen=True, kw_only=True, tag="log_ack"):
    """All bytes of the rank's log before `offset` are stored; more may be sent."""

    rank: RankId
    offset: int
