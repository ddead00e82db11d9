"""Packets: numbered batches of messages on the link."""

import msgspec

from protocol.messages.facts import FromAgent
from protocol.messages.orders import ToAgent


class ToAgentPacket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What crosses the control socket towards an agent. See `protocol.session.channel` for `seq` and `ack`."""

    session: str
    incarnation: int
    seq: int = 0
    ack: int = 0
    messages: tuple[ToAgent, ...] = ()


class FromAgentPacket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What crosses the control socket from an agent. `seq` 0 is not numbered: a `Hello`, or a heartbeat."""

    session: str
    seq: int = 0
    ack: int = 0
    messages: tuple[FromAgent, ...] = ()
