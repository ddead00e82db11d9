"""Ends the processes that a resumed run's earlier agents left on this node, before anything is started again."""

import contextlib
import os
import signal
import time
from collections.abc import Sequence

from protocol.machine.marks import RUN_MARKER
from protocol.machine.procfs import marked, name_of, step_processes
from sflow_agent.limits import run_mark

VERIFY_S = 5.0
LOOK_EVERY_S = 0.02


def end_predecessors(markers: Sequence[str]) -> list[str]:
    """Kill every process with a marker of the run's earlier agents, and their job steps; return what survives 5 s.

    SIGKILL at once: their agent may be cut off from any controller, and the same task is about to start here.
    """
    deadline = time.monotonic() + VERIFY_S
    while left := {pid for marker in markers for pid in _of_agents(marker)}:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return [name_of(pid) for pid in left]
        time.sleep(LOOK_EVERY_S)  # processes of others: there is nothing to wait on
    return []


def _of_agents(marker: str) -> list[int]:
    return [*marked(RUN_MARKER, marker), *step_processes(run_mark(marker))]
