"""Ends the processes that carry a run's marker on this machine.

The last resort, when an agent and its guardian are both gone.
"""

import contextlib
import os
import signal
import time
from pathlib import Path

MARKER = "SFLOW_RUN_MARKER"
VERIFY_S = 5.0


def marked_processes(marker: str) -> list[int]:
    """Process ids whose environment carries this run's marker. Those of other users are not seen."""
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
    """Kills what is left of a run; returns "pid name" of what could not be ended within 5 s.

    SIGKILL at once: whoever could have ended these in order is dead.
    """
    deadline = time.monotonic() + VERIFY_S
    while left := marked_processes(marker):
        for pid in left:
            with contextlib.suppress(
                ProcessLookupError, PermissionError
            ):  # the latter are named as survivors
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
