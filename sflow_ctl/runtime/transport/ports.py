"""Ports on which a run listens, without what serves them: that is made when it is needed.

Connections on which nothing is said are the kernel's: it hands them over only when there is something to read.
"""

import _socket  # `socket` takes 2 ms to import, and every run has a port
import errno
import os

from msgspec import Struct

from protocol.errors import LaunchError
from sflow_ctl.runtime.descriptors import files_in_use

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


def open_ports(hosts: tuple[str, ...]) -> list[OpenPort]:
    """Listen on a port at each address. Raises: LaunchError; none is open then."""
    ports: list[OpenPort] = []
    try:
        ports.extend(_open_somewhere(host) for host in hosts)
    except LaunchError:
        for port in ports:
            os.close(port.descriptor)
        raise
    return ports


def no_port(where: str, problem: Exception | None, shortage: str | None = None) -> LaunchError:
    """Return the error about a port that cannot be listened on."""
    hint = shortage or "is that an address of this machine? (--interface)"
    return LaunchError.of("no-port", f"cannot listen on a port of {where}: {problem}", hint=hint)


def _open_somewhere(host: str) -> OpenPort:
    problem: OSError | None = None
    for _ in range(TRIES):
        number = FIRST_PORT + int.from_bytes(os.urandom(4), "little") % (LAST_PORT - FIRST_PORT + 1)
        try:
            return _open(host, number)
        except OSError as error:
            problem = error
    assert problem is not None
    raise no_port(host, problem, files_in_use() if problem.errno in (errno.EMFILE, errno.ENFILE) else None)


def _open(host: str, number: int) -> OpenPort:
    """Listen on a port. Raises: OSError."""
    family = _socket.AF_INET6 if ":" in host else _socket.AF_INET
    port = _socket.socket(family, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        port.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        port.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_DEFER_ACCEPT, DEFER_S)
        port.bind((host, number))
        port.listen(BACKLOG)
        port.setblocking(False)
        shown = f"[{host}]" if ":" in host else host
        return OpenPort(f"tcp://{shown}:{number}", port.detach())
    finally:
        port.close()  # nothing, once it is detached
