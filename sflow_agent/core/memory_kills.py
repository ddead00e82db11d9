"""Attributes the kernel's out-of-memory kills to ranks.

Pure: the shell reads the counter of the agent's cgroup. The counter has the number of killed processes, not
their ids. A rank that was killed itself takes one kill; kills that no end explains are reported with the next
end of a rank that was running meanwhile.
"""

from collections.abc import Iterable

from msgspec import Struct, field

from protocol.ids import RankId
from sflow_agent.core.events import ProcessExited

SIGKILL = 9


class MemoryKills(Struct):
    """The kills that are attributed to an end, or were reported, by their number in the counter."""

    _at_start: dict[RankId, int] = field(default_factory=dict)
    _explained: set[int] = field(default_factory=set)

    def started(self, rank: RankId, count: int) -> None:
        """Note the counter at a rank's start: later kills may belong to it."""
        self._at_start[rank] = count

    def attribute(self, exits: Iterable[ProcessExited], count: int) -> dict[RankId, int]:
        """Return how many unexplained kills each of these ranks ran through; `count` is the counter now.

        Killed ranks come first: each takes one kill for itself before kills are attributed to others.
        """
        kills: dict[RankId, int] = {}
        starts = [(self._at_start.pop(end.rank, count), end) for end in exits]
        concerned = [(start, end) for start, end in starts if start != count]
        for start, end in sorted(concerned, key=lambda one: not was_killed(one[1])) if concerned else ():
            unexplained = set(range(start + 1, count + 1)) - self._explained
            if unexplained:
                self._explained |= {min(unexplained)} if was_killed(end) else unexplained
                kills[end.rank] = len(unexplained)
        return kills


def was_killed(end: ProcessExited) -> bool:
    """Return whether SIGKILL ended the rank, itself or the last program of its script."""
    return end.signal == SIGKILL or end.exit_code == 128 + SIGKILL
