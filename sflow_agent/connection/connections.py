"""The interface of an agent's connections with its controller. `network.py` and `local.py` implement it.

They know nothing of sessions. Used by `link.py`, which lets one thread at a time in.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from protocol.messages.config import AgentConfig
from protocol.messages.packets import LogAnswer, LogFrame
from sflow_agent.descriptors import Descriptors

HELD_BYTES = 64 * 1024 * 1024
"""Packets that are taken in while the loop stands still; more stay in the kernel. A window of orders has 4 MiB."""


class Dialled(Struct, eq=False):
    """One way to the controller."""

    endpoint: str
    """Its address, as the agent was given it; empty for a way without any."""
    own_address: str
    """This node's address on the way there."""


class Connections(Protocol):
    """All connections of an agent, with which its loop waits for its other descriptors, too."""

    addresses: list[tuple[str, str]]
    """Of the controller, for control and logs."""

    @property
    def dialled(self) -> Sequence[Dialled]:
        """Return the ways that are tried; the first is the one in use once there is a session."""
        ...

    @property
    def new_key(self) -> str:
        """Return the key that the controller must know before this agent uses it; empty for none."""
        ...

    def use_new_key(self, key: str) -> bool:
        """Use it, if that is the one, from the next `dial` on; return whether it is."""
        ...

    def wait(self, timeout_ms: int) -> None:
        """Wait for so many ms, or until a connection or another descriptor is ready."""
        ...

    @property
    def has_arrivals(self) -> bool:
        """Return whether something can be read, as far as is known."""
        ...

    def as_session(self, config: AgentConfig, incarnation: int, controller_pid: int | None) -> AgentConfig:
        """Return a configuration with these addresses and what the present session has."""
        ...

    def dial(self) -> None:
        """Connect to the controller, by every way that it has published."""
        ...

    def keep(self, kept: Dialled) -> None:
        """Keep this way, which works: close the others, and send logs the same way."""
        ...

    def drop(self) -> None:
        """Close all connections, to dial anew. What they have not sent is lost."""
        ...

    def close(self, linger_ms: int) -> None:
        """Close all connections once everything is sent, or after `linger_ms`."""
        ...

    def end(self) -> None:
        """Wait for what lingers; the connections are closed."""
        ...

    def receive(self) -> list[tuple[bytes, Dialled]]:
        """Return the packets that have come since the last call, up to a bounded number, and which way."""
        ...

    def hold(self) -> bool:
        """Take packets in for a later `receive`, but not heartbeats; return whether any has come."""
        ...

    def send(self, target: Dialled, frame: bytes) -> None:
        """Send a packet, unless nothing more is accepted: the channel repeats it then."""
        ...

    def send_log(self, header: LogFrame, body: bytes) -> bool:
        """Send one piece of a log or a file; return False when nothing more is accepted now."""
        ...

    def log_answers(self) -> list[tuple[LogAnswer, bytes]]:
        """Return what the controller has answered to such pieces, each with the bytes that came with it."""
        ...


def connections(config: AgentConfig, counters: "Counter[str]", descriptors: Descriptors) -> Connections:
    """Return the connections of an agent with this configuration."""
    if config.control_endpoints:
        from sflow_agent.connection.network import NetworkConnections  # ZeroMQ: 30 ms

        return NetworkConnections(config, counters, descriptors)
    from sflow_agent.connection.local import LocalConnections

    return LocalConnections(counters, descriptors)
