"""The agent's epoll: maps file descriptors to the functions that are called when they are ready."""

import contextlib
import select
from collections.abc import Callable, Sequence

from sflow_agent.core.events import AgentEvent


class Descriptors:
    """The watched descriptors. A source of the loop: `poll` calls the functions of those that are ready."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self._on_ready: dict[int, Callable[[], None]] = {}

    @property
    def fileno(self) -> int:
        """Return a descriptor that is readable while any of the watched ones is ready."""
        return self._epoll.fileno()

    def add(self, descriptor: int, events: int, on_ready: Callable[[], None]) -> None:
        """Call `on_ready` while the descriptor is ready for one of `events`."""
        self._epoll.register(descriptor, events)
        self._on_ready[descriptor] = on_ready

    def change(self, descriptor: int, events: int) -> None:
        """Wait for other events from now on."""
        self._epoll.modify(descriptor, events)

    def remove(self, descriptor: int) -> None:
        """Stop watching a descriptor; must come before it is closed. An unknown one is ignored."""
        if self._on_ready.pop(descriptor, None) is not None:
            with contextlib.suppress(FileNotFoundError):
                self._epoll.unregister(descriptor)

    def next_wakeup(self) -> float | None:
        """Return None: descriptors have no time of their own."""
        return None

    def poll(self, _now: float, /) -> Sequence[AgentEvent]:
        """Call the functions of the descriptors that are ready. The owners' `poll` returns their results."""
        for descriptor, _ in self._epoll.poll(0):
            on_ready = self._on_ready.get(descriptor)
            if on_ready is not None:  # else removed by another one's function in this pass
                on_ready()
        return ()
