"""Slurm's own programs, where a batch script is made: what a job may ask for, and submitting it."""

import getpass
import re
import subprocess
from pathlib import Path

from protocol.errors import LaunchError

_ANSWER_WITHIN_S = 15.0
_SUBMIT_WITHIN_S = 120.0
"""A busy slurmctld keeps sbatch waiting, and a job submitted twice is worse than one that waited."""
_JOB_ID = re.compile(r"(\d+)(?:;.*)?$")


def default_partition() -> str | None:
    """The cluster's default partition, else its first, if Slurm answers."""
    names = _answer("sinfo", "--noheader", "--format=%P")
    return next((name[:-1] for name in names if name.endswith("*")), names[0] if names else None)


def default_account() -> str | None:
    """The first account of this user, if Slurm answers."""
    query = ("--noheader", "--parsable2", "show", "assoc", f"user={getpass.getuser()}", "format=account")
    accounts = _answer("sacctmgr", *query)
    return accounts[0] if accounts else None


def submit(script: Path) -> str:
    """Submits a batch script; the job's id. Raises: LaunchError with what sbatch says."""
    command = ["sbatch", "--parsable", str(script)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SUBMIT_WITHIN_S,
            check=False,
        )
    except OSError as error:
        raise LaunchError.of(
            "sbatch-not-found",
            f"sbatch cannot be started: {error.strerror}",
            str(script),
            "submit the script where Slurm is installed",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise LaunchError.of(
            "sbatch-failed",
            f"sbatch has not answered for {_SUBMIT_WITHIN_S:g} s",
            str(script),
            "the job may have been submitted all the same: look with squeue --me",
        ) from error
    lines = done.stdout.split()
    match = _JOB_ID.match(lines[-1]) if lines else None
    if done.returncode != 0 or match is None:
        said = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        raise LaunchError.of("sbatch-failed", f"sbatch refused the job: {said}", str(script))
    return match[1]


def _answer(*command: str) -> list[str]:
    """The words that a query prints; nothing when there is no Slurm, or it does not answer."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ANSWER_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.split() if done.returncode == 0 else []
