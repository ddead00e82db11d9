"""The port of viewers and of those who change a run. ZeroMQ serves it from the first connection on: many runs have none.

Owned by the output thread, which has the clients' bulk. Their keys are the run's, in files of the run directory.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from protocol.streams.waiting import Waiting
from sflow_ctl.runtime.fleet.keys import RunKeys
from sflow_ctl.runtime.transport.ports import OpenPort, open_ports

if TYPE_CHECKING:
    from sflow_ctl.runtime.transport.served_clients import Sending, ServedClients

LOOK_EVERY_S = 1.0


class FromClient(NamedTuple):
    """A message of a client."""

    routing_id: bytes
    is_operator: bool
    """It may change the run."""
    frame: bytes | None
    """None for something that no client sends."""


class ClientPort:
    """The port, and what serves it once someone has come."""

    def __init__(self, keys: RunKeys, hosts: tuple[str, ...], ports: Sequence[OpenPort] = ()) -> None:
        """`ports` are those of a controller that was killed; there are no new ones then. Raises: LaunchError."""
        self._keys = keys
        self._ports = list(ports) or open_ports(hosts)
        self.endpoints = tuple(port.endpoint for port in self._ports)
        self._waiting: Waiting | None = None
        self._served: ServedClients | None = None
        self._is_awaited = False
        """Someone has come."""
        self._look_at = 0.0

    def ports(self) -> list[OpenPort]:
        """Return the ports, for the controller that takes over."""
        return self._ports

    def watch(self, waiting: Waiting) -> None:
        """Have the thread that owns this find what arrives, by its wait."""
        self._waiting = waiting
        for port in self._ports:
            waiting.add(port.descriptor)

    def wake_at(self) -> float | None:
        """Return when `serve` is due without anything arriving."""
        return self._look_at if self._is_awaited else None

    def serve(self, now: float) -> bool:
        """Let clients in that knock; return whether there may be messages to be received."""
        assert self._waiting is not None
        if not self._is_awaited:
            if not self._waiting.ready_of([port.descriptor for port in self._ports]):
                return False
            self._is_awaited = True
            for port in self._ports:
                self._waiting.remove(port.descriptor)
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            if self._served is None:
                self._begin(self._waiting)
            else:
                self._served.look()
        return self._served is not None and self._served.answer()

    def receive(self) -> FromClient | None:
        """Return the next message; None if there is none."""
        return None if self._served is None else self._served.receive()

    def send(self, frames: Sequence[bytes]) -> "Sending":
        """Send a message, of which the first frame is the routing id."""
        return "gone" if self._served is None else self._served.send(frames)

    def refused(self) -> dict[str, int]:
        """Return the counts of refused connections, by kind."""
        return {} if self._served is None else self._served.refused()

    def close(self) -> None:
        """Close the port, and all connections. The thread has ended."""
        if self._served is not None:
            self._served.close()
        else:
            for port in self._ports:
                os.close(port.descriptor)

    def _begin(self, waiting: Waiting) -> None:
        """Have ZeroMQ serve the port; where descriptors are short, the next call tries again."""
        try:
            from sflow_ctl.runtime.transport.served_clients import served_clients  # ZeroMQ: 30 ms
        except (ImportError, OSError):
            return
        self._served = served_clients(self._keys, self._ports, waiting)
