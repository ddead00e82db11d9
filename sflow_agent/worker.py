"""The agent's threads for work that may block: name lookups, certificates, logs, drivers.

Work is done in lanes, each with its own limit, so that a lane whose work never returns delays no other.
Results are returned in the loop's own thread. Threads are started when there is work and end when there is
none.
"""

import contextlib
import os
import select
import signal
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import Struct, field

from sflow_agent.descriptors import Descriptors

T = TypeVar("T")
MAX_THREADS = 256
"""The limit of lookups: only names that stall at the same time need a thread each."""


class Lane(Struct, eq=False):
    """Work of one kind: at most `threads` at a time, and at most `queued` waiting for a thread."""

    name: str
    threads: int
    queued: int
    _active: int = 0
    _queue: "deque[tuple[object, Callable[[], object]]]" = field(default_factory=deque)


class Workers:
    """Work in progress, by key: requested twice, it is done once."""

    def __init__(self, descriptors: Descriptors) -> None:
        self.lookups = Lane("lookups", threads=MAX_THREADS, queued=0)
        """Answers that may never arrive."""
        self.reading = Lane("reading", threads=2, queued=1_000_000)
        """Logs and files of ranks: reading one rank's files does not delay all others."""
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._waiting: dict[object, list[Callable[[Any], None]]] = {}
        self._finished: deque[tuple[object, object]] = deque()
        self._lock = threading.Lock()
        descriptors.add(self._event, select.EPOLLIN, self._hand_over)

    def run(
        self,
        key: object,
        work: Callable[[], T],
        done: Callable[[T | OSError], None],
        lane: Lane | None = None,
    ) -> None:
        """Call `done`, later, with the result of `work` or the error it raised.

        Without a lane it is a lookup.
        """
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(done)
            return
        self._waiting[key] = [done]
        lane = lane or self.lookups
        with self._lock:
            if lane._active >= lane.threads:
                if len(lane._queue) >= lane.queued:
                    self._finish(key, OSError(0, f"too many {lane.name} do not return"))
                else:
                    lane._queue.append((key, work))
                return
            lane._active += 1
        threading.Thread(target=self._work, args=(lane, key, work), name=lane.name, daemon=True).start()

    def _work(self, lane: Lane, key: object, work: Callable[[], object]) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # signals are the loop's
        while True:
            try:
                result: object = work()
            except Exception as error:  # noqa: BLE001 - the lane lives on, and the owner gets the error
                result = (
                    error if isinstance(error, OSError) else OSError(0, f"{type(error).__name__}: {error}")
                )
            self._finish(key, result)
            with self._lock:
                if not lane._queue:
                    lane._active -= 1
                    return
                key, work = lane._queue.popleft()

    def _finish(self, key: object, result: object) -> None:
        self._finished.append((key, result))
        with contextlib.suppress(BlockingIOError):  # it is readable already
            os.eventfd_write(self._event, 1)

    def _hand_over(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)
        while self._finished:
            key, result = self._finished.popleft()
            for done in self._waiting.pop(key):
                done(result)
