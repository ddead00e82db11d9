"""Slurm's programs for making and submitting batch scripts: default partition and account, sbatch."""

import getpass
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from protocol.errors import LaunchError
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.batch.memory import MEMORY_VARIABLES, asks_for_memory

_ANSWER_WITHIN_S = 15.0
_SUBMIT_WITHIN_S = 120.0
"""A busy slurmctld keeps sbatch waiting, and a job submitted twice is worse than one that waited."""
_CLIENT_VARIABLES = frozenset(("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT"))
"""How Slurm's programs find their cluster: not facts of a job."""
_VERSION = lazy_pattern(r"(\d+)\.(\d+)")
_JOB_ID = lazy_pattern(r"(\d+)(?:;.*)?$")


def default_partition() -> str | None:
    """Return the cluster's default partition, else its first, if Slurm answers."""
    names = _answer("sinfo", "--noheader", "--format=%P")
    return next((name[:-1] for name in names if name.endswith("*")), names[0] if names else None)


def default_account() -> str | None:
    """Return the first account of this user, if Slurm answers."""
    query = ("--noheader", "--parsable2", "show", "assoc", f"user={getpass.getuser()}", "format=account")
    accounts = _answer("sacctmgr", *query)
    return accounts[0] if accounts else None


def submit(script: Path, more: Sequence[str] = ()) -> str:
    """Submit a batch script, with `more` options that win over its own; return the job's id.

    Raises: LaunchError with the message of sbatch.
    """
    options = [*_directives(script), *more]
    command = ["sbatch", "--parsable", *options, str(script)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=submit_environment(os.environ, has_memory=any(map(asks_for_memory, options))),
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
            "the job may have been submitted nevertheless: check with squeue --me",
        ) from error
    lines = done.stdout.split()
    match = _JOB_ID.match(lines[-1]) if lines else None
    if done.returncode != 0 or match is None:
        said = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        raise LaunchError.of("sbatch-failed", f"sbatch refused the job: {said}", str(script))
    return match[1]


def submit_environment(environ: Mapping[str, str], *, has_memory: bool) -> dict[str, str]:
    """Return the environment without another job's facts, which the new job would take for its own.

    A job's `SLURM_...` variables are passed on by sbatch, and 22.05 keeps those it does not set itself. `SBATCH_...`
    variables stay as a user's defaults: options of the script are repeated on the command line, which wins over them.
    Those for memory would be a second way to ask for it, which Slurm refuses, where the script `has_memory`.
    Source: sbatch(1), Input Environment Variables.
    """
    return {
        name: value
        for name, value in environ.items()
        if name in _CLIENT_VARIABLES
        or not (name.startswith(("SLURM_", "SLURMD_")) or (has_memory and name in MEMORY_VARIABLES))
    }


def requeue_word() -> str:
    """Return the best way that Slurm's sbatch here can requeue a job: `expedite` since Slurm 25.11, else `requeue`.

    Source: release notes of Slurm 25.11, expedited requeue.
    """
    match = _VERSION.search(" ".join(_answer("sbatch", "--version")))
    return "expedite" if match is not None and (int(match[1]), int(match[2])) >= (25, 11) else "requeue"


def _directives(script: Path) -> list[str]:
    """Return the options of a script's `#SBATCH` lines, as sbatch splits them. Source: get_argument of its src/sbatch/opt.c."""
    found: list[str] = []
    for line in script.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        if line.startswith("#SBATCH "):
            reader = shlex.shlex(line.removeprefix("#SBATCH "), posix=True)
            reader.whitespace_split = True
            reader.escapedquotes = "\"'"
            found += reader
        elif line.strip() and not line.startswith("#"):
            break  # sbatch reads no further either
    return found


def _answer(*command: str) -> list[str]:
    """Return the words that a query prints; empty if there is no Slurm, or it does not answer."""
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
