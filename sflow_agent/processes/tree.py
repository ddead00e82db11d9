"""Finds the processes of each rank's tree, and of job steps. Reads /proc through `procfs`.

`tree_killer` and `table` act on it.
"""

from collections.abc import Container, Iterable, Mapping

from protocol.ids import RankId
from protocol.machine.marks import RANK_MARKER
from protocol.machine.procfs import (
    children,
    own_children,
    parent_of,
    queue_limit,
    read_status,
    session_of,
    settled_environment,
    step_processes,
)
from sflow_agent.limits import run_mark, step_mark


def tree_members(
    mains: dict[int, str], below: int, others: Container[int], marks: Mapping[int, int]
) -> dict[int, set[int]]:
    """Return, for each main process (pid to rank marker), the living processes that it started: one scan for all.

    Looks only at what is below `below`, the agent: as subreaper it keeps everything its ranks start, so a pid that the
    system has given to another process is never mistaken for ours. A member is below its main process, in its session,
    or carries its marker or mark, or descends from such a process. `marks` is the main process of each inherited mark.
    `others` are main processes whose trees are not asked for; they are not walked.
    """
    members: dict[int, set[int]] = {pid: set() for pid in mains}
    by_marker = {f"{RANK_MARKER}={marker}".encode(): pid for pid, marker in mains.items()}
    stack: list[tuple[int, int | None]] = [(pid, None) for pid in own_children(below) if pid not in others]
    while stack:
        pid, owner = stack.pop()
        status = read_status(pid)
        if owner is None and status is not None:
            session = session_of(pid)
            owner = session if session in members else pid if pid in members else None
        if owner is None:
            owner = next((by_marker[v] for v in settled_environment(pid) if v in by_marker), None)
        if owner is None and status is not None and status.is_living:
            marked = marks.get(queue_limit(pid) or 0)
            owner = marked if marked in members else None
        if owner is not None and status is not None and status.is_living:
            members[owner].add(pid)
        stack.extend((child, owner) for child in children(pid))
    return members


class StepMarks:
    """The job steps of this run that this agent has to do with, by the rank or part that stands for each here.

    Slurm starts the processes of a step, which are below no agent: they are known by the mark that its script sets.
    """

    def __init__(self, marker: str) -> None:
        self._marker = marker
        self._marks: dict[RankId, int | None] = {}
        """None stands for all steps of the run that nothing else here is about."""

    def __contains__(self, rank: RankId) -> bool:
        """Return whether this rank or part stands for a step."""
        return rank in self._marks

    def add(self, rank: RankId, mark_of: RankId | None) -> int:
        """Let a rank or part stand for the step whose `srun` is `mark_of`; return the mark."""
        mark = None if mark_of is None else step_mark(self._marker, str(mark_of))
        self._marks[rank] = mark
        return mark or 0

    def by_mark(self) -> dict[int, RankId]:
        """Return the ranks whose `srun` this agent has, by the marks of their steps' processes."""
        return {mark: rank for rank, mark in self._marks.items() if mark is not None}

    def forget(self, rank: RankId) -> None:
        """Nothing of it is left."""
        self._marks.pop(rank, None)

    def members(self, ranks: Iterable[RankId]) -> dict[RankId, set[int]]:
        """Return the living processes of those of these ranks and parts that stand for a step: one scan for all."""
        wanted = {rank: self._marks[rank] for rank in ranks if rank in self._marks}
        if not wanted:
            return {}
        found = step_processes(run_mark(self._marker))
        known = set(self._marks.values())
        return {
            rank: {pid for pid, one in found.items() if one == mark or (mark is None and one not in known)}
            for rank, mark in wanted.items()
        }

    def first_process(self, rank: RankId) -> int | None:
        """Return the process that Slurm has started here for the rank's step: the oldest whose parent is not of the step."""
        pids = self.members([rank]).get(rank, set())
        return min((pid for pid in pids if parent_of(pid) not in pids), default=None)

    def all_left(self) -> list[int]:
        """Return the living processes of all steps of the run on this node."""
        return list(step_processes(run_mark(self._marker)))
