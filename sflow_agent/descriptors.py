"""The agent's epoll: maps file descriptors to the functions that are called when they are ready.

`connection/connections.py` waits with it, and notes here what was ready.
"""

import contextlib
import select
from collections.abc import Callable, Sequence

from sflow_agent.core.events import AgentEvent


class Descriptors:
    """The watched descriptors. A source of the loop: `poll` calls the functions of those that are ready."""

    def __init__(self, epoll: select.epoll) -> None:
        self.epoll = epoll
        self._on_ready: dict[int, Callable[[], None]] = {}
        self._ready: list[int] | None = None
        """What was ready at the last wait and was not served yet; None before the first wait."""

    def note_ready(self, descriptors: list[int]) -> None:
        """Have the next `poll` serve these descriptors, which a wait has found ready."""
        self._ready = descriptors

    def add(self, descriptor: int, events: int, on_ready: Callable[[], None]) -> None:
        """Call `on_ready` while the descriptor is ready for one of `events`."""
        self.epoll.register(descriptor, events)
        self._on_ready[descriptor] = on_ready

    def change(self, descriptor: int, events: int) -> None:
        """Wait for other events from now on."""
        self.epoll.modify(descriptor, events)

    def remove(self, descriptor: int) -> None:
        """Stop watching a descriptor; must come before it is closed. An unknown one is ignored."""
        if self._on_ready.pop(descriptor, None) is not None:
            with contextlib.suppress(FileNotFoundError):
                self.epoll.unregister(descriptor)

    def next_wakeup(self) -> float | None:
        """Return 0 while descriptors are to be served."""
        return None if self._ready == [] else 0.0

    def poll(self, _now: float, /) -> Sequence[AgentEvent]:
        """Call the functions of the descriptors that are ready. The owners' `poll` returns their results."""
        ready = self._ready
        if ready is None:
            ready = [descriptor for descriptor, _ in self.epoll.poll(0)]
        else:
            self._ready = []
        for descriptor in ready:
            on_ready = self._on_ready.get(descriptor)
            if on_ready is not None:  # else removed by another one's function in this pass
                on_ready()
        return ()
