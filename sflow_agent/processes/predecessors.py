"""Ends what agents that are gone have left on this node: processes and containers of a run.

Of a resumed run, before anything is started again (`agent.py`), and of an agent that was killed with its guardian (`sweep.py`).
"""

import contextlib
import os
import signal
import time
from collections.abc import Collection, Sequence

from protocol.machine.marks import RUN_MARKER
from protocol.machine.procfs import below_agents, marked, name_of, run_processes
from sflow_agent.limits import run_mark

VERIFY_S = 5.0
LOOK_EVERY_S = 0.02


def end_predecessors(
    markers: Sequence[str], *, has_containers: bool, spares_agents: bool = False
) -> list[str]:
    """Kill all with a marker of the run's earlier agents, also containers; return what survives 5 s.

    SIGKILL at once: their agent may be cut off from any controller, and the same task is about to start here.
    With `spares_agents` a living agent and what is below it are left to themselves, and not returned.
    """
    left = _end_processes(markers, spares_agents)
    if has_containers:
        from sflow_agent.processes.labelled import remove_containers  # few runs have them

        left += remove_containers(markers)
    return left


def _end_processes(markers: Sequence[str], spares_agents: bool) -> list[str]:
    deadline = time.monotonic() + VERIFY_S
    while left := _of_agents(markers, spares_agents):
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return [name_of(pid) for pid in left]
        time.sleep(LOOK_EVERY_S)  # processes of others: there is nothing to wait on
    return []


def _of_agents(markers: Sequence[str], spares_agents: bool) -> Collection[int]:
    marks = {run_mark(marker) for marker in markers}
    found = {pid for marker in markers for pid in marked(RUN_MARKER, marker)}
    found |= {pid for pid, mark in run_processes().items() if mark in marks and pid != os.getpid()}
    return found - below_agents(found) if spares_agents else found
