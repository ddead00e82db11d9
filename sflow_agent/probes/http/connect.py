"""Makes a connected socket of a host and a port, without ever blocking the loop.

All addresses of a name are tried at once and the first that accepts wins: a server on one of two addresses of
`localhost`, or beside an address that drops packets, is found as fast as any other.
"""

import errno
import os
import select
import socket
import time
from collections.abc import Callable

from sflow_agent.descriptors import Descriptors
from sflow_agent.worker import Workers

MAX_ADDRESSES = 4
REMEMBERED_S = 10.0
"""How long the addresses of a name are reused."""
_LOCALHOST = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
Address = tuple[int, str]


class Resolver:
    """Addresses of hosts. Only names that are neither an address nor `localhost` cost a thread."""

    def __init__(self, background: Workers) -> None:
        self._background = background
        self._known: dict[str, tuple[float, tuple[Address, ...]]] = {}

    def find(self, host: str, done: Callable[[tuple[Address, ...] | OSError], None]) -> None:
        """Call `done` with the host's addresses, at once when they are known."""
        if host == "localhost":
            done(_LOCALHOST)
            return
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                socket.inet_pton(family, host.partition("%")[0])
            except (OSError, UnicodeError):
                continue
            done(((family, host),))
            return
        known = self._known.get(host)
        if known is not None and known[0] > time.monotonic():
            done(known[1])
            return

        def finished(found: tuple[Address, ...] | OSError) -> None:
            if not isinstance(found, OSError):
                self._known[host] = (time.monotonic() + REMEMBERED_S, found)
            done(found)

        self._background.run(("resolve", host), lambda: _look_up(host), finished)


def _look_up(host: str) -> tuple[Address, ...]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    addresses = dict.fromkeys((int(family), str(address[0])) for family, _, _, _, address in found)
    return tuple(addresses)[:MAX_ADDRESSES]


class Connecting:
    """One connection attempt. Exactly one of the callbacks is called, unless it is closed before."""

    def __init__(
        self,
        resolver: Resolver,
        descriptors: Descriptors,
        on_connected: Callable[[socket.socket], None],
        on_failed: Callable[[str], None],
    ) -> None:
        self._resolver = resolver
        self._descriptors = descriptors
        self._on_connected = on_connected
        self._on_failed = on_failed
        self._host, self._port = "", 0
        self._sockets: dict[int, socket.socket] = {}
        self._is_over = False
        self._why = ""
        self.doing = ""
        """The step that it waits for, for people."""

    def begin(self, host: str, port: int) -> None:
        """Look up the host and connect."""
        self._host, self._port = host, port
        self.doing = f"the address of {host} was not found"
        self._resolver.find(host, self._found)

    def close(self) -> None:
        """End the attempt."""
        self._is_over = True
        for descriptor, candidate in self._sockets.items():
            self._descriptors.remove(descriptor)
            candidate.close()
        self._sockets.clear()

    def _found(self, addresses: tuple[Address, ...] | OSError) -> None:
        if self._is_over:
            return
        if isinstance(addresses, OSError):
            self._fail(f"{self._host} has no address: {addresses.strerror or addresses}")
            return
        self.doing = f"{self._place} did not accept the connection"
        for family, address in addresses:
            self._try(family, address)
            if self._is_over:
                return
        if not self._sockets:
            self._fail(self._why or f"{self._host} has no address")

    def _try(self, family: int, address: str) -> None:
        try:
            candidate = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError as error:
            self._note(error.errno or 0)
            return
        try:
            number = candidate.connect_ex((address, self._port))
        except OSError as error:
            number = error.errno or 0
        if number == 0:
            self._win(candidate)
        elif number == errno.EINPROGRESS:
            self._sockets[candidate.fileno()] = candidate
            self._descriptors.add(
                candidate.fileno(), select.EPOLLOUT, lambda: self._concluded(candidate.fileno(), candidate)
            )
        else:
            candidate.close()
            self._note(number)

    def _concluded(self, descriptor: int, candidate: socket.socket) -> None:
        number = candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number == 0 and not _is_connected(candidate):
            return  # the event belongs to an earlier owner of the descriptor's number
        self._descriptors.remove(descriptor)
        del self._sockets[descriptor]
        if number == 0:
            self._win(candidate)
            return
        candidate.close()
        self._note(number)
        if not self._sockets:
            self._fail(self._why)

    def _win(self, candidate: socket.socket) -> None:
        self.close()
        self._on_connected(candidate)

    def _fail(self, why: str) -> None:
        self.close()
        self._on_failed(why)

    def _note(self, number: int) -> None:
        # If a name has two addresses, a refusal is more informative than an unreachable address.
        if not self._why or number == errno.ECONNREFUSED:
            self._why = f"{self._place}: {os.strerror(number).lower()}"

    @property
    def _place(self) -> str:
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"


def _is_connected(candidate: socket.socket) -> bool:
    try:
        candidate.getpeername()
    except OSError:
        return False
    return True
