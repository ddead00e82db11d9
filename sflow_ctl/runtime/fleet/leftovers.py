"""Ends all processes with a run's marker on this machine, for the case that an agent and its guardian are both gone."""

import contextlib
import os
import signal
import time
from pathlib import Path

MARKER = "SFLOW_RUN_MARKER"
VERIFY_S = 5.0


def marked_processes(marker: str) -> list[int]:
    """Return the ids of processes whose environment has this run's marker, except those of other users."""
    wanted = f"{MARKER}={marker}".encode()
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            environment = Path(entry.path, "environ").read_bytes()
        except OSError:
            continue
        if wanted in environment.split(b"\0"):
            found.append(int(entry.name))
    return found


def sweep(marker: str) -> list[str]:
    """Kill the remaining processes of a run; return "pid name" of those that did not end within 5 s.

    SIGKILL at once: the processes that could have ended these in order are gone.
    """
    deadline = time.monotonic() + VERIFY_S
    while left := marked_processes(marker):
        for pid in left:
            with contextlib.suppress(
                ProcessLookupError, PermissionError
            ):  # the latter are reported as survivors
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return [f"{pid} {_name(pid)}" for pid in left]
        time.sleep(0.01)
    return []


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "?"
