"""The agent's loop: polls every source of events, passes events to the core, carries out its commands.

A new source is one more entry of the list. Sources decide nothing; `core` decides what an event means.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from protocol.machine.loop_watch import LoopWatch
from sflow_agent.core.agent import AgentCore
from sflow_agent.core.commands import AgentCommand
from sflow_agent.core.events import AgentEvent, WakeUp


class EventSource(Protocol):
    """A source of events. `now` is monotonic seconds."""

    def next_wakeup(self) -> float | None:
        """Return when `poll` is due: 0 while there is news, None while only time or a call of others could bring any.

        Asked before each wait and after it, so that a turn costs by what has happened, not by how many sources there are.
        """

    def poll(self, now: float, /) -> Sequence[AgentEvent]:
        """Return the events since the last call; never block. Called only when due."""


class Loop:
    """Runs until a command has set `exit_status`. `perform` carries out a command and returns its events.

    `wait` blocks for so many ms or until a descriptor is ready; `flush` sends what was reported; `watch` notes when it works.
    What the source `prompt` reports is sent before the sources behind it are looked at: a dependent may be waiting for it.
    """

    def __init__(
        self,
        core: AgentCore,
        perform: Callable[[AgentCommand, float], Sequence[AgentEvent]],
        wait: Callable[[int], object],
        flush: Callable[[float], None],
        watch: LoopWatch,
    ) -> None:
        self.exit_status: int | None = None
        self.sources: list[EventSource] = []
        """In the order in which they are polled: events that have happened come before those of time."""
        self.prompt: EventSource | None = None
        self._core = core
        self._perform = perform
        self._wait = wait
        self._flush = flush
        self._watch = watch

    def run(self) -> int:
        """Repeat `turn` until the agent must exit; return its status."""
        while self.exit_status is None:
            self.turn()
        return self.exit_status

    def turn(self) -> None:
        """Wait for an event, then handle all that have happened."""
        timeout_ms = self._timeout_ms()
        self._watch.waits()
        self._wait(timeout_ms)
        now = time.monotonic()
        self._watch.works(now)
        for source in self.sources:
            due = source.next_wakeup()
            if due is not None and due <= now:
                events = source.poll(now)
                if events:
                    self.handle(events, now)
                if source is self.prompt:
                    self._flush(now)
        wakeup = self._core.next_wakeup()
        if wakeup is not None and wakeup <= now:
            self.handle((WakeUp(),), now)
        self._flush(now)

    def handle(self, events: Iterable[AgentEvent], now: float) -> None:
        """Handle events, and in order the events that their commands cause."""
        queue = deque(events)
        while queue:
            for command in self._core.handle(queue.popleft(), now):
                queue.extend(self._perform(command, now))

    def _timeout_ms(self) -> int:
        earliest = self._core.next_wakeup()
        for source in self.sources:
            due = source.next_wakeup()
            if due is not None and (earliest is None or due < earliest):
                if not due:
                    return 0
                earliest = due
        if earliest is None:
            return -1
        return max(0, math.ceil((earliest - time.monotonic()) * 1000))
