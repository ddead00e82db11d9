"""How the loops of both sides wait: one epoll for plain descriptors and for sockets of ZeroMQ, which it does not import.

`zmq_poll` asks every socket before and after it waits, by two system calls each. Here a socket is asked only if it was
used since the last wait. To read in vain raises an error, which takes longer than to read a packet; so nothing is read
that is not known to have one.
"""

import select
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import zmq

_FD, _EVENTS, _POLLIN = 14, 15, 1
"""Source: zmq.h, ZMQ_FD, ZMQ_EVENTS, ZMQ_POLLIN."""


class Waiting:
    """What a loop waits for, and what its last wait has found ready. Before the first wait anything may be.

    A socket's own descriptor becomes readable once, when something comes, and what comes is noticed with any other use
    of the socket as well: each use must be noted with `take` or `note_use`. Source: zmq_getsockopt(3), ZMQ_FD.
    """

    def __init__(
        self, epoll: select.epoll | None = None, sockets: "Iterable[zmq.Socket[bytes]]" = ()
    ) -> None:
        """Wait with this epoll, to which its owner may add descriptors, or with one of its own; for these sockets first."""
        self._epoll = select.epoll() if epoll is None else epoll
        self._sockets: dict[int, zmq.Socket[bytes]] = {}
        """By descriptor."""
        self._descriptors: dict[zmq.Socket[bytes], int] = {}
        self._used: set[zmq.Socket[bytes]] = set()
        """Used since the last wait."""
        self._found: set[object] | None = None
        self.descriptors: list[int] = []
        """The plain descriptors that the last wait has found ready."""
        for source in sockets:
            self.add(source)

    def add(self, source: "zmq.Socket[bytes] | int") -> None:
        """Wait for a socket, or for a descriptor to be readable, from now on. Any thread may add a descriptor."""
        if isinstance(source, int):
            self._epoll.register(source, select.EPOLLIN)
            return
        descriptor = int(source.get(_FD))
        self._sockets[descriptor], self._descriptors[source] = source, descriptor
        self._epoll.register(descriptor, select.EPOLLIN)
        self._used.add(source)

    def change(self, descriptor: int, events: int) -> None:
        """Wait for other events of a plain descriptor, as `select.EPOLLIN | select.EPOLLOUT`."""
        self._epoll.modify(descriptor, events)

    def remove(self, source: "zmq.Socket[bytes] | int") -> None:
        """Wait for it no more, if it is waited for; must come before it is closed."""
        if isinstance(source, int):
            self._epoll.unregister(source)
            return
        descriptor = self._descriptors.pop(source, None)
        if descriptor is not None:
            del self._sockets[descriptor]
            self._epoll.unregister(descriptor)
        self._used.discard(source)

    def note_use(self, source: "zmq.Socket[bytes]") -> None:
        """Note that a socket was read from or written to."""
        self._used.add(source)

    def take(self, source: "zmq.Socket[bytes]") -> bool:
        """Return whether a socket may have something; its owner reads it now, and gets this answer once."""
        if self._found is not None:
            if source not in self._found:
                return False
            self._found.remove(source)
        self._used.add(source)
        return True

    def wait(self, timeout_ms: int) -> bool:
        """Wait for so many ms, -1 for ever, or until something is ready; return whether anything is."""
        found: set[object] = set()
        if self._used:
            found = {source for source in self._used if has_waiting(source)}
            self._used &= found
        ready = self._epoll.poll(0 if found else timeout_ms / 1000 if timeout_ms >= 0 else -1)
        if not self._sockets:
            self.descriptors = [descriptor for descriptor, _ in ready]
            found.update(self.descriptors)
        else:
            self.descriptors = []
            for descriptor, _ in ready:
                source = self._sockets.get(descriptor)
                if source is None:
                    self.descriptors.append(descriptor)
                found.add(descriptor if source is None else source)
        self._found = found
        return bool(found)

    def ready_of(self, descriptors: "Collection[int]") -> list[int]:
        """Return which of these plain descriptors the last wait has found ready; all before the first."""
        if self._found is None:
            return list(descriptors)
        return [descriptor for descriptor in self.descriptors if descriptor in descriptors]

    def __contains__(self, source: object) -> bool:
        return self._found is None or source in self._found


def has_waiting(source: "zmq.Socket[bytes]") -> bool:
    """Return whether a socket has a message to read."""
    return bool(int(source.get(_EVENTS)) & _POLLIN)
