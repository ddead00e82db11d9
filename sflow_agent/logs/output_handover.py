"""Hands the outputs of the agent's ranks to the guardian: descriptors over a socket pair.

The agent adds and removes, many in one message; the guardian receives, and drains the pipes into the logs
once the agent has died. Imports as little as possible, for the guardian.
"""

import array
import contextlib
import os
import select
import socket
import struct
import threading

from sflow_agent.logs.splicing import move

OUTPUTS_PER_MESSAGE = 100
"""Two descriptors each; a message may carry 253. Source: unix(7), SCM_MAX_FD."""
MAX_BACKLOG = 100_000
_NUMBER = struct.Struct("=q")
_MESSAGE_BYTES = OUTPUTS_PER_MESSAGE * _NUMBER.size
_DESCRIPTOR_BYTES = OUTPUTS_PER_MESSAGE * 2 * array.array("i").itemsize
PER_TURN_BYTES = 1 << 20


def make_pair() -> tuple[socket.socket, socket.socket]:
    """Return the agent's and the guardian's end. Raises: OSError."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


class OutputSender:
    """The agent's side. Nothing blocks: what the guardian cannot receive now is sent with a later `flush`."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._added: dict[int, tuple[int, int]] = {}
        self._sent: set[int] = set()
        """What the guardian has; one of them is added again when its log is another file."""
        self._removed: list[int] = []
        self.has_news = False
        """There are changes since the last `flush`."""
        self._lock = threading.Lock()
        """Removals come from the thread that moves output."""

    def add(self, number: int, pipe: int, file: int) -> None:
        """Have the guardian hold a pipe and its log, with the next `flush`."""
        with self._lock:
            self._added[number] = pipe, file
            self.has_news = True

    def remove(self, number: int) -> None:
        """Have the guardian close them again; must come before they are closed here."""
        with self._lock:
            self._added.pop(number, None)
            if number in self._sent and len(self._removed) < MAX_BACKLOG:
                self._sent.discard(number)
                self._removed.append(number)
                self.has_news = True

    def remove_all(self) -> None:
        """Have the guardian close all that it holds."""
        for number in [*self._added, *self._sent]:
            self.remove(number)

    def flush(self) -> bool:
        """Send the changes; return whether all are sent. An agent whose guardian has died ends by itself: not reported here."""
        with self._lock:
            self.has_news = False
            self._flush()
            return not self._added and not self._removed

    def _flush(self) -> None:
        while self._added:
            numbers = list(self._added)[:OUTPUTS_PER_MESSAGE]
            descriptors = array.array("i", [one for number in numbers for one in self._added[number]])
            if not self._send(numbers, [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]):
                return
            for number in numbers:
                del self._added[number]
            self._sent.update(numbers)
        while self._removed:
            numbers = self._removed[:OUTPUTS_PER_MESSAGE]
            if not self._send([-number for number in numbers], []):
                return
            del self._removed[: len(numbers)]

    def _send(self, numbers: list[int], ancillary: "list[tuple[int, int, array.array[int]]]") -> bool:
        body = b"".join(map(_NUMBER.pack, numbers))
        try:
            self._end.sendmsg([body], ancillary)
        except OSError:  # its buffer is full, or too many descriptors are on their way
            return False
        return True


class HeldOutputs:
    """The guardian's side."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._held: dict[int, tuple[int, int]] = {}

    def receive_until_closed(self) -> None:
        """Receive descriptors until the agent has died."""
        while True:
            try:
                body, ancillary, _, _ = self._end.recvmsg(
                    _MESSAGE_BYTES, socket.CMSG_SPACE(_DESCRIPTOR_BYTES), socket.MSG_CMSG_CLOEXEC
                )
            except OSError:
                return
            if not body:
                return
            self._take([number for (number,) in _NUMBER.iter_unpack(body)], ancillary)

    def _take(self, numbers: list[int], ancillary: list[tuple[int, int, bytes]]) -> None:
        descriptors = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        pairs = iter(zip(descriptors[::2], descriptors[1::2], strict=False))
        for number in numbers:
            if number < 0:
                self._close(-number)
            elif (pair := next(pairs, None)) is not None:  # else this process has no descriptors left
                self._close(number)  # its log was put back, and is another file
                self._held[number] = pair

    def drain(self, timeout_ms: int) -> None:
        """Move output into the logs, for about `timeout_ms`."""
        poller = select.poll()
        by_pipe = {pair[0]: number for number, pair in self._held.items()}
        for pipe in by_pipe:
            poller.register(pipe, select.POLLIN)
        for pipe, _ in poller.poll(timeout_ms):
            _, file = self._held[by_pipe[pipe]]
            with contextlib.suppress(OSError):
                _, is_at_end, _ = move(pipe, file, PER_TURN_BYTES, holds=False)
                if is_at_end:
                    self._close(by_pipe[pipe])

    def close(self) -> None:
        """Give up what is left: processes that could not be ended hold it open."""
        for number in list(self._held):
            self._close(number)
        self._end.close()

    def _close(self, number: int) -> None:
        for descriptor in self._held.pop(number, ()):
            os.close(descriptor)
