"""Ends what agents that are gone have left on this node: processes and containers of a run.

Of a resumed run, before anything is started again (`agent.py`). As a program with a run's marker as its argument
(`python -m sflow_agent.processes.predecessors`), of an agent that was killed with its guardian: the controller starts it
on a lost node, in a job step of its own. Exit status 0: nothing of the run is left; 1: what is printed is left; 3: an
agent is alive, which ends its tasks itself.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Collection, Sequence

from protocol.machine.marks import RUN_MARKER
from protocol.machine.procfs import (
    MONITOR_GRACE_S,
    below_agents,
    is_container_monitor,
    marked,
    name_of,
    run_processes,
)
from sflow_agent.limits import run_mark

VERIFY_S = 5.0
LOOK_EVERY_S = 0.02
EXIT_CLEAR, EXIT_LEFT, EXIT_AGENT = 0, 1, 3


def end_predecessors(
    markers: Sequence[str],
    *,
    has_containers: bool,
    spares_agents: bool = False,
    docker_host: str | None = None,
    context: str | None = None,
) -> list[str]:
    """Kill all with a marker of the run's earlier agents, also containers; return what survives 5 s.

    SIGKILL at once: their agent may be cut off from any controller, and the same task is about to start here.
    With `spares_agents` a living agent and what is below it are left to themselves, and not returned. `docker_host` or
    `context` names the service of the containers, if that is another machine's.
    """
    if not has_containers:
        return _end_processes(markers, spares_agents)
    from sflow_agent.processes.labelled import remove_containers  # few runs have them

    # Before their processes: Podman cannot remove a container at once whose monitor was killed. And after them: a client
    # that was about to start one is gone then.
    remove_containers(markers, docker_host, context)
    return [*_end_processes(markers, spares_agents), *remove_containers(markers, docker_host, context)]


def _end_processes(markers: Sequence[str], spares_agents: bool) -> list[str]:
    started = time.monotonic()
    deadline = started + VERIFY_S
    while left := _of_agents(markers, spares_agents):
        is_early = time.monotonic() < started + MONITOR_GRACE_S
        for pid in left:
            if is_early and is_container_monitor(pid):
                continue
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


def main(marker: str) -> int:
    """End what the run with this marker has left; return the exit status."""
    left = end_predecessors([marker], has_containers=True, spares_agents=True)
    for one in left:
        sys.stdout.write(f"{one}\n")
    if left:
        return EXIT_LEFT
    return EXIT_AGENT if run_mark(marker) in run_processes().values() else EXIT_CLEAR


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
