"""How a process of this machine makes connections with one that has started it: it passes ends of them through a door.

A door is a pair of sockets, of which one end is inherited. So a connection needs no address that others could use, and no
key: only the processes that hold the inner end can make one. What is passed while no process holds the outer end's copy waits
in the kernel, as connections wait at a port. Source: unix(7), SCM_RIGHTS.
"""

import _socket  # `socket` takes 5 ms to import, and this is needed at the start
import contextlib
import os
import sys

INNER = 3
"""The number of the inner end in the process that has inherited it."""
PARTS = 2
"""Connections are passed in pairs: for control and for logs."""


def make_door() -> tuple[int, int]:
    """Return the outer end, of the process that is connected to, and the inner one. Raises: OSError."""
    outer, inner = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    outer.setblocking(False)
    return outer.detach(), inner.detach()


def connect(inner: int) -> tuple[int, ...]:
    """Return this side's ends of new connections, whose other ends are on their way. Raises: OSError if the door is closed."""
    pairs = [
        _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC) for _ in range(PARTS)
    ]
    numbers = b"".join(theirs.fileno().to_bytes(4, sys.byteorder) for _, theirs in pairs)
    door = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, inner)
    try:
        door.sendmsg(
            [b"c"],
            [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, numbers)],
            _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL,
        )
    except OSError:
        for ours, _ in pairs:
            ours.close()
        raise
    finally:
        door.detach()  # closes nothing
        for _, theirs in pairs:
            theirs.close()
    return tuple(ours.detach() for ours, _ in pairs)


def accept(outer: int) -> tuple[int, ...] | None:
    """Return the next connections that were passed through a door; None if there are none."""
    door = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, outer)
    try:
        _, parts, _, _ = door.recvmsg(
            16, _socket.CMSG_LEN(4 * PARTS), _socket.MSG_DONTWAIT | _socket.MSG_CMSG_CLOEXEC
        )
    except OSError:
        return None
    finally:
        door.detach()
    numbers = [
        int.from_bytes(content[at : at + 4], sys.byteorder)
        for _, _, content in parts
        for at in range(0, len(content) - 3, 4)
    ]
    if len(numbers) != PARTS:  # no descriptors were left for them: its owner connects again
        for number in numbers:
            with contextlib.suppress(OSError):
                os.close(number)
        return None
    return tuple(numbers)
