"""What an earlier controller of a resumed run has left on this node: ended before anything is started again."""

import contextlib
import os
import signal
import time

from sflow_agent.processes.tree import RUN_MARKER, environment

VERIFY_S = 5.0
LOOK_EVERY_S = 0.02


def end_predecessors(marker: str) -> list[str]:
    """Kills whatever carries the marker of the run's earlier agents, which will see it and go; returns the pids of
    what could not be ended within 5 s.

    SIGKILL at once: its agent may be cut off from any controller, and the same task is about to start here.
    """
    deadline = time.monotonic() + VERIFY_S
    while left := _marked(marker):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return [str(pid) for pid in left]
        time.sleep(LOOK_EVERY_S)  # processes of others: there is nothing to wait on
    return []


def _marked(marker: str) -> list[int]:
    wanted = f"{RUN_MARKER}={marker}".encode()
    pids = (int(name) for name in os.listdir("/proc") if name.isdecimal())  # noqa: PTH208
    return [pid for pid in pids if pid != os.getpid() and wanted in environment(pid)]
