"""Descriptors of checks in the agent's epoll, each with what to call when it is ready."""

import contextlib
import select
from collections.abc import Callable


class Descriptors:
    """Who is called for which descriptor."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self._on_ready: dict[int, Callable[[], None]] = {}

    def add(self, descriptor: int, events: int, on_ready: Callable[[], None]) -> None:
        """Calls `on_ready` while the descriptor is ready for one of `events`."""
        self._epoll.register(descriptor, events)
        self._on_ready[descriptor] = on_ready

    def change(self, descriptor: int, events: int) -> None:
        """Waits for other events from now on."""
        self._epoll.modify(descriptor, events)

    def remove(self, descriptor: int) -> None:
        """Must come before the descriptor is closed. One that is not watched is no matter."""
        if self._on_ready.pop(descriptor, None) is not None:
            with contextlib.suppress(FileNotFoundError):
                self._epoll.unregister(descriptor)

    def owns(self, descriptor: int) -> bool:
        """True for one that was added."""
        return descriptor in self._on_ready

    def ready(self, descriptor: int) -> None:
        """The descriptor is ready."""
        on_ready = self._on_ready.get(descriptor)
        if on_ready is not None:  # else removed by another one's event of the same pass
            on_ready()
