"""Timers: which event is due when.

They are never cancelled: the reactor recognises an outdated one by its attempt or step.
"""

import math
from collections.abc import Collection
from heapq import heapify, heappop, heappush

from msgspec import Struct


class RetryDue(Struct, frozen=True):
    """The delay before a task's next attempt is over."""

    task: int
    attempt: int


class TimeoutDue(Struct, frozen=True):
    """An attempt's `timeout` is over."""

    task: int
    attempt: int


class DeadlineDue(Struct, frozen=True):
    """The deadline of one of an attempt's readiness probes is over."""

    task: int
    attempt: int
    part: int = 0


class OtherRanksDue(Struct, frozen=True):
    """The time that other ranks may run after the first one exited (`--wait`) is over."""

    task: int
    attempt: int


class StopOverdue(Struct, frozen=True):
    """An agent has not stopped an attempt in time."""

    task: int
    attempt: int


class LogOverdue(Struct, frozen=True):
    """The log of an exited rank has not arrived in time."""

    task: int
    attempt: int
    rank: int


class FenceOver(Struct, frozen=True):
    """Nothing of the run can live on a lost node any more."""

    node: int


class ServerHeard(Struct, frozen=True):
    """The failure of a server would have been heard of by now that explains the exit of a rank."""

    task: int
    attempt: int
    rank: int


class WorkflowTimeout(Struct, frozen=True):
    """The workflow's own time limit is over."""


class JobEndNear(Struct, frozen=True):
    """The Slurm job's time is nearly over, as far as is known: Slurm is asked again before the run stops for it."""

    gone_at: float


class AllocationEnding(Struct, frozen=True):
    """The Slurm job's time is nearly over."""

    gone_at: float
    """The end of the job that it was set for, which identifies it."""


class FinalsOver(Struct, frozen=True):
    """The time of the tasks that run at the run's end is over."""

    steps_left: int
    """Steps of the shutdown that were left when it was set, which identifies the step."""


class StopTimeout(Struct, frozen=True):
    """The time that the run may take to stop is over."""


class LeaveOverdue(Struct, frozen=True):
    """Agents have not left in time."""


AttemptTimer = RetryDue | TimeoutDue | DeadlineDue | OtherRanksDue | StopOverdue | LogOverdue | ServerHeard
RunTimer = (
    FenceOver | WorkflowTimeout | JobEndNear | AllocationEnding | FinalsOver | StopTimeout | LeaveOverdue
)
Timer = AttemptTimer | RunTimer
LIMITS = (TimeoutDue, DeadlineDue, StopOverdue)
"""The timers that end an attempt which takes too long."""
SAME_STANDSTILL_S = 10.0
"""An agent that was suspended together with the controller says so within that time."""


class Timers:
    """All timers of a run, the next one first. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0
        self._delayed = (-math.inf, 0.0)
        """When all timers were delayed the last time, and by how much."""

    def set(self, at: float, timer: Timer) -> None:
        """Add a timer. Those due at the same time fire in the order in which they were set."""
        self._count += 1
        heappush(self._heap, (at, self._count, timer))

    def pop_due(self, now: float) -> Timer | None:
        """Remove and return the next timer that is due, or None."""
        return heappop(self._heap)[2] if self._heap and self._heap[0][0] <= now else None

    def next_at(self) -> float | None:
        """Return when the next timer is due, or None."""
        return self._heap[0][0] if self._heap else None

    def discount(self, attempts: Collection[tuple[int, int]], seconds: float, now: float) -> None:
        """Have the limits of attempts (task, number) end so much later: their agent did not run for that time.

        What the whole run was delayed by just before is part of it: a machine that stands still stops controller and agent.
        """
        at, of_all = self._delayed
        more = seconds - (of_all if now - at < SAME_STANDSTILL_S else 0.0)
        if more <= 0 or not attempts:
            return
        self._heap = [
            (
                at + more if isinstance(timer, LIMITS) and (timer.task, timer.attempt) in attempts else at,
                number,
                timer,
            )
            for at, number, timer in self._heap
        ]
        heapify(self._heap)

    def delay(self, seconds: float, now: float) -> None:
        """Have all timers fire so much later, but for those of the Slurm job's end, which is not the run's to move."""
        self._delayed = (now, seconds)
        self._heap = [
            (at if isinstance(timer, JobEndNear | AllocationEnding) else at + seconds, number, timer)
            for at, number, timer in self._heap
        ]
        heapify(self._heap)

    def clear(self) -> None:
        """Remove all timers."""
        self._heap.clear()
