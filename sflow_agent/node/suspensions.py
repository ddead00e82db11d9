"""Notices that the agent's process did not run for a time. A source of the loop; `agent` makes it.

The limits of tasks are shifted in `core`: the first of the sources, so that nothing is judged late before that.
"""

import time
from collections.abc import Callable, Sequence

from sflow_agent.core.events import SuspensionSeen


class Suspensions:
    """Asks the thread that speaks for the loop, which looks at the clock once a second."""

    def __init__(self, has_gap: Callable[[float], bool], take_gap: Callable[[float], float]) -> None:
        """`take_gap` returns for how long the process did not run since the last call, 0 if it did; `has_gap` is quick."""
        self._has_gap, self._take_gap = has_gap, take_gap

    def next_wakeup(self) -> float | None:
        """Return 0 after a suspension; it is noticed because a process that runs again has something to do."""
        return 0.0 if self._has_gap(time.monotonic()) else None

    def poll(self, _now: float, /) -> Sequence[SuspensionSeen]:
        """Return the suspension since the last call. The time is taken anew: the thread may have looked since."""
        seconds = self._take_gap(time.monotonic())
        return (SuspensionSeen(round(seconds, 3)),) if seconds else ()
