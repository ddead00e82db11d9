"""Timers: which event is due when.

They are never cancelled: the reactor recognises an outdated one by its attempt or step. Those of attempts that are over are
dropped when there are many.
"""

from collections.abc import Callable, Collection
from heapq import heapify, heappop, heappush

from msgspec import Struct

CROWDED = 1024
"""From so many timers on outdated ones are looked for: a run of 100,000 tasks with a `timeout` would keep as many."""


class _Timer(Struct, frozen=True, array_like=True):
    """Base of all timers."""


class RetryDue(_Timer, frozen=True, tag=True):
    """The delay before a task's next attempt is over."""

    task: int
    attempt: int


class TimeoutDue(_Timer, frozen=True, tag=True):
    """An attempt's `timeout` is over."""

    task: int
    attempt: int


class TotalTimeoutDue(_Timer, frozen=True, tag=True):
    """The `total_timeout` of a task, over all of its attempts, is over."""

    task: int
    attempt: int


class QueueTimeoutDue(_Timer, frozen=True, tag=True):
    """The `queue_timeout` of a task that found no free place is over; the attempt is the one before."""

    task: int
    attempt: int


class DeadlineDue(_Timer, frozen=True, tag=True):
    """The deadline of one of an attempt's readiness probes is over."""

    task: int
    attempt: int
    part: int = 0


class OtherRanksDue(_Timer, frozen=True, tag=True):
    """The time that other ranks may run after the first one exited (`--wait`) is over."""

    task: int
    attempt: int


class StopOverdue(_Timer, frozen=True, tag=True):
    """An agent has not stopped an attempt in time."""

    task: int
    attempt: int


class LogOverdue(_Timer, frozen=True, tag=True):
    """The log of an exited rank has not arrived in time."""

    task: int
    attempt: int
    rank: int


class FenceOver(_Timer, frozen=True, tag=True):
    """Nothing of the run can live on a lost node any more."""

    node: int


class ServerHeard(_Timer, frozen=True, tag=True):
    """The failure of a server would have been heard of by now that explains the exit of a rank."""

    task: int
    attempt: int
    rank: int


class WorkflowTimeout(_Timer, frozen=True, tag=True):
    """The workflow's own time limit is over."""


class JobEndNear(_Timer, frozen=True, tag=True):
    """The Slurm job's time is nearly over, as far as is known: Slurm is asked again before the run stops for it."""

    gone_at: float


class AllocationEnding(_Timer, frozen=True, tag=True):
    """The Slurm job's time is nearly over."""

    gone_at: float
    """The end of the job that it was set for, which identifies it."""


class FinalsOver(_Timer, frozen=True, tag=True):
    """The time of the tasks that run at the run's end is over."""

    steps_left: int
    """Steps of the shutdown that were left when it was set, which identifies the step."""


class StopTimeout(_Timer, frozen=True, tag=True):
    """The time that the run may take to stop is over."""


class LeaveOverdue(_Timer, frozen=True, tag=True):
    """Agents have not left in time."""


AttemptTimer = (
    RetryDue
    | QueueTimeoutDue
    | TimeoutDue
    | TotalTimeoutDue
    | DeadlineDue
    | OtherRanksDue
    | StopOverdue
    | LogOverdue
    | ServerHeard
)
RunTimer = (
    FenceOver | WorkflowTimeout | JobEndNear | AllocationEnding | FinalsOver | StopTimeout | LeaveOverdue
)
Timer = AttemptTimer | RunTimer
Limit = TimeoutDue | TotalTimeoutDue | DeadlineDue | OtherRanksDue | StopOverdue
LIMITS = (TimeoutDue, TotalTimeoutDue, DeadlineDue, OtherRanksDue, StopOverdue)
"""The timers that end an attempt which takes too long."""
SAME_STANDSTILL_S = 10.0
"""An agent that was suspended together with the controller says so within that time."""


class Held(Struct):
    """A limit that is due, and waits until agents have confirmed that they run."""

    limit: Limit
    at: float
    """When it was due."""
    asked: dict[int, int]
    """The nodes whose word is awaited, with the number of the question."""


class SavedTimers(Struct, frozen=True):
    """All timers, as a checkpoint has them."""

    heap: list[tuple[float, int, Timer]]
    count: int
    crowded_from: int
    delayed: tuple[float, float]
    held: tuple[Held, ...] = ()
    questions: tuple[int, float] = (0, 0.0)


class Timers:
    """All timers of a run, the next one first. Times are monotonic seconds."""

    def __init__(self, is_outdated: Callable[[AttemptTimer], bool] = lambda _timer: False) -> None:
        """`is_outdated` returns whether a timer of an attempt would do nothing any more."""
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0
        self._crowded_from = CROWDED
        self._is_outdated = is_outdated
        self._delayed = (0.0, 0.0)
        """When all timers were delayed the last time, and by how much."""
        self._held: dict[Limit, Held] = {}
        self._questions = (0, 0.0)
        """The number of the last question to agents, and when it was asked."""

    def set(self, at: float, timer: Timer) -> None:
        """Add a timer. Those due at the same time fire in the order in which they were set."""
        self._count += 1
        heappush(self._heap, (at, self._count, timer))
        if len(self._heap) > self._crowded_from:
            self._drop_outdated()

    def saved(self) -> SavedTimers:
        """Return the timers for a checkpoint."""
        held = tuple(self._held.values())
        return SavedTimers(self._heap, self._count, self._crowded_from, self._delayed, held, self._questions)

    def restore(self, saved: SavedTimers, shift_s: float) -> None:
        """Take the timers of a checkpoint; `shift_s` is added to its times."""
        self._count, self._crowded_from = saved.count, saved.crowded_from
        self._delayed = (saved.delayed[0] + shift_s, saved.delayed[1])
        self._heap = [(at + shift_s, number, _shifted(timer, shift_s)) for at, number, timer in saved.heap]
        self._held = {one.limit: Held(one.limit, one.at + shift_s, one.asked) for one in saved.held}
        self._questions = (saved.questions[0], saved.questions[1] + shift_s)

    def _drop_outdated(self) -> None:
        """Keep the timers that may still do something; what this costs is little per timer that was set meanwhile."""
        self._heap = [
            entry
            for entry in self._heap
            if not (isinstance(entry[2], AttemptTimer) and self._is_outdated(entry[2]))
        ]
        heapify(self._heap)
        self._crowded_from = max(CROWDED, 2 * len(self._heap))

    def pop_due(self, now: float) -> tuple[float, Timer] | None:
        """Remove and return the next timer that is due, with its time; None without one."""
        if not self._heap or self._heap[0][0] > now:
            return None
        at, _, timer = heappop(self._heap)
        return at, timer

    def next_at(self) -> float | None:
        """Return when the next timer is due, or None."""
        return self._heap[0][0] if self._heap else None

    def ask(self, node: int, limit: Limit, due_at: float, now: float) -> int | None:
        """Keep a limit that is due until a node's agent has confirmed that it runs.

        Returns the number of the question for the agent; None if it was asked at this moment for another limit.
        """
        number, asked_at = self._questions
        is_asked = asked_at == now and any(one.asked.get(node) == number for one in self._held.values())
        if asked_at != now:
            self._questions = number, _ = number + 1, now
        self._held.setdefault(limit, Held(limit, due_at, {})).asked[node] = number
        return None if is_asked else number

    def confirmed(self, node: int, number: int | None = None) -> list[Limit]:
        """Return the limits that have waited for this agent alone, which answers this question and those before; None: all."""
        released: list[Limit] = []
        for one in list(self._held.values()):
            if node in one.asked and (number is None or one.asked[node] <= number):
                del one.asked[node]
                if not one.asked:
                    del self._held[one.limit]
                    released.append(one.limit)
        return released

    def asked_nodes(self) -> Collection[int]:
        """Return the nodes whose agents' word is awaited."""
        return {node: None for one in self._held.values() for node in one.asked} if self._held else ()

    def question_of(self, node: int) -> int | None:
        """Return the number of the last question that a node's agent has not answered."""
        return max((one.asked[node] for one in self._held.values() if node in one.asked), default=None)

    def _due_later(self, held: list[Held], seconds: float) -> None:
        """Let limits that wait for agents be due again, so much later than they were."""
        for one in held:
            del self._held[one.limit]
            self.set(one.at + seconds, one.limit)

    def discount(self, attempts: Collection[tuple[int, int]], seconds: float, now: float) -> None:
        """Have the limits of attempts (task, number) end so much later: their agent did not run for that time.

        What the whole run was delayed by just before is part of it: a machine that stands still stops controller and agent.
        """
        at, of_all = self._delayed
        more = seconds - (of_all if now - at < SAME_STANDSTILL_S else 0.0)
        if more <= 0 or not attempts:
            return
        held = [one for one in self._held.values() if (one.limit.task, one.limit.attempt) in attempts]
        self._heap = [
            (
                at + more if isinstance(timer, LIMITS) and (timer.task, timer.attempt) in attempts else at,
                number,
                timer,
            )
            for at, number, timer in self._heap
        ]
        heapify(self._heap)
        self._due_later(held, more)

    def change_limit(self, timer: Timer, begun_at: float, old_s: float | None, new_s: float | None) -> None:
        """Have a limit that began to count then be another one, or none; what it was delayed by stays."""
        self._due_later([one for one in self._held.values() if one.limit == timer], 0.0)
        entries = [entry for entry in self._heap if entry[2] == timer]
        if entries:
            self._heap = [entry for entry in self._heap if entry[2] != timer]
            heapify(self._heap)
        if new_s is not None:
            self.set(
                entries[0][0] + new_s - old_s if entries and old_s is not None else begun_at + new_s, timer
            )

    def delay(self, seconds: float, now: float) -> None:
        """Have all timers fire so much later, but for those of the Slurm job's end, which is not the run's to move."""
        self._delayed = (now, seconds)
        self._heap = [
            (at if isinstance(timer, JobEndNear | AllocationEnding) else at + seconds, number, timer)
            for at, number, timer in self._heap
        ]
        heapify(self._heap)
        self._due_later(list(self._held.values()), seconds)

    def clear(self) -> None:
        """Remove all timers."""
        self._heap.clear()
        self._held.clear()


def _shifted(timer: Timer, shift_s: float) -> Timer:
    """Return a timer with its own times moved: that of a job's end names it."""
    match timer:
        case JobEndNear(gone_at=gone_at):
            return JobEndNear(gone_at + shift_s)
        case AllocationEnding(gone_at=gone_at):
            return AllocationEnding(gone_at + shift_s)
        case _:
            return timer
