"""Recognises that this program was started several times at once, by `srun` with several tasks or by an MPI launcher. Pure."""

from collections.abc import Mapping

from msgspec import Struct

_MPI = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    ("PALS_RANKID", "PALS_SIZE"),
    ("FLUX_TASK_RANK", "FLUX_JOB_SIZE"),
)
"""Variables of Open MPI, MPICH and Intel MPI, MVAPICH, PALS and Flux."""


class StartedRank(Struct, frozen=True):
    """Which of several processes this one is."""

    rank: int
    size: int
    variable: str
    """Says how many there are; without it in the environment, a process counts as the only one."""
    is_mpi: bool


def started_rank(environ: Mapping[str, str]) -> StartedRank | None:
    """Return which of several processes of a job step, or of an MPI program, this one is; None for the only one.

    A batch script has SLURM_PROCID, too, but not the number of tasks of a step. In a heterogeneous step that number is
    the component's, while SLURM_PROCID counts through all of them. Source: srun(1), "Output environment variables".
    """
    count = _number(environ.get("SLURM_STEP_NUM_TASKS"))
    rank = _number(environ.get("SLURM_PROCID"))
    if count is not None and rank is not None and (count > 1 or rank > 0):
        return StartedRank(rank, max(count, rank + 1), "SLURM_STEP_NUM_TASKS", is_mpi=False)
    for rank_name, size_name in _MPI:
        rank, count = _number(environ.get(rank_name)), _number(environ.get(size_name))
        if rank is not None and count is not None and count > 1:
            return StartedRank(rank, count, size_name, is_mpi=True)
    return None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
