"""Asks Slurm for this user's jobs. Called by `ps`."""

import os
import shutil
import subprocess

from sflow_ctl.report.looking.run_list import JobEntry

ASK_WITHIN_S = 5.0
_FIELDS = ("%i", "%T", "%r", "%V", "%j")
"""Id, state, reason, time of submission, name: the name last, as it may contain anything. Source: squeue(1)."""


def user_jobs() -> tuple[list[JobEntry], str]:
    """Return this user's jobs, and why there is no answer; neither where there is no Slurm."""
    if shutil.which("squeue") is None:
        return [], ""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}
    command = ["squeue", "--noheader", "--me", f"--format={'|'.join(_FIELDS)}"]
    try:
        asked = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env={**environment, "LC_ALL": "C"},
            timeout=ASK_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return [], f"squeue has not answered for {ASK_WITHIN_S:g} s"
    except OSError as error:
        return [], f"squeue cannot be started: {error.strerror}"
    if asked.returncode != 0:
        lines = asked.stderr.strip().splitlines()
        return [], lines[-1] if lines else f"squeue failed with status {asked.returncode}"
    return [job for line in asked.stdout.splitlines() if (job := _job(line)) is not None], ""


def _job(line: str) -> JobEntry | None:
    parts = line.strip().split("|", len(_FIELDS) - 1)
    if len(parts) < len(_FIELDS):
        return None
    number, state, reason, submitted, name = parts
    reason = "" if reason == "None" else reason
    return JobEntry(job_id=number, name=name, state=state.lower(), reason=reason, submitted=submitted)
