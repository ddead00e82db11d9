"""The agent's threads for work that may block: name lookups, certificates, logs, drivers.

Work is done in lanes, each with its own limit, so that a lane whose work never returns delays no other.
Results are returned in the loop's own thread. Threads are started when there is work and end when there is
none.
"""

import contextlib
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import Struct, field

from protocol.machine.loop_signals import QuietThread
from sflow_agent.descriptors import Descriptors

T = TypeVar("T")
STUCK_AFTER_S = 1.0
"""Work that takes longer waits for a file system that may never answer: its thread does not count, so others go on."""
MAX_THREADS = 256
"""The limit of lookups: only names that stall at the same time need a thread each."""


class Lane(Struct, eq=False):
    """Work of one kind: at most `threads` at a time that are not stuck, and at most `queued` waiting for a thread."""

    name: str
    threads: int
    queued: int
    _began: "dict[object, float]" = field(default_factory=dict)
    """When each thread began with what it does now; monotonic s."""
    _has_stand_by: bool = False
    _queue: "deque[tuple[object, Callable[[], object]]]" = field(default_factory=deque)

    def is_full(self, now: float) -> bool:
        """Return whether more work must wait for a thread."""
        if self.queued == 0 or len(self._began) >= MAX_THREADS:
            return len(self._began) >= self.threads
        return sum(now - began < STUCK_AFTER_S for began in self._began.values()) >= self.threads


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
            if lane.is_full(time.monotonic()):
                if len(lane._queue) >= lane.queued:
                    self._finish(key, OSError(0, f"too many {lane.name} do not return"))
                else:
                    lane._queue.append((key, work))
                    self._have_stand_by(lane)
                return
            lane._began[key] = time.monotonic()
        QuietThread(self._work, lane.name, (lane, key, work)).start()

    def _have_stand_by(self, lane: Lane) -> None:
        """Start a thread that takes over what waits once the threads of a lane are stuck. The lock is held."""
        if not lane._has_stand_by:
            lane._has_stand_by = True
            QuietThread(self._stand_by, lane.name, (lane,)).start()

    def _stand_by(self, lane: Lane) -> None:
        while True:
            time.sleep(STUCK_AFTER_S)
            with self._lock:
                is_free = not lane.is_full(time.monotonic())
                if lane._queue and not is_free:
                    continue
                lane._has_stand_by = False
                if not lane._queue:
                    return
                key, work = lane._queue.popleft()
                lane._began[key] = time.monotonic()
                if lane._queue:
                    self._have_stand_by(lane)
            self._work(lane, key, work)
            return

    def _work(self, lane: Lane, key: object, work: Callable[[], object]) -> None:
        while True:
            try:
                result: object = work()
            except Exception as error:  # noqa: BLE001 - the lane lives on, and the owner gets the error
                result = (
                    error if isinstance(error, OSError) else OSError(0, f"{type(error).__name__}: {error}")
                )
            with self._lock:  # before the owner has the result: it may ask for more at once
                del lane._began[key]
                following = lane._queue.popleft() if lane._queue else None
                if following is not None:
                    lane._began[following[0]] = time.monotonic()
            self._finish(key, result)
            if following is None:
                return
            key, work = following

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
