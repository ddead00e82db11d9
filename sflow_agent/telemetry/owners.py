"""Finds out which processes of the node belong to which rank, once for each process. Decides from what `look` says; no I/O.

A process belongs to the rank whose main process it is, to its parent's rank, to that of its session, or, when its parent has
ended, to the one that its environment names. Processes of job steps have Slurm as their ancestor and are known by a mark.
All others are remembered as foreign, so a node with thousands of them costs a listing and nothing else.
"""

from collections.abc import Callable, Iterable, Mapping

from protocol.ids import RankId
from sflow_agent.telemetry.looks import Look

LOOKS = 3
"""Times that a foreign process is looked at where there are job steps: a step's script marks itself after it has begun."""


class Owners:
    """The processes of ranks, by pid."""

    def __init__(
        self,
        agent: int,
        look: Callable[[int], Look | None],
        marker_of: Callable[[int], str | None],
        step_mark_of: Callable[[int], int | None],
    ) -> None:
        """`marker_of` returns the rank that a process's environment names, `step_mark_of` the mark of its step."""
        self._agent = agent
        self._look = look
        self._marker_of = marker_of
        self._step_mark_of = step_mark_of
        self.owned: dict[int, RankId] = {}
        self._started: dict[int, int] = {}
        """When each owned process was started, in ticks."""
        self._foreign: set[int] = set()
        self._undecided: set[int] = set()
        """Processes below the agent whose rank is too young to be measured: looked at again."""
        self._young: dict[int, int] = {}
        """Foreign processes, with how often they will be looked at again."""

    def update(
        self, pids: Iterable[int] | None, mains: Mapping[int, RankId], steps: Mapping[int, RankId]
    ) -> None:
        """Take in the processes that exist now, None if none has been started since; `steps` are the marks of job steps."""
        for pid, rank in mains.items():
            if self.owned.get(pid) != rank:
                self.owned[pid] = rank
                self._started.pop(pid, None)
                self._foreign.discard(pid)
        if pids is None and not self._young:
            return
        existing = set(self._foreign if pids is None else pids)
        self._foreign &= existing
        again = [pid for pid in self._young if pid in existing] if steps else []
        self._young = {pid: left - 1 for pid in again if (left := self._young[pid]) > 1}
        self._foreign.difference_update(again)
        new = existing - self._foreign - self.owned.keys()
        self._undecided.clear()
        by_marker = {str(rank): rank for rank in (*mains.values(), *self.owned.values())} if new else {}
        while new:
            self._resolve(new.pop(), new, mains, steps, by_marker, frozenset(again))

    def gone(self, pid: int) -> None:
        """Forget a process that has ended."""
        self.owned.pop(pid, None)
        self._started.pop(pid, None)

    def is_same(self, pid: int, look: Look) -> bool:
        """Return whether an owned pid is still the process that it was; one that is not is forgotten."""
        if self._started.setdefault(pid, look.start_ticks) == look.start_ticks:
            return True
        self.gone(pid)
        return False

    def _resolve(
        self,
        pid: int,
        new: set[int],
        mains: Mapping[int, RankId],
        steps: Mapping[int, RankId],
        by_marker: Mapping[str, RankId],
        again: frozenset[int],
    ) -> None:
        """Find the owner of a new process, after that of its ancestors if they are new, too."""
        line = [pid]
        look = self._look(pid)
        looks = [look]
        while look is not None and look.parent in new:
            new.discard(look.parent)
            line.append(look.parent)
            look = self._look(look.parent)
            looks.append(look)
        for one, seen in zip(reversed(line), reversed(looks), strict=True):
            if seen is None:
                continue
            owner = self._owner(one, seen, mains, steps, by_marker)
            if owner is None and (seen.parent == self._agent or seen.parent in self._undecided):
                self._undecided.add(one)
            elif owner is None:
                self._foreign.add(one)
                if steps and one not in again:
                    self._young[one] = LOOKS
            else:
                self.owned[one] = owner
                self._started[one] = seen.start_ticks

    def _owner(
        self,
        pid: int,
        look: Look,
        mains: Mapping[int, RankId],
        steps: Mapping[int, RankId],
        by_marker: Mapping[str, RankId],
    ) -> RankId | None:
        owner = self.owned.get(look.parent) or mains.get(look.session)
        if owner is None and look.parent == self._agent:
            owner = by_marker.get(self._marker_of(pid) or "")
        if owner is None and steps:
            owner = steps.get(self._step_mark_of(pid) or 0)
        return owner
