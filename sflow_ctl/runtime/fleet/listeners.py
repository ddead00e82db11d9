"""The ports of a controller, which anyone who reaches this machine may connect to.

Connections on which nothing is said are the kernel's: it hands them over only when there is something to read. Others
are the run's for as long as a handshake may take. When descriptors run short nothing is accepted until some are free:
libzmq would try to without pause, and the run would lack them itself. Connections of agents stay as they are.
"""

import contextlib
import os
import random
import socket
from collections.abc import Sequence

import zmq
from msgspec import Struct

from protocol.errors import LaunchError
from protocol.session.codec import MAX_FRAME_BYTES
from sflow_ctl.runtime.descriptors import Reserve, limit
from sflow_ctl.runtime.fleet.keys import KeyPair

HANDSHAKE_MS = 30_000
BACKLOG = 4096
"""Connections that wait while this process is stopped, in which agents see that it is; the kernel's limit is 4096 mostly."""
FIRST_PORT, LAST_PORT = 20_000, 60_000
TRIES = 500
DEFER_S = 600
"""How long the kernel keeps a connection on which nothing is said."""


class OpenPort(Struct, frozen=True):
    """A port that this run, or a controller of it that was killed, listens on."""

    endpoint: str
    descriptor: int
    """Kept here as long as the run lives: connections wait in the kernel while no ZeroMQ socket accepts them."""


class _Listener(Struct, frozen=True):
    owner: "zmq.Socket[bytes]"
    port: OpenPort


class Listeners:
    """All listening sockets of a run."""

    def __init__(self) -> None:
        self._all: list[_Listener] = []
        self._is_closed = False
        self._reserve = Reserve()
        self.closings = 0
        """How often nothing was accepted."""

    def router(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        pair: KeyPair,
        hosts: tuple[str, ...],
        domain: str,
        ports: Sequence[OpenPort] = (),
    ) -> tuple["zmq.Socket[bytes]", tuple[str, ...]]:
        """Return a socket of the controller that listens at each address, and its endpoints.

        `ports` are those of a controller that was killed; there are no new ones then. Raises: LaunchError.
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
        router.ipv6 = any(":" in host for host in hosts) or any("[" in port.endpoint for port in ports)
        if ports:
            for port in ports:
                self._listen(router, port)
            return router, tuple(port.endpoint for port in ports)
        return router, self.open(router, hosts)

    def ports(self) -> list[OpenPort]:
        """Return all ports, for the controller that takes over."""
        return [listener.port for listener in self._all]

    def open(self, owner: "zmq.Socket[bytes]", hosts: tuple[str, ...]) -> tuple[str, ...]:
        """Have a socket listen on a port of its own at each address; return its endpoints. Raises: LaunchError."""
        endpoints = []
        for host in hosts:
            port = self._open_somewhere(host)
            self._listen(owner, port)
            endpoints.append(port.endpoint)
        return tuple(endpoints)

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

    def shortage(self) -> str | None:
        """Return what to do if descriptors are, or were, short; else None."""
        if not self._is_closed and not self.closings and not self._reserve.is_short():
            return None
        return f"the controller may have {limit()} files open, and they are in use: raise the limit (ulimit -Hn, ulimit -n)"

    def close(self) -> None:
        """Give back what is held, and close the ports."""
        self._reserve.close()
        for listener in self._all:
            os.close(listener.port.descriptor)
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
            os.close(port.descriptor)
            raise self._error(port.endpoint, error) from error
        self._all.append(listener)

    def _open_somewhere(self, host: str) -> OpenPort:
        problem: Exception | None = None
        for _ in range(TRIES):
            try:
                return _open(host, random.randint(FIRST_PORT, LAST_PORT))
            except OSError as error:
                problem = error
        raise self._error(host, problem)

    def _error(self, host: str, problem: Exception | None) -> LaunchError:
        hint = self.shortage() or "is that an address of this machine? (--interface)"
        return LaunchError.of("no-port", f"cannot listen on a port of {host}: {problem}", hint=hint)


def _open(host: str, number: int) -> OpenPort:
    """Listen on a port. Raises: OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_S)
        port.bind((host, number))
        port.listen(BACKLOG)
        port.setblocking(False)
        shown = f"[{host}]" if ":" in host else host
        return OpenPort(f"tcp://{shown}:{number}", port.detach())


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
