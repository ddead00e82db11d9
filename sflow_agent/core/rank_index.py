"""Finds ranks among thousands: those of an attempt, and those with something to do now. `core.agent` keeps these.

Each look costs by what it finds, not by how many ranks there are: a stop of n tasks is n orders.
"""

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush

from protocol.ids import AttemptId, RankId
from protocol.messages.orders import SignalAttempt
from sflow_agent.core.commands import SignalTree
from sflow_agent.core.rank import Rank


class OpenRanks:
    """Ranks that are not gone, by attempt."""

    def __init__(self) -> None:
        self._of_attempt: dict[AttemptId, set[RankId]] = {}
        self._of_task: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._of_attempt)

    def __contains__(self, rank: RankId) -> bool:
        return rank in self._of_attempt.get(rank.attempt, ())

    def __iter__(self) -> Iterator[RankId]:
        """Yield all of them, in order."""
        return iter(sorted(rank for ranks in self._of_attempt.values() for rank in ranks))

    def add(self, rank: RankId) -> None:
        """Add a rank that is not here."""
        self._of_attempt.setdefault(rank.attempt, set()).add(rank)
        self._of_task[rank.attempt.task] = self._of_task.get(rank.attempt.task, 0) + 1

    def discard(self, rank: RankId) -> None:
        """Remove a rank, if it is here."""
        if rank not in self:
            return
        ranks, task = self._of_attempt[rank.attempt], rank.attempt.task
        ranks.discard(rank)
        if not ranks:
            del self._of_attempt[rank.attempt]
        self._of_task[task] -= 1
        if not self._of_task[task]:
            del self._of_task[task]

    def of(self, attempt: AttemptId) -> list[RankId]:
        """Return the ranks of an attempt, in order."""
        return sorted(self._of_attempt.get(attempt, ()))

    def signalled(self, order: SignalAttempt) -> list[SignalTree]:
        """Return the commands that signal an attempt's ranks."""
        return [SignalTree(rank, order.signal, is_once=True) for rank in self.of(order.attempt)]

    def has_task(self, task: str) -> bool:
        """Return whether a rank of any attempt of a task is here."""
        return task in self._of_task


class RankTimers:
    """When each rank has something to do, the next one first. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._due: dict[RankId, float] = {}
        self._heap: list[tuple[float, RankId]] = []
        """An entry that `_due` does not confirm is outdated."""

    def set(self, rank: RankId, at: float | None) -> None:
        """Note when a rank has something to do next; None is never."""
        if at is None:
            self._due.pop(rank, None)
        elif self._due.get(rank) != at:
            self._due[rank] = at
            heappush(self._heap, (at, rank))

    def next_at(self) -> float | None:
        """Return when the next rank has something to do, or None."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> list[RankId]:
        """Remove and return the ranks with something to do now, in order."""
        found = set()
        while (at := self.next_at()) is not None and at <= now:
            _, rank = heappop(self._heap)
            del self._due[rank]
            found.add(rank)
        return sorted(found)

    def delay(self, ranks: Iterable[Rank], seconds: float) -> None:
        """Have the limits of ranks end so much later: the agent did not run, nor did they, as far as it knows."""
        for rank in ranks:
            _delay_limits(rank, seconds)
            self.set(rank.id, rank.next_wakeup())


def _delay_limits(rank: Rank, seconds: float) -> None:
    if rank.diagnose_by is not None:
        rank.diagnose_by += seconds
    if rank.stop is not None:
        rank.stop.delay(seconds)
    for part in (part for state in rank.probes.values() for part in state.parts):
        part.armed_at += seconds
        if part.confirm_at is not None:
            part.confirm_at += seconds
