"""What becomes due when. Timers are not cancelled: one that means nothing any more is recognised by its attempt."""

from heapq import heappop, heappush
from typing import Literal, NamedTuple

TimerKind = Literal[
    "retry", "timeout", "deadline", "overdue", "workflow", "leave", "ranks", "allocation", "finals", "stop"
]


class Timer(NamedTuple):
    """Something to look at, at `at` monotonic seconds. `task` is an index, -1 for the run's own."""

    at: float
    kind: TimerKind
    task: int = -1
    attempt: int = 0


class Timers:
    """All timers of a run, the next one first."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []

    def set(self, at: float, kind: TimerKind, task: int = -1, attempt: int = 0) -> None:
        """Adds a timer."""
        heappush(self._heap, Timer(at, kind, task, attempt))

    def pop_due(self, now: float) -> Timer | None:
        """The next timer that is due, or None."""
        return heappop(self._heap) if self._heap and self._heap[0].at <= now else None

    def next_at(self) -> float | None:
        """When the next one is due."""
        return self._heap[0].at if self._heap else None

    def clear(self) -> None:
        """Nothing will be due any more."""
        self._heap.clear()
