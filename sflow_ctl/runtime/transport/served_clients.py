"""The ZeroMQ socket of viewers and of those who change a run. Made by `client_port.py` when the first of them comes."""

from collections.abc import Sequence
from typing import Literal

import zmq

from protocol.errors import LaunchError
from protocol.streams.waiting import Waiting
from sflow_ctl.runtime.fleet.keys import RunKeys
from sflow_ctl.runtime.transport.client_port import FromClient
from sflow_ctl.runtime.transport.listeners import Listeners
from sflow_ctl.runtime.transport.ports import OpenPort
from sflow_ctl.runtime.transport.zap import Authenticator

LINGER_MS = 200
HELD = 8
"""Descriptors that are given to the run when they are short; agents' ports hold more of them."""
Sending = Literal["sent", "full", "gone"]
"""Whether a message is on its way; "full" is to be tried again, "gone" never."""


class ServedClients:
    """All connections of clients. One thread uses it. Made by `served_clients`."""

    def __init__(
        self,
        keys: RunKeys,
        ports: Sequence[OpenPort],
        waiting: Waiting,
        context: "zmq.Context[zmq.Socket[bytes]]",
        listeners: Listeners,
    ) -> None:
        """Raises: LaunchError, zmq.ZMQError; `context` may have sockets then."""
        self._waiting, self._context, self._listeners = waiting, context, listeners
        self._auth = Authenticator(self._context)
        self._operator = zmq.curve_public(keys.operator.encode()).decode()
        for key in (zmq.curve_public(keys.viewer.encode()).decode(), self._operator):
            self._auth.allow("clients", key)
        self._socket = self._listeners.router(self._context, keys.controller, "clients", ports)
        # A full or absent viewer must be an error, not a silently lost message.
        self._socket.router_mandatory = True
        for one in (self._auth.socket, self._socket):
            waiting.add(one)

    def look(self) -> None:
        """Accept nothing while descriptors are short."""
        self._listeners.look()

    def answer(self) -> bool:
        """Answer the library who may connect; return whether messages may be here."""
        if self._waiting.take(self._auth.socket):
            self._auth.answer_all()
            self._waiting.note_use(self._socket)
        return self._waiting.take(self._socket)

    def receive(self) -> FromClient | None:
        """Return the next message; None if there is none."""
        try:
            frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None
        if len(frames) != 2:
            return FromClient(frames[0].bytes, False, None)
        key = str(frames[1].get("User-Id"))
        return FromClient(frames[0].bytes, key == self._operator, frames[1].bytes)

    def send(self, frames: Sequence[bytes]) -> Sending:
        """Send a message, of which the first frame is the routing id."""
        self._waiting.note_use(self._socket)
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return "full"
        except zmq.ZMQError:  # EHOSTUNREACH: it has gone
            return "gone"
        return "sent"

    def refused(self) -> dict[str, int]:
        """Return the counts of refused connections, by kind."""
        return {
            "unauthenticated_connections": self._auth.denied,
            "connections_with_a_void_key": self._auth.denied_revoked,
            "times_without_descriptors": self._listeners.closings,
        }

    def close(self) -> None:
        """Close every socket, and the ports."""
        self._socket.close(linger=LINGER_MS)
        self._auth.close()
        self._listeners.close()
        self._context.term()


def served_clients(keys: RunKeys, ports: Sequence[OpenPort], waiting: Waiting) -> ServedClients | None:
    """Return what serves these ports; None if that cannot be made now, because descriptors are short."""
    try:
        listeners = Listeners(HELD)
    except OSError:
        return None
    if listeners.is_short:
        listeners.give_up()
        return None
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        return ServedClients(keys, ports, waiting, context, listeners)
    except (LaunchError, OSError, zmq.ZMQError):
        listeners.give_up()
        context.destroy(linger=0)
        return None
