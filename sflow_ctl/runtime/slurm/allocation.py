"""The Slurm job that this process is in: its nodes, GPUs and end. Asks Slurm once, at the start."""

import contextlib
import math
import os
import re
import signal
import subprocess
import time
from collections.abc import Collection, Mapping

from msgspec import Struct

from protocol.errors import AllocationError
from protocol.machine.loop_signals import signals_for_children
from sflow_ctl.planner.context import JobNode
from sflow_ctl.planner.numbers import NumberError, as_seconds
from sflow_ctl.runtime.children import memory_file
from sflow_ctl.slurm.nodelist import NodeListError, expand_nodelist
from sflow_ctl.slurm.step_command import StepPart

ASK_WITHIN_S = 15.0
ASK_AGAIN_WITHIN_S = 3.0
"""Where another source has an answer."""
KILL_WAIT_WITHIN_S = 1.0
"""The limit for asking how long Slurm waits, once it waits."""
_NO_END = (
    "squeue does not show when the job's time ends, so the run cannot stop in order before that;"
    " set `timeout` of the workflow"
)


class Allocation(Struct, frozen=True, kw_only=True):
    """The resources of a job. `ends_at` is monotonic seconds, None for a job without a limit."""

    job_id: str
    """For a heterogeneous job its leader's, which identifies all of it."""
    components: tuple[tuple[str, ...], ...]
    """Node names, component by component; one component unless the job is heterogeneous."""
    gpus_on_node: str | None
    """None also where nodes differ: a step without the option uses the GPUs of the job."""
    ends_at: float | None
    restarts: int = 0
    warnings: tuple[str, ...] = ()
    """Facts that Slurm did not report, and the consequences."""

    @property
    def nodes(self) -> tuple[JobNode, ...]:
        """Return the nodes in the order of plans. Their addresses are not known yet."""
        is_het = len(self.components) > 1
        return tuple(
            JobNode(name, het_group=group if is_het else None)
            for group, names in enumerate(self.components)
            for name in names
        )

    def step_parts(self, names: Collection[str]) -> tuple[StepPart, ...]:
        """Return the parts of a step on these nodes."""
        is_het = len(self.components) > 1
        parts = []
        for group, nodes in enumerate(self.components):
            chosen = tuple(name for name in nodes if name in names)
            if chosen:
                nodelist = () if chosen == nodes else chosen
                parts.append(StepPart(len(chosen), group if is_het else None, nodelist))
        return tuple(parts)


def current_allocation(environ: Mapping[str, str]) -> Allocation | None:
    """Return the job that this process runs in, or None. Raises: AllocationError for inconsistent variables."""
    job_id = environ.get("SLURM_JOB_ID") or environ.get("SLURM_JOBID")
    components = _components(environ)
    if not job_id or not components:
        return None
    ends_at, warnings = _end(job_id, environ)
    return Allocation(
        job_id=job_id,
        components=components,
        gpus_on_node=(environ.get("SLURM_GPUS_ON_NODE") or None) if len(components) == 1 else None,
        ends_at=ends_at,
        restarts=int(environ.get("SLURM_RESTART_COUNT") or 0),
        warnings=warnings,
    )


def _components(environ: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """Return the components' nodes.

    SLURM_JOB_NODELIST has all nodes of a plain job, of a heterogeneous one at best those of its first
    component.

    Source: "Heterogeneous Job Support" of Slurm's documentation, "Environment Variables".
    """
    size = environ.get("SLURM_HET_SIZE", "")
    if not size.isdecimal() or _is_of_another_job(environ):
        nodelist = environ.get("SLURM_JOB_NODELIST") or environ.get("SLURM_NODELIST")
        return (_expanded(nodelist, "SLURM_JOB_NODELIST"),) if nodelist else ()
    names = [f"SLURM_JOB_NODELIST_HET_GROUP_{group}" for group in range(int(size))]
    missing = [name for name in names if not environ.get(name)]
    if missing:
        what = f"this heterogeneous job has {size} components, and {missing[0]} is not set"
        hint = "run in its batch script, or with --jobid"
        raise AllocationError.of("wrong-node-list", what, where=missing[0], hint=hint)
    return tuple(_expanded(environ[name], name) for name in names)


def _is_of_another_job(environ: Mapping[str, str]) -> bool:
    """Return whether the variables of components were inherited from the job in which this plain one was submitted.

    Source: sbatch(1), SLURM_JOB_ID_HET_GROUP_#; salloc of 22.05 sets only the lists of nodes.
    """
    ids = [value for name, value in environ.items() if name.startswith("SLURM_JOB_ID_HET_GROUP_")]
    if ids:
        own = environ.get("SLURM_JOB_ID") or environ.get("SLURM_JOBID")
        return own not in ids
    is_alone = not any(name.startswith("SLURM_JOB_NODELIST_HET_GROUP_") for name in environ)
    return is_alone and bool(environ.get("SLURM_JOB_NODELIST"))


def own_name(job_id: str, environ: Mapping[str, str]) -> str:
    """Return how to ask Slurm for this job alone: the id of an array's last element stands for all of its elements.

    Source: "Job Array Support" of Slurm's documentation, "Job ID and Environment Variables".
    """
    array, element = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    if array and element and environ.get("SLURM_JOB_ID") == job_id:
        return f"{array}_{element}"
    return job_id


def allocation_of(job_id: str) -> Allocation:
    """Return a running job, whether this process is in it or not. Raises: AllocationError."""
    rows = _queue_rows(job_id)
    if len(rows) > 1 and not all("+" in number for number, _, _ in rows):
        what = f"job {job_id} is an array, of which {len(rows)} elements are waiting or running"
        raise AllocationError.of("wrong-job", what, where="--jobid", hint=f"name one of them: {rows[0][0]}")
    leader, plus, _ = rows[0][0].partition("+")
    if plus and leader != job_id:  # the user named a component; a step is requested with the leader's id
        job_id = leader
        rows = _queue_rows(leader)
    for _, state, _ in rows:
        if state != "RUNNING":
            raise AllocationError.of(
                "job-not-running",
                f"job {job_id} is {state.lower() or 'unknown to Slurm, or Slurm did not answer'}",
                where="--jobid",
                hint="check with squeue --me",
            )
    ends_at, warnings = _end(job_id, {})
    return Allocation(
        job_id=job_id,
        components=tuple(_expanded(nodelist, "squeue") for _, _, nodelist in rows),
        gpus_on_node=None,
        ends_at=ends_at,
        warnings=warnings,
    )


def _queue_rows(job_id: str) -> list[tuple[str, str, str]]:
    """Return (id, state, nodes) of a job, or of each component in order: `7+0`, `7+1`; never empty."""
    answer = ask("squeue", "--noheader", f"--jobs={job_id}", "--format=%i|%T|%N")
    rows = []
    for line in answer.splitlines():
        number, state, nodelist = (*line.strip().split("|"), "", "")[:3]
        rows.append((number, state, nodelist))
    return sorted(rows, key=lambda row: int(row[0].partition("+")[2] or 0)) or [("", "", "")]


def _expanded(nodelist: str, where: str) -> tuple[str, ...]:
    try:
        return tuple(expand_nodelist(nodelist))
    except NodeListError as error:
        raise AllocationError.of(
            "wrong-node-list", f"{error}", where=where, hint="check that this shell is in a running job"
        ) from error


def ask_kill_wait_s(within_s: float | None = None) -> float | None:
    """Return the seconds between Slurm's SIGTERM and SIGKILL at a job's end; None if Slurm does not say.

    Source: slurm.conf(5), KillWait.
    """
    said = ask("scontrol", "show", "config", within_s=within_s)
    found = re.search(r"^KillWait\s*=\s*(\d+)", said, re.MULTILINE)
    return float(found[1]) if found is not None else None


def _end(job_id: str, environ: Mapping[str, str]) -> tuple[float | None, tuple[str, ...]]:
    """Return the monotonic end of the job's time, None without a limit, and warnings.

    The environment (23.02 and newer) has the end as it was when the job began, or another job's; it only counts where
    Slurm does not answer.
    """
    said = environ.get("SLURM_JOB_END_TIME", "")
    said_at = time.monotonic() + int(said) - time.time_ns() / 1e9 if said.isdecimal() else 0.0
    is_said = said_at > time.monotonic()
    ends_at = ask_job_end(own_name(job_id, environ), ASK_AGAIN_WITHIN_S if is_said else None)
    if ends_at is None:
        return said_at if is_said else None, () if is_said else (_NO_END,)
    return None if ends_at == math.inf else ends_at, ()


def ask_job_end(name: str, within_s: float | None = None) -> float | None:
    """Return when the job's time is over, in monotonic seconds; infinity without a limit, None when Slurm does not say.

    Of a heterogeneous job, the first component's end is the whole job's. Source: squeue(1), "%L"; a time that is over
    already (OverTimeLimit) is INVALID there.
    """
    now = time.monotonic()
    answer = ask("squeue", "--noheader", f"--jobs={name}", "--format=%L", within_s=within_s)
    ends = []
    for left in answer.split():
        if left in ("UNLIMITED", "INVALID"):
            ends.append(math.inf if left == "UNLIMITED" else now)
            continue
        with contextlib.suppress(NumberError):  # NOT_SET
            ends.append(now + as_seconds(left))
    return min(ends, default=None)


def _asking_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without a user's own filters, sorting and formats of Slurm's commands."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith(("SQUEUE_", "SCONTROL_", "SINFO_"))
    }
    return {**kept, "LC_ALL": "C"}


def ask(*argv: str, within_s: float | None = None) -> str:
    """Return the output of a Slurm command; an empty text on failure.

    Waits for `ASK_WITHIN_S` at most, or `within_s`.
    """
    try:
        descriptor = memory_file(argv[0])
    except OSError:  # no descriptors are left
        return ""
    with os.fdopen(descriptor, "rb") as printed:
        try:
            # A file and not a pipe: a process that a wrapper started may hold a pipe open for ever.
            with signals_for_children():
                asked = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=printed,
                    stderr=subprocess.DEVNULL,
                    env=_asking_environment(os.environ),
                    start_new_session=True,
                )
        except OSError:
            return ""
        try:
            asked.wait(ASK_WITHIN_S if within_s is None else within_s)
        except subprocess.TimeoutExpired:
            os.killpg(asked.pid, signal.SIGKILL)
            asked.wait()
            return ""
        printed.seek(0)
        return printed.read().decode(errors="replace")
