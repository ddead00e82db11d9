"""Which sockets of ZeroMQ have something to read, as the loops of both sides find it out.

To read in vain raises an error, which takes longer than to read a packet; so nothing is read that is not known to have one.
"""

import zmq

_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)


class Ready:
    """What the last wait has found readable: sockets and descriptors. Before the first wait anything may be."""

    def __init__(self) -> None:
        self._found: set[object] | None = None

    def wait(self, poller: zmq.Poller, timeout_ms: int) -> bool:
        """Wait for so many ms, or until something is readable; return whether anything is."""
        self._found = {source for source, _ in poller.poll(timeout_ms)}
        return bool(self._found)

    def __contains__(self, source: object) -> bool:
        return self._found is None or source in self._found


def has_waiting(source: "zmq.Socket[bytes]") -> bool:
    """Return whether a socket from which a message was read has another one."""
    return bool(int(source.get(_EVENTS)) & _POLLIN)
