"""Reads processes from /proc: parents, children, environments, states, sockets.

Signals nothing, decides nothing. Each function handles a process that may end at any moment: its values are
then empty, never an error. A process whose main thread has ended while others run is a living process: its
files are then read from one of those threads.
"""

import contextlib
import itertools
import math
import os
import re
import signal
import time
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from protocol.machine.marks import RANK_BITS, RUN_MARKS
from protocol.text.lazy_pattern import lazy_pattern

_QUEUES = lazy_pattern(rb"^Max msgqueue size +(\d+)", re.MULTILINE)
_LOCKS = lazy_pattern(rb"^Max file locks +(\d+)", re.MULTILINE)
_STATUS = lazy_pattern(
    rb"Name:\t(.*)\n(?:.*\n)*?State:\t(.).*\n(?:.*\n)*?PPid:\t(\d+)\n(?:.*\n)*?Threads:\t(\d+)\n"
)
_PENDING = lazy_pattern(rb"^S(?:ig|hd)Pnd:\t([0-9a-f]+)$", re.MULTILINE)
_RANK_MASK = (1 << RANK_BITS) - 1
_CONTAINER_MONITORS = ("conmon", "containerd-shim")
MONITOR_GRACE_S = 1.0
"""The time in which a container's monitor may end by itself: killed, it leaves Podman 4.3 in doubt for 5 s."""
_AGENT_WORDS = (b"-m", b"sflow_agent")
EXEC_WITHIN_S, EXEC_LOOK_S = 0.02, 0.0005
_PF_EXITING = 0x4


class ProcessStatus(NamedTuple):
    """The part of `/proc/PID/status` that we need. Source: proc_pid_status(5).

    Not of `/proc/PID/stat`: since Linux 6.18 at the latest, reading that waits while the process is in execve, and an
    execve waits for a file system that does not answer when it closes one of its files. Signals cannot end that wait.
    """

    name: str
    """The name of the command, at most 15 characters."""
    state: str
    parent: int
    threads: int

    @property
    def is_living(self) -> bool:
        """Return True unless it is a zombie: one with threads has only lost its main thread."""
        return self.state not in "ZX" or self.threads > 1


def read_status(pid: int) -> ProcessStatus | None:
    """Return the state of a process; None for one that is gone."""
    found = _STATUS.match(_file(f"/proc/{pid}/status"))
    if found is None:
        return None
    name, state, parent, threads = found.groups()
    return ProcessStatus(name.decode(errors="replace"), state.decode(), int(parent), int(threads))


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks after boot; None for one that is gone or in the middle of execve."""
    fields = _stat_fields(pid)
    return int(fields[19]) if fields else None


def is_same_process(pid: int, started: int) -> bool:
    """Return whether the process with this pid and start time exists and has not ended.

    In the middle of execve only its pid is compared.
    """
    return start_ticks(pid) in (started, None) and is_living(pid)


def is_in_exec(pid: int) -> bool:
    """Return whether a process is in the middle of execve, where files like `environ` may not be opened: see `ProcessStatus`.

    It has memory then, but no arguments yet.
    """
    return not _file(f"/proc/{pid}/cmdline") and b"\nVmSize:" in _file(f"/proc/{pid}/status")


def is_living(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    status = read_status(pid)
    return status is not None and status.is_living


def is_being_killed(pid: int) -> bool:
    """Return whether a process exits or has been killed; what it waits for in the kernel may keep it there for ever.

    Source: proc_pid_stat(5), proc_pid_status(5), PF_EXITING of linux/sched.h.
    """
    pending = _PENDING.findall(_file(f"/proc/{pid}/status"))
    if any(int(signals, 16) >> (signal.SIGKILL - 1) & 1 for signals in pending):
        return True
    fields = _stat_fields(pid)
    return bool(fields) and bool(int(fields[6]) & _PF_EXITING)


def parent_of(pid: int) -> int:
    """Return a process's parent; 0 for one that is gone."""
    status = read_status(pid)
    return 0 if status is None else status.parent


def session_of(pid: int) -> int:
    """Return the session of a process; 0 for one that is gone."""
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def oldest_first(pids: Collection[int]) -> list[int]:
    """Return processes in the order in which they started, no child before its parent; those in the middle of execve last."""
    if len(pids) < 2:
        return list(pids)
    return sorted(pids, key=lambda pid: (start_ticks(pid) or math.inf, pid))


def name_of(pid: int) -> str:
    """Return "pid command" for a person."""
    status = read_status(pid)
    return f"{pid} {status.name if status is not None and status.name else '?'}"


def all_processes() -> list[int]:
    """Return every process of the node."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208


def is_container_monitor(pid: int) -> bool:
    """Return whether a process watches a container for its engine: it ends with the container, and lets the engine know."""
    status = read_status(pid)
    return status is not None and status.name.startswith(_CONTAINER_MONITORS)


# ---------------------------------------------------------------------- parentage


def own_children(pid: int) -> list[int]:
    """Return the children of a process's main thread, zombies included: for a process whose other threads start none.

    Source: proc(5), `children`, which needs CONFIG_PROC_CHILDREN.
    """
    return _children_of_thread(pid, str(pid))


def children(pid: int) -> list[int]:
    """Return the children of a process, of all its threads."""
    return [child for thread in _threads(pid) for child in _children_of_thread(pid, thread)]


def descendants(pid: int) -> list[int]:
    """Return everything below a process, by parentage."""
    found: list[int] = []
    stack = [pid]
    while stack:
        for child in children(stack.pop()):
            found.append(child)
            stack.append(child)
    return found


def _children_of_thread(pid: int, thread: str) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:  # noqa: PTH123 - hot path
            return [int(child) for child in file.readall().split()]
    except OSError:
        return []


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - hot path
    except OSError:
        return []


# ---------------------------------------------------------------------- environment


def environment(pid: int) -> list[bytes]:
    """Return a process's initial environment; empty for one that is gone or unreadable."""
    return _content(pid, "environ").split(b"\0")


def command_line(pid: int) -> list[bytes]:
    """Return a process's arguments; empty for one that is gone."""
    return (_file(f"/proc/{pid}/cmdline") or _content(pid, "cmdline")).split(b"\0")


def settled_environment(pid: int) -> list[bytes]:
    """Return a process's initial environment, also in the middle of exec, when it has none for a moment."""
    deadline = time.monotonic() + EXEC_WITHIN_S
    while True:
        found = environment(pid)
        if any(found) or not is_living(pid) or time.monotonic() > deadline:
            return found
        time.sleep(EXEC_LOOK_S)


def queue_limit(pid: int) -> int | None:
    """Return a process's soft limit of message queues, the mark of its rank (`limits.mark_of`).

    None if unlimited or gone.
    """
    found = _QUEUES.search(_file(f"/proc/{pid}/limits"))
    return int(found[1]) if found is not None else None


def lock_limit(pid: int) -> int | None:
    """Return a process's soft limit of file locks, the mark of its job step (`limits.step_mark`); None if it has none."""
    found = _LOCKS.search(_file(f"/proc/{pid}/limits"))
    return int(found[1]) if found is not None else None


def step_processes(run_mark: int) -> dict[int, int]:
    """Return the mark of every living process of the node that belongs to a job step of the run."""
    return {
        pid: mark for pid, mark in _marked_by_limit() if mark >> RANK_BITS == run_mark and mark & _RANK_MASK
    }


def run_processes() -> dict[int, int]:
    """Return the run's mark of every living process of the node that has one: of agents, tasks and job steps."""
    return {pid: mark >> RANK_BITS for pid, mark in _marked_by_limit()}


def _marked_by_limit() -> Iterator[tuple[int, int]]:
    for pid in all_processes():
        mark = lock_limit(pid)
        if mark is not None and mark >> RANK_BITS in RUN_MARKS and is_living(pid):
            yield pid, mark


def below_agents(pids: Iterable[int]) -> set[int]:
    """Return those of these processes that are agents or guardians, or below a living one."""
    return {pid for pid in pids if _is_below_agent(pid)}


def is_agent(pid: int) -> bool:
    """Return whether a process is a living agent or guardian."""
    return any(pair == _AGENT_WORDS for pair in itertools.pairwise(command_line(pid))) and is_living(pid)


def _is_below_agent(pid: int) -> bool:
    while pid > 1:
        if is_agent(pid):
            return True
        pid = parent_of(pid)
    return False


def marked(variable: str, value: str) -> list[int]:
    """Return the processes of the node, but this one, that were started with a variable of this value."""
    wanted = f"{variable}={value}".encode()
    return [pid for pid in all_processes() if pid != os.getpid() and wanted in environment(pid)]


def _content(pid: int, name: str) -> bytes:
    for directory in _living_directories(pid):
        content = _file(f"{directory}/{name}")
        if content:
            return content
    return b""


def _stat_fields(pid: int) -> list[bytes]:
    """Return the fields of `/proc/PID/stat` from the state on; empty for a process that is gone or in the middle of execve."""
    return [] if is_in_exec(pid) else _file(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def _file(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - hot path
            return file.readall()
    except OSError:
        return b""


def _living_directories(pid: int) -> Iterator[str]:
    """Yield the process's directory, then those of its other threads if the main one has ended; none in the middle of execve."""
    if is_in_exec(pid):
        return
    yield f"/proc/{pid}"
    status = read_status(pid)
    if status is not None and status.state in "ZX" and status.is_living:
        yield from (f"/proc/{pid}/task/{thread}" for thread in _threads(pid) if thread != str(pid))


# ---------------------------------------------------------------------- sockets


def has_socket(pid: int, inodes: Collection[int]) -> bool:
    """Return whether a process has one of these sockets open, as far as it is readable."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for directory in _living_directories(pid):
        with contextlib.suppress(OSError), os.scandir(f"{directory}/fd") as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if os.readlink(entry.path) in wanted:  # noqa: PTH115
                        return True
    return False


def sockets_of(pid: int) -> set[int] | None:
    """Return the inodes of a process's sockets; None when they are unreadable."""
    found: set[int] = set()
    for directory in _living_directories(pid):
        try:
            with os.scandir(f"{directory}/fd") as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                        target = os.readlink(entry.path)  # noqa: PTH115
                        if target.startswith("socket:["):
                            found.add(int(target[8:-1]))
        except PermissionError:
            return None
        except OSError:  # it has ended
            continue
    return found


def users_of(pid: int) -> set[int]:
    """Return the real, effective and saved users of a process; empty for one that is gone. Source: proc(5), status."""
    for line in _file(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"Uid:"):
            return {int(word) for word in line.split()[1:]}
    return set()
