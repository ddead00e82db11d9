"""The Slurm job that this process is in: its nodes, GPUs and end. Asks Slurm once, at the start."""

import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass

from protocol.errors import AllocationError
from sflow_ctl.core.nodelist import NodeListError, expand_nodelist
from sflow_ctl.core.step_command import slurm_version
from sflow_ctl.planner.numbers import NumberError, as_seconds

ASK_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """What a job has. `ends_at` is monotonic seconds, None for a job without a limit."""

    job_id: str
    nodes: tuple[str, ...]
    gpus_on_node: str | None
    version: tuple[int, int] | None
    ends_at: float | None
    restarts: int = 0


def current_allocation(environ: Mapping[str, str]) -> Allocation | None:
    """The job that this process runs in, or None. Raises: AllocationError for one that makes no sense."""
    job_id = environ.get("SLURM_JOB_ID") or environ.get("SLURM_JOBID")
    nodelist = environ.get("SLURM_JOB_NODELIST") or environ.get("SLURM_NODELIST")
    if not job_id or not nodelist:
        return None
    return Allocation(
        job_id=job_id,
        nodes=_expanded(nodelist, "SLURM_JOB_NODELIST"),
        gpus_on_node=environ.get("SLURM_GPUS_ON_NODE") or None,
        version=slurm_version(_ask("scontrol", "--version")),
        ends_at=_end_of(job_id, environ),
        restarts=int(environ.get("SLURM_RESTART_COUNT") or 0),
    )


def allocation_of(job_id: str) -> Allocation:
    """A job that runs already, this process in it or not. Raises: AllocationError."""
    answer = _ask("squeue", "--noheader", f"--jobs={job_id}", "--format=%T|%N|%L")
    state, _, rest = answer.strip().partition("|")
    nodelist, _, _ = rest.partition("|")
    if state != "RUNNING":
        what = f"job {job_id} is {state.lower() or 'unknown to Slurm, or Slurm did not answer'}"
        raise AllocationError.of("job-not-running", what, where="--jobid", hint="look with squeue --me")
    return Allocation(
        job_id=job_id,
        nodes=_expanded(nodelist, "squeue"),
        gpus_on_node=None,  # a step without the option sees what the job has
        version=slurm_version(_ask("scontrol", "--version")),
        ends_at=_end_of(job_id, {}),
    )


def _expanded(nodelist: str, where: str) -> tuple[str, ...]:
    try:
        return tuple(expand_nodelist(nodelist))
    except NodeListError as error:
        raise AllocationError.of(
            "wrong-node-list", f"{error}", where=where, hint="is this shell really in a job?"
        ) from error


def _end_of(job_id: str, environ: Mapping[str, str]) -> float | None:
    """From the environment where Slurm says it (23.02 and newer), else from squeue."""
    said = environ.get("SLURM_JOB_END_TIME", "")
    now = time.monotonic()
    if said.isdecimal():
        return now + int(said) - time.time_ns() / 1e9
    left = _ask("squeue", "--noheader", f"--jobs={job_id}", "--format=%L").strip()
    try:
        return now + as_seconds(left)
    except NumberError:
        return None  # UNLIMITED, or Slurm did not answer: the job's own end is the limit then


def _ask(*argv: str) -> str:
    """What a Slurm command prints; nothing when it cannot be asked. Never waits longer than its limit."""
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=ASK_WITHIN_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
