"""Finds the processes of each rank's tree. Reads /proc through `procfs`; `tree_killer` and `table` act on it."""

from collections.abc import Container, Mapping

from sflow_agent.processes.procfs import (
    RANK_MARKER,
    children,
    own_children,
    queue_limit,
    read_stat,
    settled_environment,
)


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
        stat = read_stat(pid)
        if owner is None and stat is not None:
            owner = stat.session if stat.session in members else pid if pid in members else None
        if owner is None:
            owner = next((by_marker[v] for v in settled_environment(pid) if v in by_marker), None)
        if owner is None and stat is not None and stat.is_living:
            marked = marks.get(queue_limit(pid) or 0)
            owner = marked if marked in members else None
        if owner is not None and stat is not None and stat.is_living:
            members[owner].add(pid)
        stack.extend((child, owner) for child in children(pid))
    return members
