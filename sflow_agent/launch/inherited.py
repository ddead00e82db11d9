"""What a rank inherits of the agent's environment."""

from protocol.machine.marks import RUN_MARKER

_SCRUBBED_PREFIXES = (
    "PMI_",
    "PMIX_",
    "OMPI_",
    "PRTE_",
    "MPI_LOCAL",
    "SLURM_STEP",
    "SLURM_CPU_BIND",
    "SRUN_",
    "SFLOW_AGENT_",
)
_SCRUBBED = frozenset(
    (
        "SLURM_PROCID",
        "SLURM_LOCALID",
        "SLURM_NODEID",
        "SLURM_NTASKS",
        "SLURM_NTASKS_PER_NODE",
        "SLURM_NPROCS",
        "SLURM_TASK_PID",
        "SLURM_GTIDS",
        "SLURM_LAUNCH_NODE_IPADDR",
        "SLURM_SRUN_COMM_HOST",
        "SLURM_SRUN_COMM_PORT",
        "SLURM_UMASK",
        "SLURM_DISTRIBUTION",
        "SLURM_TRES_PER_TASK",
        "SLURM_PTY_PORT",
        "SLURM_CPUS_PER_TASK",
    )
)


UNBUFFERED = ("PYTHONUNBUFFERED", "1")
"""Output goes to a pipe or file, where Python would buffer up to 8 KiB: a probe would not see a server's one line.

A value of the user's is kept.
"""


def task_environment(inherited: dict[str, str], marker: str) -> dict[str, str]:
    """Return the environment that every rank inherits: the agent's without variables of the agent or its job step."""
    environment = {
        name: value
        for name, value in inherited.items()
        if name not in _SCRUBBED and not name.startswith(_SCRUBBED_PREFIXES)
    }
    environment[RUN_MARKER] = marker
    environment.setdefault(*UNBUFFERED)
    return environment
