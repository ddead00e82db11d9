"""A check of a TCP port on another host: a connection that is opened and closed."""

import socket

from sflow_agent.descriptors import Descriptors
from sflow_agent.probes.checks.check import Done
from sflow_agent.probes.http.connect import Connecting, Resolver


class ActiveTcpCheck:
    """One attempt to connect."""

    def __init__(
        self, host: str, port: int, resolver: Resolver, descriptors: Descriptors, done: Done
    ) -> None:
        self._host, self._port = host, port
        self._done = done
        self._connecting = Connecting(
            resolver, descriptors, self._connected, lambda why: self._done(False, why)
        )

    @property
    def doing(self) -> str:
        """The sentence about the missing connection."""
        return self._connecting.doing

    def begin(self) -> None:
        """Connect."""
        self._connecting.begin(self._host, self._port)

    def close(self) -> None:
        """Close the connection."""
        self._connecting.close()

    def _connected(self, connection: socket.socket) -> None:
        connection.close()
        self._done(True, f"{self._host}:{self._port} accepts connections")
