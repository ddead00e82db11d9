"""Lets ZeroMQ serve the ports of a controller, which anyone who reaches this machine may connect to.

Connections that say something are the run's for as long as a handshake may take. When descriptors run short nothing is
accepted until some are free: libzmq would try to without pause, and the run would lack them itself. Connections of agents
stay as they are.
"""

import contextlib
import os
import socket
from collections.abc import Sequence

import zmq
from msgspec import Struct

from protocol.session.codec import MAX_FRAME_BYTES
from sflow_ctl.runtime.descriptors import SPARE, Reserve, files_in_use
from sflow_ctl.runtime.fleet.keys import KeyPair
from sflow_ctl.runtime.transport.ports import BACKLOG, OpenPort, no_port

HANDSHAKE_MS = 30_000


class _Listener(Struct, frozen=True):
    owner: "zmq.Socket[bytes]"
    port: OpenPort


class Listeners:
    """The listening sockets that one ZeroMQ context serves."""

    def __init__(self, held: int = SPARE) -> None:
        """`held` descriptors are given to the run when they are short."""
        self._all: list[_Listener] = []
        self._is_closed = False
        self._reserve = Reserve(held)
        self.closings = 0
        """How often nothing was accepted."""

    def router(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        pair: KeyPair,
        domain: str,
        ports: Sequence[OpenPort],
    ) -> "zmq.Socket[bytes]":
        """Return a socket of the controller that serves these ports, which are closed with the listeners.

        Raises: LaunchError; the ports are the caller's then.
        """
        router = context.socket(zmq.ROUTER)
        router.linger = 0
        router.curve_server = True
        router.curve_publickey = pair.public.encode()
        router.curve_secretkey = pair.secret.encode()
        router.zap_domain = domain.encode()
        router.maxmsgsize = MAX_FRAME_BYTES
        router.handshake_ivl = HANDSHAKE_MS
        # An agent that reconnects may arrive before its old connection is noticed dead.
        router.router_handover = 1
        # A router drops messages above its high-water mark, so only viewers' bulk data, which may be lost,
        # has a low one.
        router.sndhwm = 64 if domain == "clients" else 10_000
        router.rcvhwm = 10_000 if domain == "control" else 64
        router.ipv6 = any("[" in port.endpoint for port in ports)
        for port in ports:
            self._listen(router, port)
        return router

    def ports(self) -> list[OpenPort]:
        """Return all ports, for the controller that takes over."""
        return [listener.port for listener in self._all]

    def look(self) -> None:
        """Accept nothing while descriptors are short, and again when they are not. Cheap; called every second."""
        is_short = self._reserve.is_short()
        if is_short and not self._is_closed:
            self._is_closed = True
            self.closings += 1
            for listener in self._all:
                with contextlib.suppress(zmq.ZMQError):
                    listener.owner.unbind(listener.port.endpoint)
            self._reserve.release()
        if self._is_closed:
            for listener in self._all:
                _turn_away(listener.port)
        if self._is_closed and not is_short:
            reopened = [self._reopen(listener) for listener in self._all]
            self._is_closed = not all(reopened)
            self._reserve.fill()

    @property
    def is_short(self) -> bool:
        """Return whether descriptors are short now."""
        return self._reserve.is_short()

    def shortage(self) -> str | None:
        """Return what to do if descriptors are, or were, short; else None."""
        if not self._is_closed and not self.closings and not self._reserve.is_short():
            return None
        return files_in_use()

    def close(self) -> None:
        """Give back what is held, and close the ports."""
        for listener in self._all:
            os.close(listener.port.descriptor)
        self.give_up()

    def give_up(self) -> None:
        """Give back what is held, but leave the ports as they are."""
        self._reserve.close()
        self._all.clear()

    def _reopen(self, listener: _Listener) -> bool:
        with contextlib.suppress(OSError, zmq.ZMQError):
            # One that has stayed open, or was opened in this way before.
            listener.owner.unbind(listener.port.endpoint)
        try:
            _accept(listener)
        except (OSError, zmq.ZMQError):
            return False
        return True

    def _listen(self, owner: "zmq.Socket[bytes]", port: OpenPort) -> None:
        """Let a socket accept the connections of a port. Raises: LaunchError."""
        listener = _Listener(owner, port)
        try:
            _accept(listener)
        except (OSError, zmq.ZMQError) as error:
            raise no_port(port.endpoint, error, self.shortage()) from error
        self._all.append(listener)


def _turn_away(port: OpenPort) -> None:
    """Close the connections that wait: all at once, they would take the next descriptors that are free. Agents dial again."""
    with socket.socket(fileno=os.dup(port.descriptor)) as listening, contextlib.suppress(OSError):
        for _ in range(BACKLOG):
            connection, _ = listening.accept()
            connection.close()


def _accept(listener: _Listener) -> None:
    """Give a copy of the port to its socket. Raises: OSError, zmq.ZMQError."""
    copy = os.dup(listener.port.descriptor)
    try:
        listener.owner.setsockopt(zmq.USE_FD, copy)
        listener.owner.bind(listener.port.endpoint)
    except zmq.ZMQError:
        os.close(copy)
        raise
