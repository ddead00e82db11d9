"""Watches the real GPUs of an agent for their loss, and reports it. A source of the loop; `agent` makes it where there are some.

The driver is asked in a thread, because a broken one may not answer: `gpu_events.py`.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from protocol.messages.facts import GpuLost
from protocol.messages.node import Gpu
from sflow_agent.core.events import AgentEvent
from sflow_agent.worker import Lane, Workers

BEGIN_AFTER_S = 1.0
"""The first tasks start before the driver is opened a second time."""
WAIT_MS = 5000
"""How long a thread waits for an event; a GPU that is lost without one is noticed after that time."""
AGAIN_AFTER_S = 60.0
"""The delay after the driver did not answer."""


class Events(Protocol):
    """What waits for errors of GPUs."""

    def wait(self, within_ms: int, /) -> dict[str, str]:
        """Return why GPUs were lost since the last call, by UUID. Raises: OSError."""


class GpuWatch:
    """The losses of GPUs since the agent began. `warn` is called once for each text."""

    def __init__(
        self,
        workers: Workers,
        gpus: Sequence[Gpu],
        report: Callable[[GpuLost], None],
        warn: Callable[[str], None],
        now: float,
        events: Events | None = None,
    ) -> None:
        self._workers = workers
        self._indices = {gpu.uuid: gpu.index for gpu in gpus if gpu.uuid and not gpu.simulated}
        self._report, self._warn = report, warn
        self._events = events
        self._lane = Lane("questions to the driver about errors", threads=1, queued=0)
        self._next_at: float | None = now + BEGIN_AFTER_S if self._indices else None
        self._delay_s: float | None = None
        self._lost: dict[int, GpuLost] = {}

    @property
    def lost(self) -> tuple[GpuLost, ...]:
        """Return all losses so far, for a hello."""
        return tuple(self._lost.values())

    def next_wakeup(self) -> float | None:
        """Return when `poll` is due."""
        return 0.0 if self._delay_s is not None else self._next_at

    def poll(self, now: float) -> Sequence[AgentEvent]:
        """Let a thread ask the driver, when that is due."""
        if self._delay_s is not None:
            self._next_at, self._delay_s = now + self._delay_s, None
        if self._next_at is not None and self._next_at <= now:
            self._next_at = None
            self._workers.run("errors of GPUs", self._wait, self._seen, self._lane)
        return ()

    def _wait(self) -> dict[str, str]:
        if self._events is None:
            from sflow_agent.node.gpu_events import GpuEvents  # with the driver's library: half a second

            self._events = GpuEvents(tuple(self._indices))
        return self._events.wait(WAIT_MS)

    def _seen(self, found: "dict[str, str] | OSError") -> None:
        """Report what a thread has found out, and let it ask again."""
        if isinstance(found, OSError):
            self._warn(f"errors of its GPUs cannot be noticed: {found.strerror or found}")
            self._delay_s = AGAIN_AFTER_S
            return
        self._delay_s = 0.0
        for uuid, text in found.items():
            index = self._indices.pop(uuid, None)
            if index is not None:
                self._lost[index] = GpuLost(gpu=index, text=text)
                self._report(self._lost[index])
        if not self._indices:
            self._delay_s = None
