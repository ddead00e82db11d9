"""The agent's loop: every source of events, one core, commands carried out.

A new source is one more entry of the list. Sources decide nothing; what an event means is decided in `core`.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from sflow_agent.core.agent import AgentCore
from sflow_agent.core.commands import AgentCommand
from sflow_agent.core.events import AgentEvent, WakeUp


class EventSource(Protocol):
    """Something that the loop asks for events. `now` is monotonic seconds."""

    def next_wakeup(self) -> float | None:
        """Return when `poll` is due although no descriptor is ready; None when it need not be called."""

    def poll(self, now: float, /) -> Sequence[AgentEvent]:
        """Return what has happened since the last call; never block."""


class Loop:
    """Runs until a command has set `exit_status`. `perform` carries out a command and returns what has come of it.

    `wait` blocks for so many ms or until a descriptor is ready; `flush` sends what was reported.
    """

    def __init__(
        self,
        core: AgentCore,
        perform: Callable[[AgentCommand, float], Sequence[AgentEvent]],
        wait: Callable[[int], object],
        flush: Callable[[float], None],
    ) -> None:
        self.exit_status: int | None = None
        self.sources: list[EventSource] = []
        """In the order in which they are asked: what has happened comes before what time has brought."""
        self._core = core
        self._perform = perform
        self._wait = wait
        self._flush = flush

    def run(self) -> int:
        """Turn until the agent is to exit; return its status."""
        while self.exit_status is None:
            self.turn()
        return self.exit_status

    def turn(self) -> None:
        """Wait for something to happen, then handle everything that has."""
        self._wait(self._timeout_ms())
        now = time.monotonic()
        for source in self.sources:
            events = source.poll(now)
            if events:
                self.handle(events, now)
        wakeup = self._core.next_wakeup()
        if wakeup is not None and wakeup <= now:
            self.handle((WakeUp(),), now)
        self._flush(now)

    def handle(self, events: Iterable[AgentEvent], now: float) -> None:
        """Handle events, and in order what comes of carrying out their commands."""
        queue = deque(events)
        while queue:
            for command in self._core.handle(queue.popleft(), now):
                queue.extend(self._perform(command, now))

    def _timeout_ms(self) -> int:
        due = [self._core.next_wakeup(), *(source.next_wakeup() for source in self.sources)]
        earliest = min((time_due for time_due in due if time_due is not None), default=math.inf)
        if earliest == math.inf:
            return -1
        return max(0, math.ceil((earliest - time.monotonic()) * 1000))
