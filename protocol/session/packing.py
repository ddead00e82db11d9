"""Divides messages into packets that no socket refuses: a frame over its limit costs the connection, and so the node.

Both sides' `link.py` send what comes out of here.
"""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from protocol.messages.facts import FromAgent
from protocol.messages.orders import Spawn, ToAgent
from protocol.session.channel import Channel, Numbered
from protocol.session.codec import MAX_PACKET_BYTES

Orders = tuple[ToAgent, ...]
FACTS_IN_A_PACKET = 256
"""A fact has a few KiB at most: the quoted end of a log."""


def parts_of(facts: Sequence[FromAgent]) -> Iterator[tuple[FromAgent, ...]]:
    """Divide an agent's facts into packets."""
    for first in range(0, len(facts), FACTS_IN_A_PACKET):
        yield tuple(facts[first : first + FACTS_IN_A_PACKET])


def packed(
    channel: Channel[ToAgent], orders: Orders, now: float, frame_of: Callable[[Numbered[ToAgent]], bytes]
) -> Iterator[bytes]:
    """Number the orders and yield their frames. Only orders that turn out to be too large for one cost more than that."""
    frame = frame_of(channel.send(orders, now))
    parts = _halves(orders) if len(frame) > MAX_PACKET_BYTES else None
    if parts is None:
        yield frame
        return
    channel.take_back()
    for part in parts:
        yield from packed(channel, part, now, frame_of)


def _halves(orders: Orders) -> tuple[Orders, Orders] | None:
    """Divide orders, or the ranks of the only one; None for what is one piece."""
    if len(orders) > 1:
        middle = len(orders) // 2
        return orders[:middle], orders[middle:]
    (order,) = orders
    if not isinstance(order, Spawn) or len(order.ranks) < 2:
        return None
    middle = len(order.ranks) // 2
    return (
        (msgspec.structs.replace(order, ranks=order.ranks[:middle]),),
        (msgspec.structs.replace(order, ranks=order.ranks[middle:]),),
    )
