"""The one `srun` of a run: its arguments and its environment, independent of the job's settings. Pure."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from protocol.text.lazy_pattern import lazy_pattern

_VERSION = lazy_pattern(r"(\d+)\.(\d+)")
_INPUT_VARIABLES = lazy_pattern(
    r"SRUN_|SLURM_(?:NTASKS|NPROCS|NNODES|TASKS_PER_NODE|GPU|GRES|TRES|MEM_|CPUS?_|CPUS_PER|CORE|THREADS|HINT|DIST"
    r"|EXCLUSIVE|EXPORT_ENV|KILL_BAD_EXIT|NO_KILL|OVER|STEP|STD|TIMELIMIT|UNBUF|WAIT|MPI|NETWORK|OPEN_MODE|PROCID"
    r"|LOCALID|NODEID|TASK_PID|ACCEL|NTASKS_PER|DEPENDENCY|RESERVATION|EXPORT|LABELIO|DEBUG|SRUN_|WCKEY|DELAY_BOOT"
    r"|BCAST|COMPRESS|CONSTRAINT|DISABLE_STATUS|EPILOG|PROLOG|POWER|PROFILE|QOS|REMOTE|REQ_SWITCH|SIGNAL|TASK_EPILOG"
    r"|TASK_PROLOG|THREAD_SPEC|CPU_BIND|MPI_TYPE|USE_MIN|WHOLE|PACK|HET_GROUP|UMASK|PTY|EXACT|IMMEDIATE|EXIT_|RESV_PORTS"
    r"|HOSTFILE|SPREAD_JOB|TEST_EXEC|WORKING_DIR|SEND_LIBS|BURST_BUFFER|ACCTG_FREQ)"
)
_OF_CLUSTER = frozenset(("SLURM_CONF", "SLURM_JWT", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT"))
"""Variables of Slurm that say where it is, not which job this is."""
_KEPT = frozenset(("SLURM_CPUS_ON_NODE", "SLURM_GPUS_ON_NODE", "SLURM_JOB_GPUS", "SLURM_JOB_CPUS_PER_NODE"))


class StepPart(Struct, frozen=True):
    """The step's nodes in one component of a heterogeneous job, or in the whole of a plain one."""

    nodes: int
    het_group: int | None = None
    nodelist: tuple[str, ...] = ()
    """The nodes of the component; empty for all of them."""


def slurm_version(text: str) -> tuple[int, int] | None:
    """Return (23, 11) for "slurm 23.11.4"; None for a text without a version."""
    match = _VERSION.search(text)
    return None if match is None else (int(match[1]), int(match[2]))


def step_argv(
    agent: tuple[str, ...],
    *,
    job_id: str,
    parts: Sequence[StepPart],
    gpus_on_node: str | None,
    no_kill: bool = False,
    passes_input: bool = False,
    extra: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Return the command for one agent per node of the job, beside other steps of the job.

    Always `--key=value`. A heterogeneous job's components are parts of one step, with a colon between them;
    the options of each are its own. `gpus_on_node` is the job's SLURM_GPUS_ON_NODE, None where it has no GPUs
    or not the same everywhere. With `passes_input` the agent has srun's standard input.

    Source: srun(1); the reason for each option: docs/decisions/slurm.md, "The one
    srun".
    """
    argv = ["srun"]
    for number, part in enumerate(parts):
        argv += [":"] if number else []
        argv += [*_part_flags(part, job_id, gpus_on_node, no_kill, passes_input), *extra, *agent]
    return tuple(argv)


def _part_flags(
    part: StepPart, job_id: str, gpus_on_node: str | None, no_kill: bool, passes_input: bool
) -> list[str]:
    """Return the options of one part. `--external-launcher` (23.11) is not one: it makes `--no-kill` void."""
    flags = [
        f"--jobid={job_id}",
        f"--nodes={part.nodes}",
        f"--ntasks={part.nodes}",
        "--ntasks-per-node=1",
        "--overlap",
        "--mem=0",
        "--cpu-bind=none",
        "--mpi=none",
        "--distribution=block",
        "--export=ALL",
        "--kill-on-bad-exit=0",
        "--wait=0",
        f"--input={'all' if passes_input else 'none'}",
        "--unbuffered",
        "--job-name=sflow-agent",
    ]
    if part.het_group is not None:
        flags.append(f"--het-group={part.het_group}")
    if part.nodelist:
        flags.append(f"--nodelist={','.join(part.nodelist)}")
    if gpus_on_node:
        flags.append(f"--gres=gpu:{gpus_on_node}")
    if no_kill:
        flags.append("--no-kill")
    return flags


def outside_of_job(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without variables of the job that this process is in: another job has its own."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(("SLURM_", "SLURMD_")) or name in _OF_CLUSTER
    }


def step_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without variables that srun reads as options."""
    return {
        name: value for name, value in environ.items() if name in _KEPT or not _INPUT_VARIABLES.match(name)
    }
