"""Which processes belong to whom, read from /proc. Nothing here signals anything."""

import os
import time
from collections.abc import Container

RUN_MARKER = "SFLOW_RUN_MARKER"
ATTEMPT_MARKER = "SFLOW_ATTEMPT_ID"
RANK_MARKER = "SFLOW_RANK_MARKER"
"""Says whose a stray process is: ranks of one attempt on one node share the attempt's id."""
EXEC_WITHIN_S, EXEC_LOOK_S = 0.02, 0.0005


def own_children(pid: int) -> list[int]:
    """Children of a process's main thread, zombies included; for a process whose other threads start none.

    Source: proc(5), `children`, which needs CONFIG_PROC_CHILDREN.
    """
    return _children_of_thread(pid, str(pid))


def children(pid: int) -> list[int]:
    """Direct children of a process, whichever of its threads started them."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - hot path
    except OSError:
        return []
    return [child for thread in threads for child in _children_of_thread(pid, thread)]


def _children_of_thread(pid: int, thread: str) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123 - hot path
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    """Everything below a process, by parentage."""
    found: list[int] = []
    stack = [pid]
    while stack:
        for child in children(stack.pop()):
            found.append(child)
            stack.append(child)
    return found


def environment(pid: int) -> list[bytes]:
    """A process's initial environment; empty for one that is gone or not ours to read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            return file.read().split(b"\0")
    except OSError:
        return []


def settled_environment(pid: int) -> list[bytes]:
    """A process's initial environment, also of one that is just becoming another program: in the middle of that it
    has none for a moment.
    """
    deadline = time.monotonic() + EXEC_WITHIN_S
    while True:
        found = environment(pid)
        if any(found) or not is_living(pid) or time.monotonic() > deadline:
            return found
        time.sleep(EXEC_LOOK_S)


def session_of(pid: int) -> tuple[int, str, str]:
    """(session id, state letter, command name); session 0 for a process that is gone.

    Source: proc(5), stat.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            head, _, tail = file.read().rpartition(b")")
    except OSError:
        return 0, "", ""
    fields = tail.split()
    return int(fields[3]), fields[0].decode(), head.partition(b"(")[2].decode(errors="replace")


def parent_of(pid: int) -> int:
    """A process's parent; 0 for one that is gone. Source: proc(5), stat."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def is_living(pid: int) -> bool:
    """True for a process that exists and is no zombie."""
    return session_of(pid)[1] not in ("", "Z", "X")


def tree_members(mains: dict[int, str], below: int, others: Container[int]) -> dict[int, set[int]]:
    """For each main process (pid to rank marker), the living processes it started: one scan for all.

    Looks only at what is below `below`, the agent: as subreaper it keeps everything its ranks start, and a
    number that the system has given to somebody else's process is never mistaken for ours. A member is below
    its main process, in its session, or carries its marker, or descends from such a one. Zombies do not
    count. `others` are main processes whose trees are not asked for; they are not walked.
    """
    members: dict[int, set[int]] = {pid: set() for pid in mains}
    by_marker = {f"{RANK_MARKER}={marker}".encode(): pid for pid, marker in mains.items()}
    stack: list[tuple[int, int | None]] = [(pid, None) for pid in own_children(below) if pid not in others]
    while stack:
        pid, owner = stack.pop()
        session, state, _ = session_of(pid)
        if owner is None:
            owner = session if session in members else pid if pid in members else None
        if owner is None:
            owner = next((by_marker[v] for v in settled_environment(pid) if v in by_marker), None)
        if owner is not None and state not in ("", "Z", "X"):
            members[owner].add(pid)
        stack.extend((child, owner) for child in children(pid))
    return members


def name_of(pid: int) -> str:
    """ "pid command" for a person."""
    return f"{pid} {session_of(pid)[2] or '?'}"
