"""What cannot be done without blocking (name lookups, reading certificates), in threads that are made when needed.

A thread that never comes back costs its own key and nobody else: others have other threads. Results are handed
over in the loop's own thread.
"""

import contextlib
import os
import select
import signal
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from sflow_agent.descriptors import Descriptors

T = TypeVar("T")
MAX_THREADS = 256
"""Only as many names as stall at the same time need one each."""


class Workers:
    """Work under way, by key: asked for twice, it is done once."""

    def __init__(self, descriptors: Descriptors) -> None:
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._waiting: dict[object, list[Callable[[Any], None]]] = {}
        self._finished: deque[tuple[object, object]] = deque()
        descriptors.add(self._event, select.EPOLLIN, self._hand_over)

    def run(self, key: object, work: Callable[[], T], done: Callable[[T | OSError], None]) -> None:
        """Calls `done`, later, with the result of `work` or the error it raised."""
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(done)
            return
        self._waiting[key] = [done]
        if len(self._waiting) > MAX_THREADS:
            self._finish(key, OSError(0, "too many lookups do not come back"))
            return
        threading.Thread(target=self._work, args=(key, work), name="background", daemon=True).start()

    def _work(self, key: object, work: Callable[[], object]) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # signals are the loop's
        try:
            result: object = work()
        except (OSError, UnicodeError) as error:
            result = error if isinstance(error, OSError) else OSError(0, str(error))
        self._finish(key, result)

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
