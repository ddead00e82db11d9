"""Finds what earlier or other runs of this user have on the node, for the doctor: processes and containers.

Processes are known by the run's marker in their environment; those that have wiped it by the mark that they inherit, also
those of job steps. Containers are known by their labels. Called by `report`.
"""

import os
from collections import defaultdict

from protocol.machine.marks import RUN_MARKER
from protocol.machine.procfs import (
    all_processes,
    below_agents,
    environment,
    is_agent,
    is_living,
    run_processes,
    users_of,
)
from protocol.messages.inspection import Leftover
from sflow_agent.limits import run_mark
from sflow_agent.processes.labelled import ENGINES, labelled_containers


def left_processes(own_marker: str) -> tuple[Leftover, ...]:
    """Return living processes of other runs; `own_marker` is this run's."""
    marks = {pid: mark for pid, mark in run_processes().items() if mark != run_mark(own_marker)}
    live = {mark for pid, mark in marks.items() if is_agent(pid)}
    named = _by_environment()
    named.pop(own_marker, None)
    name_of_mark = {run_mark(run): run for run in named}
    unnamed: dict[int, set[int]] = defaultdict(set)
    for pid, mark in marks.items():
        if os.getuid() in (0, *users_of(pid)) and not is_agent(pid):
            run = name_of_mark.get(mark)
            (unnamed[mark] if run is None else named[run]).add(pid)
    found = [(run, run_mark(run), pids) for run, pids in sorted(named.items())]
    found += [("", mark, pids) for mark, pids in sorted(unnamed.items())]
    return tuple(
        Leftover(run=run, pids=tuple(sorted(pids)), has_agent=mark in live or bool(below_agents(pids)))
        for run, mark, pids in found
    )


def _by_environment() -> dict[str, set[int]]:
    """Return the living processes of each run whose marker their environment has; those of others are unreadable."""
    wanted = f"{RUN_MARKER}=".encode()
    found: dict[str, set[int]] = defaultdict(set)
    for pid in all_processes():
        for variable in environment(pid):
            if variable.startswith(wanted) and is_living(pid):
                found[variable[len(wanted) :].decode(errors="replace")].add(pid)
    return found


def left_containers(engine: str, own_marker: str) -> tuple[Leftover, ...]:
    """Return the containers of other runs. Raises: OSError if the engine does not answer."""
    if engine not in ENGINES:
        return ()
    found: dict[str, list[str]] = defaultdict(list)
    for marker, name in labelled_containers((engine,)):
        if marker != own_marker:
            found[marker].append(f"{engine} {name}")
    live = {mark for pid, mark in run_processes().items() if is_agent(pid)} if found else set()
    return tuple(
        Leftover(run=run, pids=(), containers=tuple(names), has_agent=run_mark(run) in live)
        for run, names in sorted(found.items())
    )
