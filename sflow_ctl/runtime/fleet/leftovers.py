"""Ends what a run has left on this machine when an agent and its guardian are both gone: the last resort.

Processes are known by the run's marker in their environment. Those without it have come to the controller, which is the
subreaper of its agents, and bear the mark of a rank. `local.py` sweeps while the run is active, `run/controller.py` at its end.
"""

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

from protocol.text.lazy_pattern import lazy_pattern

MARKER = "SFLOW_RUN_MARKER"
VERIFY_S = 5.0
AGENT_ENDS_WITHIN_S = 15.0
"""An agent that has lost its guardian ends its tasks itself: 2 s of grace, and the time to verify."""
LOOK_EVERY_S = 0.02
MARKS = range(819_200 - (1 << 16), 819_200)
"""Soft limits of message queues that ranks bear and pass on (`sflow_agent/limits.py`); what a machine gives is none of them."""
_QUEUES = lazy_pattern(rb"^Max msgqueue size +(\d+)", re.MULTILINE)
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Have processes below this one come to it, not to init, when their parents die. Source: prctl(2)."""
    import ctypes  # after the agents have been started: they take longer than this

    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class OrphanSweep:
    """Ends, in a thread, what a guardian that was killed has left, once its agent has had the time to do so."""

    def __init__(self, node: int, guardian: int, spared: Collection[int], done: Callable[[], object]) -> None:
        """`guardian` is the pid of the dead one, `spared` are pids of living guardians, `done` is called in the thread."""
        self.node = node
        self.survivors: tuple[str, ...] | None = None
        """What could not be ended; None while that is not known."""
        self._guardian, self._spared, self._done = guardian, frozenset(spared), done
        self._thread = threading.Thread(target=self._run, name="sweep", daemon=True)
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the sweep."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # signals are the main thread's
        deadline = time.monotonic() + AGENT_ENDS_WITHIN_S
        while time.monotonic() < deadline and any(
            _session(pid) == self._guardian and _lives(pid) for pid in _own_children()
        ):
            time.sleep(LOOK_EVERY_S)
        self.survivors = tuple(_end(lambda: _below(_orphans(self._spared))))
        self._done()


def marked_processes(marker: str) -> list[int]:
    """Return the processes whose environment carries this run's marker. Those of other users are not seen."""
    wanted = f"{MARKER}={marker}".encode()
    return [pid for pid in _all_processes() if wanted in _environment(pid)]


def sweep(marker: str) -> list[str]:
    """Kill what is left of a run; return "pid name" of what could not be ended within 5 s.

    SIGKILL at once: the agent and guardian that could have ended these in order are dead.
    """
    return _end(lambda: {*marked_processes(marker), *_below(_orphans(()))})


def _end(find: Callable[[], Collection[int]]) -> list[str]:
    deadline = time.monotonic() + VERIFY_S
    while left := [pid for pid in find() if _lives(pid)]:
        for pid in left:
            with contextlib.suppress(
                ProcessLookupError, PermissionError
            ):  # the latter are reported as survivors
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return [f"{pid} {_name(pid)}" for pid in sorted(left)]
        time.sleep(LOOK_EVERY_S)
    return []


def _orphans(spared: Collection[int]) -> list[int]:
    """Return the children of this process that came from an agent: they bear its run's marker or a rank's mark.

    Those that have ended are reaped on the way.
    """
    own = _mark(os.getpid())
    session = os.getsid(0)
    found = []
    for pid in _own_children():
        if pid in spared or _session(pid) == session:
            continue
        mark = _mark(pid)
        if (mark != own and mark in MARKS) or any(
            one.startswith(f"{MARKER}=".encode()) for one in _environment(pid)
        ):
            if not _lives(pid):
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            else:
                found.append(pid)
    return found


def _below(roots: Collection[int]) -> list[int]:
    """Return these processes and all their descendants."""
    found = list(roots)
    for pid in found:
        found += _children(pid)
    return found


def _own_children() -> list[int]:
    return _children(os.getpid())


def _children(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with contextlib.suppress(OSError):
                found += [int(one) for one in Path(f"/proc/{pid}/task/{thread}/children").read_text().split()]
    return found


def _all_processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and int(name) != os.getpid()]  # noqa: PTH208


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _mark(pid: int) -> int | None:
    try:
        found = _QUEUES.search(Path(f"/proc/{pid}/limits").read_bytes())
    except OSError:
        return None
    return None if found is None else int(found[1])


def _stat(pid: int) -> list[str]:
    """Return the fields of `/proc/PID/stat` after the name; empty for a process that is gone. Source: proc(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _session(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[3]) if fields else 0


def _lives(pid: int) -> bool:
    fields = _stat(pid)
    return bool(fields) and (fields[0] not in "ZX" or int(fields[17]) > 1)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "?"
