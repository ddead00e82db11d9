"""Asks Slurm whether a job still exists. Used to judge whether a silent controller on another host is dead."""

import os
import subprocess
from enum import StrEnum

ASK_WITHIN_S = 10.0
_ENDED = (
    "CANCELLED",
    "COMPLETED",
    "BOOT_FAIL",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "TIMEOUT",
)


class JobState(StrEnum):
    """Slurm's answer about a job."""

    EXISTS = "exists"
    """Waiting, running, suspended, or about to end."""
    GONE = "gone"
    UNKNOWN = "unknown"
    """Slurm did not answer, which does not mean that the job has ended."""


def job_state(job_id: str) -> JobState:
    """Return whether a job exists. Source: squeue(1); an unknown job is an error there, "Invalid job id"."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}
    try:
        asked = subprocess.run(
            ["squeue", "--noheader", "--states=all", f"--jobs={job_id}", "--format=%T"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**environment, "LC_ALL": "C"},
            timeout=ASK_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return JobState.UNKNOWN
    if asked.returncode != 0:
        return JobState.GONE if b"Invalid job id" in asked.stderr else JobState.UNKNOWN
    states = asked.stdout.decode(errors="replace").split()
    return JobState.EXISTS if any(state not in _ENDED for state in states) else JobState.GONE
