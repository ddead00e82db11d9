"""The ports of a controller, which anyone who reaches this machine may connect to.

Connections on which nothing is said are the kernel's: it hands them over only when there is something to read. Others
are the run's for as long as a handshake may take. When descriptors run short the ports are closed until some are free:
libzmq would try to accept without pause, and the run would lack them itself. Connections of agents stay as they are.
"""

import contextlib
import random
import socket

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


class _Listener(Struct, frozen=True):
    owner: "zmq.Socket[bytes]"
    host: str
    port: int

    @property
    def endpoint(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"


class Listeners:
    """All listening sockets of a run."""

    def __init__(self) -> None:
        self._all: list[_Listener] = []
        self._is_closed = False
        self._reserve = Reserve()
        self.closings = 0
        """How often the ports had to be closed."""

    def router(
        self, context: "zmq.Context[zmq.Socket[bytes]]", pair: KeyPair, hosts: tuple[str, ...], domain: str
    ) -> tuple["zmq.Socket[bytes]", tuple[str, ...]]:
        """Return a socket of the controller that listens at each address, and its endpoints. Raises: LaunchError."""
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
        router.ipv6 = any(":" in host for host in hosts)
        return router, self.open(router, hosts)

    def open(self, owner: "zmq.Socket[bytes]", hosts: tuple[str, ...]) -> tuple[str, ...]:
        """Have a socket listen on a port of its own at each address; return its endpoints. Raises: LaunchError."""
        endpoints = []
        for host in hosts:
            listener = self._bind_somewhere(owner, host)
            self._all.append(listener)
            endpoints.append(listener.endpoint)
        return tuple(endpoints)

    def look(self) -> None:
        """Close the ports while descriptors are short, and open them again. Cheap; called every second."""
        is_short = self._reserve.is_short()
        if is_short and not self._is_closed:
            self._is_closed = True
            self.closings += 1
            for listener in self._all:
                with contextlib.suppress(zmq.ZMQError):
                    listener.owner.unbind(listener.endpoint)
            self._reserve.release()
        elif not is_short and self._is_closed:
            reopened = [self._reopen(listener) for listener in self._all]
            self._is_closed = not all(reopened)
            self._reserve.fill()

    def shortage(self) -> str | None:
        """Return what to do if descriptors are, or were, short; else None."""
        if not self._is_closed and not self.closings and not self._reserve.is_short():
            return None
        return f"the controller may have {limit()} files open, and they are in use: raise the limit (ulimit -Hn, ulimit -n)"

    def close(self) -> None:
        """Give back what is held. The sockets close their ports themselves."""
        self._reserve.close()

    def _reopen(self, listener: _Listener) -> bool:
        with contextlib.suppress(OSError, zmq.ZMQError):
            listener.owner.unbind(
                listener.endpoint
            )  # one that has stayed open, or was opened in this way before
        try:
            _bind(listener)
        except (OSError, zmq.ZMQError):
            return False
        return True

    def _bind_somewhere(self, owner: "zmq.Socket[bytes]", host: str) -> _Listener:
        problem: Exception | None = None
        for _ in range(TRIES):
            listener = _Listener(owner, host, random.randint(FIRST_PORT, LAST_PORT))
            try:
                _bind(listener)
            except (OSError, zmq.ZMQError) as error:
                problem = error
                continue
            return listener
        hint = self.shortage() or "is that an address of this machine? (--interface)"
        raise LaunchError.of("no-port", f"cannot listen on a port of {host}: {problem}", hint=hint)


def _bind(listener: _Listener) -> None:
    """Raises: OSError, zmq.ZMQError."""
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_S)
        port.bind((listener.host, listener.port))
        port.listen(BACKLOG)
        port.setblocking(False)
        listener.owner.setsockopt(zmq.USE_FD, port.fileno())
        listener.owner.bind(listener.endpoint)
        port.detach()  # libzmq closes it
