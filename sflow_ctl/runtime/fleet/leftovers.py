"""Ends what a run has left on this machine when an agent and its guardian are both gone: the last resort.

Processes are known by the run's marker in their environment. Those without it have come to the controller, which is the
subreaper of its agents, and bear the mark of a rank. `local.py` sweeps while the run is active, `run/controller.py` at its end.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection

from protocol.machine.loop_signals import QuietThread
from protocol.machine.marks import RANK_MARKS, RUN_MARKER
from protocol.machine.procfs import (
    MONITOR_GRACE_S,
    children,
    descendants,
    environment,
    is_container_monitor,
    is_living,
    marked,
    name_of,
    queue_limit,
    session_of,
)
from sflow_ctl.runtime.supervision.lifeline import lifeline

VERIFY_S = 5.0
AGENT_ENDS_WITHIN_S = 15.0
"""An agent that has lost its guardian ends its tasks itself: 2 s of grace, and the time to verify."""
LOOK_EVERY_S = 0.02


class OrphanSweep:
    """Ends, in a thread, what a guardian that was killed has left, once its agent has had the time to do so."""

    def __init__(self, node: int, guardian: int, spared: Collection[int], done: Callable[[], object]) -> None:
        """`guardian` is the pid of the dead one, `spared` are pids of living guardians, `done` is called in the thread."""
        self.node = node
        self.survivors: tuple[str, ...] | None = None
        """What could not be ended; None while that is not known."""
        self._guardian, self._spared, self._done = guardian, frozenset(spared), done
        self._thread = QuietThread(self._run, "sweep")
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the sweep."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        deadline = time.monotonic() + AGENT_ENDS_WITHIN_S
        while time.monotonic() < deadline and any(
            session_of(pid) == self._guardian and is_living(pid) for pid in _children()
        ):
            time.sleep(LOOK_EVERY_S)
        self.survivors = tuple(_end(lambda: _below(_orphans(self._spared))))
        self._done()


def sweep(marker: str) -> list[str]:
    """Kill what is left of a run; return "pid name" of what could not be ended within 5 s.

    SIGKILL at once: the agent and guardian that could have ended these in order are dead.
    """
    return _end(lambda: {*marked(RUN_MARKER, marker), *_below(_orphans(()))})


def _end(find: Callable[[], Collection[int]]) -> list[str]:
    started = time.monotonic()
    deadline = started + VERIFY_S
    while left := [pid for pid in find() if is_living(pid)]:
        is_early = time.monotonic() < started + MONITOR_GRACE_S
        for pid in left:
            if is_early and is_container_monitor(pid):
                continue
            with contextlib.suppress(
                ProcessLookupError, PermissionError
            ):  # the latter are reported as survivors
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return [name_of(pid) for pid in sorted(left)]
        time.sleep(LOOK_EVERY_S)
    return []


def _orphans(spared: Collection[int]) -> list[int]:
    """Return the children of this process that came from an agent: they bear its run's marker or a rank's mark.

    Those that have ended are reaped on the way.
    """
    own = queue_limit(os.getpid())
    session = os.getsid(0)
    found = []
    for pid in _children():
        if pid in spared or session_of(pid) == session:
            continue
        mark = queue_limit(pid)
        if (mark != own and mark in RANK_MARKS) or any(
            one.startswith(f"{RUN_MARKER}=".encode()) for one in environment(pid)
        ):
            if not is_living(pid):
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            else:
                found.append(pid)
    return found


def _children() -> list[int]:
    """Return the children of this process, and those that came from earlier controllers of the run to its supervisor."""
    line = lifeline()
    above = [] if line is None or line.death is None or not line.is_supervised else children(line.supervisor)
    return [*children(os.getpid()), *above]


def _below(roots: Collection[int]) -> list[int]:
    """Return these processes and all their descendants."""
    return [*roots, *(pid for root in roots for pid in descendants(root))]
