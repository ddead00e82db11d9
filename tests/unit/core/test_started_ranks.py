"""One of several processes, by the variables of Slurm and of MPI launchers: public 16."""

from collections.abc import Mapping

import pytest

from sflow_ctl.slurm.ranks import StartedRank, started_rank

STEP = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2"}
SLURM_RANK = StartedRank(2, 4, "SLURM_STEP_NUM_TASKS", is_mpi=False)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"},  # a batch script
        {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},  # srun -n1
        {"SLURM_STEP_NUM_TASKS": "4"},
        {"PMI_RANK": "0", "PMI_SIZE": "1"},
        {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"},
        {"PMI_RANK": "x", "PMI_SIZE": "4"},
        {"RANK": "3", "WORLD_SIZE": "4"},
    ],
)
def test_public_16_a_process_alone(environ: Mapping[str, str]) -> None:
    assert started_rank(environ) is None


def test_public_16_a_process_of_a_step() -> None:
    assert started_rank(STEP) == SLURM_RANK
    assert started_rank({**STEP, "PMI_RANK": "2", "PMI_SIZE": "4"}) == SLURM_RANK  # srun --mpi=pmi2
    first = started_rank({**STEP, "SLURM_PROCID": "0"})
    assert first is not None
    assert first.rank == 0


def test_public_16_a_process_of_a_heterogeneous_step() -> None:
    """Two components of one task each."""
    second = started_rank({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "1"})
    assert second == StartedRank(1, 2, "SLURM_STEP_NUM_TASKS", is_mpi=False)


@pytest.mark.parametrize(
    ("rank", "size"),
    [
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        ("PMI_RANK", "PMI_SIZE"),
        ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
        ("PALS_RANKID", "PALS_SIZE"),
        ("FLUX_TASK_RANK", "FLUX_JOB_SIZE"),
    ],
)
def test_public_16_a_rank_of_an_mpi_program(rank: str, size: str) -> None:
    in_step_of_one = {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}
    assert started_rank({**in_step_of_one, rank: "1", size: "2"}) == StartedRank(1, 2, size, is_mpi=True)
