"""A cable for TCP with the faults of firewalls and long ways: connections that are reset when they are old or idle, and delay."""

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field

_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: close with a reset, as a firewall does it."""


@dataclass(slots=True)
class _End:
    """One end of a connection through the wire; the bytes to write there, and when."""

    socket: socket.socket
    queue: deque[tuple[float, bytes]] = field(default_factory=deque)


@dataclass(slots=True)
class _Connection:
    ends: tuple[_End, _End]
    began: float
    last_data: float


class Wire:
    """Forwards connections to `endpoint` to `target`, in a thread."""

    def __init__(
        self, target: str, *, delay_s: float = 0.0, oldest_s: float = 1e9, longest_idle_s: float = 1e9
    ) -> None:
        """`target` is `tcp://host:port`; `delay_s` is that of each direction."""
        host, _, port = target.removeprefix("tcp://").rpartition(":")
        self._target = (host, int(port))
        self._delay_s, self._oldest_s, self.longest_idle_s = delay_s, oldest_s, longest_idle_s
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=500)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._connections: list[_Connection] = []
        self._is_closed = False
        self.too_old = 0
        """Connections that were reset for their age."""
        self.too_idle = 0
        self.pieces = 0
        """The bytes that were forwarded, in either direction."""
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """Return the address to connect to."""
        return f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """Everything that goes through it."""
        self._is_closed = True
        self._thread.join()
        for connection in list(self._connections):
            self._reset(connection)
        self._selector.close()
        self._listener.close()

    def _serve(self) -> None:
        while not self._is_closed:
            for key, _ in self._selector.select(0.01):
                if key.data is None:
                    self._accept()
                elif key.data[0] in self._connections:
                    self._read(*key.data)
            now = time.monotonic()
            for connection in list(self._connections):
                self._look_after(connection, now)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection(self._target, timeout=10)
        now = time.monotonic()
        connection = _Connection((_End(near), _End(far)), now, now)
        self._connections.append(connection)
        for index, end in enumerate(connection.ends):
            end.socket.setblocking(False)
            self._selector.register(end.socket, selectors.EVENT_READ, (connection, index))

    def _read(self, connection: _Connection, index: int) -> None:
        try:
            data = connection.ends[index].socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._reset(connection)
            return
        self.pieces += 1
        connection.last_data = time.monotonic()
        connection.ends[1 - index].queue.append((connection.last_data + self._delay_s, data))

    def _look_after(self, connection: _Connection, now: float) -> None:
        for end in connection.ends:
            while end.queue and end.queue[0][0] <= now:
                due, data = end.queue.popleft()
                try:
                    sent = end.socket.send(data)
                except BlockingIOError:
                    sent = 0
                except OSError:
                    self._reset(connection)
                    return
                if sent < len(data):
                    end.queue.appendleft((due, data[sent:]))
                    break
        if now - connection.began > self._oldest_s:
            self.too_old += 1
        elif now - connection.last_data > self.longest_idle_s:
            self.too_idle += 1
        else:
            return
        self._reset(connection)

    def _reset(self, connection: _Connection) -> None:
        self._connections.remove(connection)
        for end in connection.ends:
            with contextlib.suppress(KeyError):
                self._selector.unregister(end.socket)
            end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            end.socket.close()
