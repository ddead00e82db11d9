"""Sends files of this node to the controller's run directory, and fetches others from there, where the node has its own.

A thread carries out a transfer from one end to the other; the loop hands over its pieces and the answers. Pieces of a file
are acknowledged, and few are in flight: neither side keeps more of one than that.
"""

import contextlib
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple

from protocol.messages.packets import FileAnswer, FileGet, FilePut, LogFrame
from protocol.session.codec import MAX_LOG_BODY_BYTES
from sflow_agent.core.events import AgentEvent
from sflow_agent.descriptors import Descriptors

PIECE_BYTES = MAX_LOG_BODY_BYTES
IN_FLIGHT = 8
"""Pieces of one transfer: 2 MiB."""
MAX_TRANSFERS = 4
"""At a time: logs use the same connection."""
REPEAT_AFTER_S = 5.0
"""Without an answer for this time, what is in flight is sent again: it was lost with a connection, or its answer was."""
PER_PASS = 8
"""Pieces that are handed over before the loop looks at everything else."""
BLOCKED_S = 0.02
"""When it tries again after the socket has accepted nothing."""


class Heard(NamedTuple):
    """What the controller has answered."""

    head: FileAnswer
    body: bytes


class Exchange:
    """The conversation about one file, for the thread that carries it out."""

    def __init__(self, number: int, say: Callable[[LogFrame, bytes], None]) -> None:
        self.number, self._say = number, say
        self.answers: SimpleQueue[Heard] = SimpleQueue()

    def say(self, header: FilePut | FileGet, body: bytes = b"") -> None:
        """Have the loop send a message."""
        self._say(header, body)

    def hear(self) -> Heard | None:
        """Wait for an answer; return None if none has come for so long that one is lost."""
        try:
            return self.answers.get(timeout=REPEAT_AFTER_S)
        except Empty:
            return None


class FileTransfers:
    """All transfers of an agent. A source of the loop; `exchange` is for other threads."""

    def __init__(
        self, send: Callable[[LogFrame, bytes], bool], descriptors: Descriptors, first_number: int
    ) -> None:
        """`send` returns whether the message was accepted; numbers before the first one are of earlier agents of the node."""
        self._send = send
        self._outgoing: deque[tuple[LogFrame, bytes]] = deque()
        self._open: dict[int, Exchange] = {}
        self._number = first_number
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(MAX_TRANSFERS)
        self._is_blocked = False
        self._retry_at = 0.0
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        descriptors.add(self._event, select.EPOLLIN, self._wake)

    # ------------------------------------------------------------------ other threads

    @contextlib.contextmanager
    def exchange(self) -> Iterator[Exchange]:
        """Open a conversation, once there is room for it."""
        with self._room:
            with self._lock:
                self._number += 1
                one = self._open[self._number] = Exchange(self._number, self._queue)
            try:
                yield one
            finally:
                del self._open[one.number]

    def _queue(self, header: LogFrame, body: bytes) -> None:
        self._outgoing.append((header, body))
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self._event, 1)

    # ------------------------------------------------------------------ the loop

    def take(self, head: FileAnswer, body: bytes) -> None:
        """Take the controller's answer; one about a transfer that has ended is ignored."""
        self._is_blocked = False  # what was sent has left the socket
        one = self._open.get(head.transfer)
        if one is not None:
            one.answers.put(Heard(head, body))

    def next_wakeup(self) -> float | None:
        """Return when `poll` is due: at once while there is something to send."""
        if not self._outgoing:
            return None
        return self._retry_at if self._is_blocked else 0.0

    def poll(self, now: float, /) -> Sequence[AgentEvent]:
        """Send what is due, up to a bounded number of pieces."""
        if self._is_blocked and now < self._retry_at:
            return ()
        self._is_blocked = False
        for _ in range(PER_PASS):
            if not self._outgoing:
                break
            header, body = self._outgoing[0]
            if isinstance(header, FilePut | FileGet) and header.transfer not in self._open:
                self._outgoing.popleft()  # given up meanwhile
                continue
            if not self._send(header, body):
                self._is_blocked, self._retry_at = True, now + BLOCKED_S
                break
            self._outgoing.popleft()
        return ()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)
