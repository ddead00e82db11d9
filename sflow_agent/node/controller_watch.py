"""Tells a controller that is stopped (Ctrl-Z, a suspended job) from one that is dead, from another machine.

The kernel of the controller's machine accepts connections for it while it is stopped, but a stopped process sends
nothing; a running one sends its greeting at once. Used by `link.py` while the controller is silent.
"""

import contextlib
import socket

_KEEPALIVE = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
"""The machine of a stopped controller must answer every 5 s; without 3 answers it counts as gone."""

_GREETING = b"\xff"
"""The first byte of ZMTP's greeting. The controller's kernel keeps connections from it on which nothing is said."""


REFUSED_WITHIN_S = 0.2


class ControllerWatch:
    """One connection to the controller's port, held while the controller is silent."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._has_spoken = False

    @property
    def is_open(self) -> bool:
        """True between `open` and `close`, and until the controller has spoken or has gone."""
        return self._socket is not None

    def open(self, endpoint: str) -> None:
        """Begin to connect to `tcp://HOST:PORT`; `speak` looks how far that has come."""
        self._has_spoken = False
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        with contextlib.suppress(OSError):
            made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            self._socket = made
            made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                made.setsockopt(socket.IPPROTO_TCP, option, value)
            made.connect_ex((host.strip("[]"), int(port)))

    def speak(self) -> None:
        """Begin a greeting as soon as there is a connection; called now and then while this is open."""
        if self._socket is None or self._has_spoken:
            return
        with contextlib.suppress(OSError):  # not connected yet, or refused
            self._has_spoken = self._socket.send(_GREETING, socket.MSG_NOSIGNAL) > 0

    def is_stopped(self) -> bool:
        """Return whether the controller's machine holds the connection, and the controller has not answered on it."""
        if self._socket is None or not self._has_spoken:
            return False
        try:
            self._socket.recv(1)
        except BlockingIOError:
            return True
        except OSError:
            pass
        self.close()
        return False

    def close(self) -> None:
        """Give the connection up. May be called at any time."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def is_refused(endpoint: str) -> bool:
    """Return whether the host of an address says that nothing listens there: the process that did has died."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=REFUSED_WITHIN_S):
            return False
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
